/*
 * What this browser remembers between visits, shared by all its tabs.
 *
 * The wished name, the rooms visited, and per room: the draft, how far was read, and what was said and is not yet
 * known to be stored. Storage may be blocked or full; then nothing is remembered and everything else works.
 * Knows no DOM and no connection.
 */

const PREFIX = "chatroom.";
const MAX_ROOMS = 30;
const MAX_NAME_LENGTH = 128; // UTF-16 units, as are those below: more than any name or text that is let through
const MAX_TEXT_LENGTH = 16_000;
const LATEST_MS = 8.64e15; // no Date is later

/** The wished name; "" for a guest by choice, null if never asked. */
export function wishedName() {
  const name = read("name", null);
  return typeof name === "string" && name.length <= MAX_NAME_LENGTH ? name : null;
}

export const keepWishedName = (name) => write("name", name);

export const isPanelWished = () => read("panel", null);
export const keepPanelWished = (open) => write("panel", open);

/** Whether single keys act; who speaks to his computer switches them off. */
export const areSignsWished = () => read("signs", true);
export const keepSignsWished = (areOn) => write("signs", areOn ? null : false);

/** Visited rooms, newest first: `{room, at}`. */
export const recentRooms = () => listOf("rooms").filter((visit) => isRoom(visit?.room) && isMoment(visit.at));

export function rememberRoom(room, at = Date.now()) {
  const visits = [{ room, at }, ...recentRooms().filter((visit) => visit.room !== room)];
  write("rooms", visits.slice(0, MAX_ROOMS));
  for (const visit of visits.slice(MAX_ROOMS)) forgetTraces(visit.room);
}

export function forgetRoom(room) {
  write("rooms", recentRooms().filter((visit) => visit.room !== room));
  forgetTraces(room);
}

/** The unsent text: `{text, reply}`, or null. */
export function draftOf(room) {
  const draft = read(`draft:${room}`, null);
  return isText(draft?.text) ? { text: draft.text, reply: isReply(draft.reply) ? draft.reply : null } : null;
}

export const keepDraft = (room, draft) => write(`draft:${room}`, draft);

/** How far was read: `{seq, at}`, or null. */
export function readMark(room) {
  const mark = read(`read:${room}`, null);
  return Number.isSafeInteger(mark?.seq) && isMoment(mark.at) ? mark : null;
}

export const keepReadMark = (room, mark) => write(`read:${room}`, mark);

/** Which announcement was hidden, by when it was made (ms); null for none. */
export const hiddenAnnouncement = (room) => read(`pinned:${room}`, null);
export const hideAnnouncement = (room, at) => write(`pinned:${room}`, at);

/**
 * What was said and is not yet known to be stored: `{room, client_id, text, reply_to, at}` and what its outbox adds.
 * Each under a key of its own, so that two tabs never overwrite each other's.
 */
export const keepSay = (say) => write(`say:${say.client_id}`, say);
export const dropSay = (client_id) => write(`say:${client_id}`, null);
export const keptSay = (client_id) => sayAt(`say:${client_id}`);

export function saysOf(room) {
  const says = keys().filter((key) => key.startsWith("say:")).map(sayAt);
  return says.filter((say) => say?.room === room).sort((a, b) => a.at - b.at);
}

/** Tells `listener(key)` what another tab wrote: "name", "rooms", `draft:${room}`, `read:${room}`, `pinned:${room}`, `say:${client_id}`. */
export function onWrittenElsewhere(listener, signal) {
  const hear = ({ key }) => key?.startsWith(PREFIX) && listener(key.slice(PREFIX.length));
  window.addEventListener("storage", hear, { signal });
}

// What was said stays: it is not the list of rooms that decides whether it goes out.
function forgetTraces(room) {
  write(`draft:${room}`, null);
  write(`read:${room}`, null);
  write(`pinned:${room}`, null);
}

function keys() {
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX));
    return names.map((name) => name.slice(PREFIX.length));
  } catch {
    return [];
  }
}

// What is read may have been written by anybody who has sat at this browser, or by another version of this page.

const isText = (value) => typeof value === "string";
const isMoment = (at) => Number.isFinite(at) && Math.abs(at) <= LATEST_MS;
const isRoom = (room) => isText(room) && !/[\ud800-\udfff]/u.test(room);
const isReply = (reply) => Number.isSafeInteger(reply?.seq) && isText(reply.by?.id) && isText(reply.by.name) && isText(reply.text);

function sayAt(key) {
  const say = read(key, null);
  const isSay = isText(say?.text) && say.text.length <= MAX_TEXT_LENGTH && isMoment(say.at) && key === `say:${say.client_id}`;
  return isSay && (say.reply_to === undefined || Number.isSafeInteger(say.reply_to)) ? say : null;
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
