/*
 * The dialogs of the room's page and the keys that open them: fetched once a room is open, as nobody needs them before.
 */

import { Jump } from "./jump.js";
import { Keys } from "./keys.js";
import { Looks } from "./looks.js";
import { Sharing } from "./sharing.js";
import { Switcher } from "./switcher.js";

/**
 * `page` knows the `room` that is open, the `visit` in it, and the way to another (`go(room)`). Returns what the page's
 * buttons open.
 */
export function dialogsOf(page) {
  const sharing = new Sharing();
  const jump = new Jump({ onDay: (at) => page.visit.goToMoment(at) });
  const switcher = new Switcher({ current: () => page.room, open: (name) => page.go(name) });
  const keys = new Keys(shortcuts(page, { jump, switcher }));
  new Looks({ onDate: () => jump.show(), onKeys: () => keys.show() });
  return { sharing, switcher };
}

function shortcuts(page, { jump, switcher }) {
  const goBeside = (step) => {
    const name = switcher.neighbour(step);
    if (name !== null) page.go(name);
  };
  return [
    { keys: "Enter", what: "keys.send" },
    { keys: "Shift+Enter", what: "keys.new_line" },
    { keys: "/", what: "keys.write", act: () => page.visit.write() },
    { keys: "ArrowUp", what: "keys.previous_message" },
    { keys: "ArrowDown", what: "keys.next_message" },
    { keys: "R", what: "keys.reply" },
    { keys: "C", what: "keys.copy" },
    { keys: "L", what: "keys.link" },
    { keys: "Escape", what: "keys.leave" },
    { keys: "Alt+End", what: "keys.newest", act: () => page.visit.toNewest() },
    { keys: "Alt+G", what: "keys.date", act: () => jump.show() },
    { keys: "Alt+P", what: "keys.people", act: () => page.visit.togglePeople() },
    { keys: "Mod+K", what: "keys.rooms", act: () => switcher.show() },
    { keys: "Alt+ArrowUp", what: "keys.previous_room", act: () => goBeside(-1) },
    { keys: "Alt+ArrowDown", what: "keys.next_room", act: () => goBeside(1) },
  ];
}
