/*
 * The room's page: goes from room to room without leaving it.
 *
 * Owns which room is open and the address that says so. What nobody needs before a room is open is fetched after it.
 */

import { byId, setText } from "./dom.js";
import { linkTo, placeAt, targetOf } from "./links.js";
import { Naming } from "./naming.js";
import { isClosed, shownName } from "./roomname.js";
import { Visit } from "./visit.js";
import { speak } from "./words.js";

const DIALOGS_RETRY_MS = 3000;

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
  for (const dialog of document.querySelectorAll("dialog:modal")) dialog.close(); // each speaks of the room it was opened in
  page.visit?.leave();
  page.room = room;
  showName(room);
  page.visit = new Visit({ room, target, naming });
  page.onVisit?.();
  if (isAnother) page.visit.announceRoom();
}

function showName(room) {
  const heading = byId("room-name");
  heading.title = room;
  heading.firstElementChild.toggleAttribute("hidden", !isClosed(room));
  setText(heading.lastElementChild, shownName(room));
}

function onAddress() {
  const place = placeAt(location);
  if (page.visit && place) enter(place.room, place.target);
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
enter(page.room, targetOf(location));
byId("me").addEventListener("click", () => page.visit.changeName());

const { sharing, switcher } = await dialogs();
byId("rooms-toggle").addEventListener("click", () => switcher.show());
byId("share").addEventListener("click", () => sharing.open(page.room));

/** What the bar's buttons open; a server that is away at the moment is asked again, by a name that did not fail. */
async function dialogs() {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const { dialogsOf } = await import(attempt ? `./dialogs.js?${attempt}` : "./dialogs.js");
      return dialogsOf(page);
    } catch {
      await new Promise((resolve) => { setTimeout(resolve, DIALOGS_RETRY_MS); });
    }
  }
}
