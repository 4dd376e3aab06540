/*
 * The dialogs of the room's page and the keys that open them: fetched once a room is open, as nobody needs them before.
 */

import { Jump } from "./jump.js";
import { Keys } from "./keys.js";
import { Looks } from "./looks.js";
import { Sharing } from "./sharing.js";
import { Switcher } from "./switcher.js";

let moderation = null; // fetched when somebody has a role for the first time
let attempts = 0;

/**
 * `page` knows the `room` that is open, the `visit` in it, and the way to another (`go(room)`). Returns what the page's
 * buttons open.
 */
export function dialogsOf(page) {
  const sharing = new Sharing(page);
  const jump = new Jump({ onDay: (at) => page.visit.goToMoment(at) });
  const switcher = new Switcher({ current: () => page.room, open: (name) => page.go(name) });
  const keys = new Keys(shortcuts(page, { jump, switcher }));
  new Looks({ onDate: () => jump.show(), onKeys: () => keys.show() });
  page.onVisit = () => watchOrder(page);
  page.onVisit();
  return { sharing, switcher };
}

function watchOrder(page) {
  page.visit.order.onChange(() => moderate(page));
  moderate(page);
}

/** Whoever keeps order here has what he needs for it; a server that is away is asked anew at the next change. */
async function moderate(page) {
  if (!moderation && page.visit.order.rank === 0) return;
  moderation ??= fetchModeration(page);
  (await moderation)?.follow();
}

async function fetchModeration(page) {
  try {
    const { Moderation } = await import(attempts ? `./moderation.js?${attempts}` : "./moderation.js");
    return new Moderation(page);
  } catch {
    attempts += 1;
    moderation = null;
    return null;
  }
}

function shortcuts(page, { jump, switcher }) {
  const goBeside = (step) => {
    const name = switcher.neighbour(step);
    if (name !== null) page.go(name);
  };
  const isKeeper = () => page.visit.order.rank > 0;
  return [
    { keys: "Enter", what: "keys.send" },
    { keys: "Shift+Enter", what: "keys.new_line" },
    { keys: "ArrowUp", what: "keys.edit_newest" },
    { keys: "/", what: "keys.write", act: () => page.visit.write() },
    { keys: "ArrowUp", what: "keys.previous_message" },
    { keys: "ArrowDown", what: "keys.next_message" },
    { keys: "R", what: "keys.reply" },
    { keys: "C", what: "keys.copy" },
    { keys: "L", what: "keys.link" },
    { keys: "+", what: "keys.react" },
    { keys: "E", what: "keys.edit" },
    { keys: "Delete", what: "keys.delete" },
    { keys: "Escape", what: "keys.leave" },
    { keys: "Alt+End", what: "keys.newest", act: () => page.visit.toNewest() },
    { keys: "Alt+G", what: "keys.date", act: () => jump.show() },
    { keys: "Alt+P", what: "keys.people", act: () => page.visit.togglePeople() },
    { keys: "Mod+K", what: "keys.rooms", act: () => switcher.show() },
    { keys: "Alt+ArrowUp", what: "keys.previous_room", act: () => goBeside(-1) },
    { keys: "Alt+ArrowDown", what: "keys.next_room", act: () => goBeside(1) },
    { keys: "P", what: "keys.person", isFor: isKeeper },
    { keys: "Alt+O", what: "keys.order", act: () => page.visit.keeper?.openMenu(), isFor: isKeeper },
    { keys: "Alt+Z", what: "keys.undo", act: () => page.visit.keeper?.undo(), isFor: isKeeper },
  ];
}
