/*
 * The room's page: goes from room to room without leaving it.
 *
 * Owns which room is open and the address that says so. What nobody needs before a room is open is fetched after it.
 */

import { byId, setText } from "./dom.js";
import { linkTo } from "./links.js";
import { Naming } from "./naming.js";
import { Visit } from "./visit.js";
import { speak } from "./words.js";

speak(document.documentElement.lang, JSON.parse(byId("words").textContent));

const naming = new Naming();
const page = { room: document.body.dataset.room, visit: null, go };

// From room to room

/** Goes to another room, or to a message (`target`: its seq) in this one; the way back leads here. */
function go(room, target = null) {
  history.pushState(null, "", linkTo(room, target ?? undefined));
  enter(room, target);
}

function enter(room, target) {
  if (page.visit && room === page.room) {
    if (target !== null) page.visit.goTo(target);
    return;
  }
  const isAnother = page.visit !== null;
  page.visit?.leave();
  page.room = room;
  showName(room);
  page.visit = new Visit({ room, target, naming });
  if (isAnother) page.visit.announceRoom();
}

function showName(room) {
  const heading = byId("room-name");
  heading.title = room;
  setText(heading.firstElementChild, room);
}

/** The room and the message that an address of this page names; null for any other address. */
function placeAt(address) {
  const url = new URL(address, location);
  if (url.origin !== location.origin || url.pathname !== "/") return null;
  const seq = /^#([1-9]\d{0,15})$/.exec(url.hash)?.[1];
  return { room: url.searchParams.get("room") ?? "default", target: seq ? Number(seq) : null };
}

function onAddress() {
  const { room, target } = placeAt(location);
  if (page.visit) enter(room, target);
}

/** A link to a room that somebody wrote is gone to without a reload. */
function onLink(event) {
  const link = event.target.closest("a[href]");
  const place = link && placeAt(link.href);
  if (!place || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(place.room, place.target);
}

// Beginning

byId("rows").addEventListener("click", onLink);
window.addEventListener("popstate", onAddress);

await naming.known();
enter(page.room, placeAt(location).target);
byId("me").addEventListener("click", () => page.visit.changeName());

const { dialogsOf } = await import("./dialogs.js");
const { sharing, switcher } = dialogsOf(page);
byId("rooms-toggle").addEventListener("click", () => switcher.show());
byId("share").addEventListener("click", () => sharing.open(page.room));
