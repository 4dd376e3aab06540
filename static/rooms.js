/*
 * The start page: a room by its name, and the rooms this browser visited lately.
 *
 * The form works without this script; what is here checks the name beforehand and lists the visits.
 */

import { byId, fromTemplate, part, setText } from "./dom.js";
import { linkTo } from "./sharing.js";
import { forgetRoom, recentRooms } from "./storage.js";
import { clockTime, codePoints, dayKey, exactTime, shortDate, trimmed } from "./words.js";

const MAX_ROOM_NAME = 64;

byId("open-room").addEventListener("submit", (event) => {
  const field = byId("room");
  field.value = trimmed(field.value);
  const problem = problemWith(field.value);
  setText(byId("room-problem"), problem);
  if (problem) event.preventDefault();
});

/** The commonest faults, said before the server has to. */
function problemWith(room) {
  if (!room) return "Please write a name.";
  if (codePoints(room) > MAX_ROOM_NAME) return `A room name has at most ${MAX_ROOM_NAME} characters.`;
  if (/[/\\]/.test(room) || room === "." || room === "..") return "A room name has no slashes and is more than dots.";
  return "";
}

function paint() {
  const visits = recentRooms();
  byId("recent").hidden = visits.length === 0;
  byId("recent-rooms").replaceChildren(...visits.map(rowFor));
}

function rowFor({ room, at }) {
  const node = fromTemplate("recent-room");
  node.querySelector("a").href = linkTo(room);
  part(node, "name").textContent = room;
  paintTime(part(node, "time"), at);
  const forget = part(node, "forget");
  forget.setAttribute("aria-label", `Take ${room} off this list`);
  forget.addEventListener("click", () => { forgetRoom(room); paint(); });
  return node;
}

function paintTime(node, at) {
  if (!Number.isFinite(at)) return;
  node.title = exactTime(at);
  node.textContent = dayKey(at) === dayKey(Date.now()) ? clockTime(at) : shortDate(at);
}

paint();
