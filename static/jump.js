/*
 * The dialog that asks for a day to go to.
 */

import { byId } from "./dom.js";
import { isoDay } from "./words.js";

export class Jump {
  #dialog = byId("jump");
  #field = byId("jump-date");
  #onDay;

  /** `onDay(at)` hears the beginning of the day in this place (ms). */
  constructor({ onDay }) {
    this.#onDay = onDay;
    byId("jump-form").addEventListener("submit", () => this.#go());
    byId("jump-cancel").addEventListener("click", () => this.#dialog.close());
  }

  show() {
    this.#field.max = isoDay(Date.now());
    this.#field.value ||= this.#field.max;
    this.#dialog.showModal();
  }

  // A date alone would be read as one of Greenwich.
  #go() {
    const at = new Date(`${this.#field.value}T00:00`).getTime();
    if (Number.isFinite(at)) this.#onDay(Math.max(0, at));
  }
}
