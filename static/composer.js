/*
 * The place where one writes.
 *
 * Owns the text field: what Enter does, how the field grows, how much may be written. Hands on a finished text and the
 * fact that somebody is writing. Knows no connection and no timeline.
 */

import { byId, setText } from "./dom.js";
import { codePoints, count, trimmed } from "./words.js";

const TYPING_EVERY_MS = 3000;
const COUNT_FROM = 0.9; // of the limit: before that the counter is only in the way

export class Composer {
  #form = byId("composer");
  #field = byId("text");
  #counter = byId("counter");
  #limit = 4000;
  #typedAt = -TYPING_EVERY_MS;
  #onText;
  #onTyping;

  constructor({ onText, onTyping }) {
    this.#onText = onText;
    this.#onTyping = onTyping;
    this.#field.addEventListener("input", () => this.#onInput());
    this.#field.addEventListener("keydown", (event) => this.#onKey(event));
    this.#form.addEventListener("submit", (event) => this.#onSubmit(event));
  }

  // Actions

  set limit(limit) {
    this.#limit = limit;
    this.#count();
  }

  focus() {
    this.#field.focus();
  }

  // Internal

  #onInput() {
    this.#fit();
    this.#count();
    if (this.#field.value && performance.now() - this.#typedAt >= TYPING_EVERY_MS) this.#tellTyping();
  }

  #tellTyping() {
    this.#typedAt = performance.now();
    this.#onTyping();
  }

  // Enter that confirms a word of an input method must not send; Safari reports that one only by its keyCode.
  #onKey(event) {
    const isComposing = event.isComposing || event.keyCode === 229;
    if (event.key === "Enter" && !event.shiftKey && !isComposing) this.#onSubmit(event);
  }

  #onSubmit(event) {
    event.preventDefault();
    const text = trimmed(this.#field.value);
    this.focus();
    if (!text || codePoints(text) > this.#limit) return;
    this.#field.value = "";
    this.#typedAt = -TYPING_EVERY_MS;
    this.#fit();
    this.#count();
    this.#onText(text);
  }

  #fit() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight}px`;
  }

  #count() {
    const left = this.#limit - codePoints(trimmed(this.#field.value));
    this.#counter.hidden = left > this.#limit * (1 - COUNT_FROM);
    this.#counter.classList.toggle("over", left < 0);
    setText(this.#counter, left < 0 ? `${count(-left)} too many` : `${count(left)} left`);
  }
}
