/*
 * The form that opens a room or makes one, on the start page and in the sheet of rooms.
 *
 * A link to a room, or to the door of a closed one, is as good as a name. Without this script the form still works.
 * Knows no list of rooms.
 */

import { byId, setText } from "./dom.js";
import { isDoor, placeAt } from "./links.js";
import { oneSpelling, problemWith } from "./roomname.js";

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
    const text = oneSpelling(this.#field.value);
    if (isLink(text) && isDoor(text)) return goThrough(event, text);
    const room = (isLink(text) && placeAt(text)?.room) || text;
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

const isLink = (text) => /^https?:\/\//.test(text);

function goThrough(event, door) {
  event.preventDefault();
  location.assign(door);
}

const isDown = ({ key, isComposing }) => key === "ArrowDown" && !isComposing;
