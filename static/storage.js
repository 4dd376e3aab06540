/*
 * What this browser remembers between visits: the wished name, the rooms visited, and whether the list of people is open.
 *
 * Storage may be blocked or full; then nothing is remembered and everything else works.
 * Knows no DOM and no connection.
 */

const NAME_KEY = "chatroom.name";
const ROOMS_KEY = "chatroom.rooms";
const PANEL_KEY = "chatroom.panel";
const MAX_ROOMS = 30;

/** The wished name; "" for a guest by choice, null if never asked. */
export const wishedName = () => read(NAME_KEY, null);
export const keepWishedName = (name) => write(NAME_KEY, name);

export const isPanelWished = () => read(PANEL_KEY, null);
export const keepPanelWished = (open) => write(PANEL_KEY, open);

/** Visited rooms, newest first: `{room, at}`. */
export function recentRooms() {
  const rooms = read(ROOMS_KEY, []);
  return Array.isArray(rooms) ? rooms.filter((visit) => typeof visit?.room === "string") : [];
}

export function rememberRoom(room, at = Date.now()) {
  const others = recentRooms().filter((visit) => visit.room !== room);
  write(ROOMS_KEY, [{ room, at }, ...others].slice(0, MAX_ROOMS));
}

export function forgetRoom(room) {
  write(ROOMS_KEY, recentRooms().filter((visit) => visit.room !== room));
}

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Blocked or full: this visit works without it.
  }
}
