/*
 * The form that opens a room or makes one, on the start page and in the sheet of rooms.
 *
 * Says what is wrong with a name before the server has to, by the same rules. Without this script the form still works.
 * Knows no list of rooms.
 */

import { byId, setText } from "./dom.js";
import { codePoints, t, trimmed } from "./words.js";

const MAX_ROOM_NAME = 64;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const JOINERS = /[\u200c\u200d]/g; // Persian, Indic scripts and emoji need them
const BLANKS = /[\u115f\u1160\u3164\uffa0\u2800]/g; // letters and symbols that draw nothing
const SEEN = /[\p{L}\p{N}\p{P}\p{S}]/u;

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

export class RoomForm {
  #field = byId("room");
  #onOpen;

  /**
   * `onOpen(room)`: without it the browser opens the room as another page; `onInput(text)`: what stands in the field;
   * `onDown()`: arrow down, the way to a list.
   */
  constructor({ onOpen = null, onInput, onDown }) {
    this.#onOpen = onOpen;
    byId("open-room").noValidate = true; // our own sentences, in the language of the page
    byId("open-room").addEventListener("submit", (event) => this.#onSubmit(event));
    this.#field.addEventListener("input", () => { this.#say(""); onInput(this.#field.value); });
    this.#field.addEventListener("keydown", (event) => isDown(event) && (event.preventDefault(), onDown()));
  }

  // Actions

  focus() {
    this.#field.focus();
  }

  clear() {
    this.#field.value = "";
    this.#say("");
  }

  // Internal

  #onSubmit(event) {
    const room = oneSpelling(this.#field.value);
    const problem = problemWith(room);
    this.#field.value = room;
    this.#say(problem);
    if (problem || this.#onOpen) event.preventDefault();
    if (problem) this.#field.focus();
    else this.#onOpen?.(room);
  }

  #say(problem) {
    setText(byId("room-problem"), problem);
    this.#field.setAttribute("aria-invalid", problem !== "");
  }
}

const isDown = ({ key, isComposing }) => key === "ArrowDown" && !isComposing;
