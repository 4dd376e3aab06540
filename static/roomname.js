/*
 * What a room may be called: the server's own rules, so that a page can say what is wrong, and follow no bad link; and
 * how a name is shown.
 *
 * A closed room's name is `~NAME-XXXXXXXX`: the tail makes that nobody guesses it, and people are shown the middle.
 */

import { codePoints, t, trimmed } from "./words.js";

const MAX_ROOM_NAME = 64;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const JOINERS = /[\u200c\u200d]/g; // Persian, Indic scripts and emoji need them
const BLANKS = /[\u115f\u1160\u3164\uffa0\u2800]/g; // letters and symbols that draw nothing
const SEEN = /[\p{L}\p{N}\p{P}\p{S}]/u;
const CLOSED = /^~(.+?)(?:-[a-z2-7]{8})?$/u;

/** What is wrong with `room` as a name, or "". */
export function problemWith(room) {
  if (!room) return t("rooms.empty_name");
  if (codePoints(room) > MAX_ROOM_NAME) return t("rooms.long_name", { n: MAX_ROOM_NAME });
  if (/[/\\]/.test(room) || room === "." || room === "..") return t("rooms.bad_name");
  if (UNSEEN.test(room.replace(JOINERS, "")) || !SEEN.test(room.replace(BLANKS, ""))) return t("rooms.unfit_name");
  return "";
}

/** The one spelling a room's name has everywhere. */
export const oneSpelling = (text) => trimmed(text).normalize("NFC");

export const isClosed = (room) => room.startsWith("~");

/** The name as people know it. */
export const shownName = (room) => (isClosed(room) ? CLOSED.exec(room)?.[1] ?? room : room);
