/*
 * The form that opens a room or makes one, on the start page and in the sheet of rooms.
 *
 * Without this script the form still works.
 * Knows no list of rooms.
 */

import { byId, setText } from "./dom.js";
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
