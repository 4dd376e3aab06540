/*
 * The room's page: goes from room to room without leaving it.
 *
 * Owns which room is open and the address that says so, and the parts that outlive a visit: the dialogs and the keys.
 */

import { byId, setText } from "./dom.js";
import { Jump } from "./jump.js";
import { Keys } from "./keys.js";
import { Looks } from "./looks.js";
import { Naming } from "./naming.js";
import { linkTo, Sharing } from "./sharing.js";
import { Switcher } from "./switcher.js";
import { Visit } from "./visit.js";
import { speak } from "./words.js";

speak(document.documentElement.lang, JSON.parse(byId("words").textContent));

let { room } = document.body.dataset;
let visit = null;

const naming = new Naming();
const sharing = new Sharing();
const jump = new Jump({ onDay: (at) => visit.goToMoment(at) });
const switcher = new Switcher({ current: () => room, open: (name) => go(name) });
const keys = new Keys([
  { keys: "Enter", what: "keys.send" },
  { keys: "Shift+Enter", what: "keys.new_line" },
  { keys: "/", what: "keys.write", act: () => visit.write() },
  { keys: "ArrowUp", what: "keys.previous_message" },
  { keys: "ArrowDown", what: "keys.next_message" },
  { keys: "R", what: "keys.reply" },
  { keys: "C", what: "keys.copy" },
  { keys: "L", what: "keys.link" },
  { keys: "Escape", what: "keys.leave" },
  { keys: "Alt+End", what: "keys.newest", act: () => visit.toNewest() },
  { keys: "Alt+G", what: "keys.date", act: () => jump.show() },
  { keys: "Alt+P", what: "keys.people", act: () => visit.togglePeople() },
  { keys: "Mod+K", what: "keys.rooms", act: () => switcher.show() },
  { keys: "Alt+ArrowUp", what: "keys.previous_room", act: () => goBeside(-1) },
  { keys: "Alt+ArrowDown", what: "keys.next_room", act: () => goBeside(1) },
]);
new Looks({ onDate: () => jump.show(), onKeys: () => keys.show() });

// From room to room

/** Goes to another room, or to a message (`target`: its seq) in this one; the way back leads here. */
function go(name, target = null) {
  history.pushState(null, "", linkTo(name, target ?? undefined));
  enter(name, target);
}

function goBeside(step) {
  const name = switcher.neighbour(step);
  if (name !== null) go(name);
}

function enter(name, target) {
  if (visit && name === room) {
    if (target !== null) visit.goTo(target);
    return;
  }
  const isAnother = visit !== null;
  visit?.leave();
  room = name;
  showName();
  visit = new Visit({ room, target, naming });
  if (isAnother) visit.announceRoom();
}

function showName() {
  const heading = byId("room-name");
  heading.title = room;
  setText(heading.firstElementChild, room);
}

/** The room and the message that an address of this page names; null for any other address. */
function placeAt(address) {
  const url = new URL(address, location);
  if (url.origin !== location.origin || url.pathname !== "/") return null;
  const seq = /^#([1-9]\d{0,15})$/.exec(url.hash)?.[1];
  return { name: url.searchParams.get("room") ?? "default", target: seq ? Number(seq) : null };
}

function onAddress() {
  const { name, target } = placeAt(location);
  enter(name, target);
}

/** A link to a room that somebody wrote is gone to without a reload. */
function onLink(event) {
  const link = event.target.closest("a[href]");
  const place = link && placeAt(link.href);
  if (!place || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(place.name, place.target);
}

// Beginning

byId("rooms-toggle").addEventListener("click", () => switcher.show());
byId("share").addEventListener("click", () => sharing.open(room));
byId("me").addEventListener("click", () => visit.changeName());
byId("rows").addEventListener("click", onLink);
window.addEventListener("popstate", onAddress);

naming.known().then(() => enter(room, placeAt(location).target));
