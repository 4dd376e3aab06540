/*
 * What this browser remembers between visits, shared by all its tabs.
 *
 * The wished name, the rooms visited, and per room: the draft, how far was read, and what was said and is not yet
 * known to be stored. Storage may be blocked or full; then nothing is remembered and everything else works.
 * Knows no DOM and no connection.
 */

const PREFIX = "chatroom.";
const MAX_ROOMS = 30;

/** The wished name; "" for a guest by choice, null if never asked. */
export const wishedName = () => read("name", null);
export const keepWishedName = (name) => write("name", name);

export const isPanelWished = () => read("panel", null);
export const keepPanelWished = (open) => write("panel", open);

/** Whether single keys act; who speaks to his computer switches them off. */
export const areSignsWished = () => read("signs", true);
export const keepSignsWished = (areOn) => write("signs", areOn ? null : false);

/** Visited rooms, newest first: `{room, at}`. */
export const recentRooms = () => listOf("rooms").filter((visit) => typeof visit?.room === "string");

export function rememberRoom(room, at = Date.now()) {
  const visits = [{ room, at }, ...recentRooms().filter((visit) => visit.room !== room)];
  write("rooms", visits.slice(0, MAX_ROOMS));
  for (const visit of visits.slice(MAX_ROOMS)) forgetTraces(visit.room);
}

export function forgetRoom(room) {
  write("rooms", recentRooms().filter((visit) => visit.room !== room));
  forgetTraces(room);
}

/** The unsent text: `{text, reply_to}`, or null. */
export const draftOf = (room) => read(`draft:${room}`, null);
export const keepDraft = (room, draft) => write(`draft:${room}`, draft);

/** How far was read: `{seq, at}`, or null. */
export const readMark = (room) => read(`read:${room}`, null);
export const keepReadMark = (room, mark) => write(`read:${room}`, mark);

/**
 * What was said and is not yet known to be stored: `{room, client_id, text, reply_to, at}` and what its outbox adds.
 * Each under a key of its own, so that two tabs never overwrite each other's.
 */
export const keepSay = (say) => write(`say:${say.client_id}`, say);
export const dropSay = (client_id) => write(`say:${client_id}`, null);
export const keptSay = (client_id) => read(`say:${client_id}`, null);

export function saysOf(room) {
  const says = keys().filter((key) => key.startsWith("say:")).map((key) => read(key, null));
  return says.filter((say) => say?.room === room && typeof say.text === "string").sort((a, b) => a.at - b.at);
}

/** Tells `listener(key)` what another tab wrote: "name", "rooms", `draft:${room}`, `read:${room}`, `say:${client_id}`. */
export function onWrittenElsewhere(listener, signal) {
  const hear = ({ key }) => key?.startsWith(PREFIX) && listener(key.slice(PREFIX.length));
  window.addEventListener("storage", hear, { signal });
}

// What was said stays: it is not the list of rooms that decides whether it goes out.
function forgetTraces(room) {
  write(`draft:${room}`, null);
  write(`read:${room}`, null);
}

function keys() {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
    return names.map((name) => name.slice(PREFIX.length));
  } catch {
    return [];
  }
}

function listOf(key) {
  const list = read(key, []);
  return Array.isArray(list) ? list : [];
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, JSON.stringify(value));
  } catch {
    // Blocked or full: this visit works without it.
  }
}
