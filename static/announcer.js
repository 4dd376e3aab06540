/*
 * What a screen reader says by itself: one polite region, at most one announcement in PAUSE_MS.
 *
 * A single message is read out, a burst is summed up: in a fast room nobody can listen to everything.
 * The log itself is aria-live=off and can be read at leisure. Knows no connection and no timeline.
 */

import { counted } from "./words.js";

const PAUSE_MS = 3000;

export class Announcer {
  #region;
  #notes = [];
  #messages = [];
  #timer = null;
  #saidAt = -PAUSE_MS;

  constructor(region) {
    this.#region = region;
  }

  /** Something about the room or the connection. */
  note(sentence) {
    this.#notes.push(sentence);
    this.#schedule();
  }

  /** A message of somebody else. */
  message({ by, text }) {
    this.#messages.push(`${by.name}: ${text}`);
    this.#schedule();
  }

  // Internal

  #schedule() {
    this.#timer ??= setTimeout(() => this.#say(), Math.max(0, this.#saidAt + PAUSE_MS - performance.now()));
  }

  #say() {
    this.#region.textContent = [...this.#notes, ...this.#summary()].join(" ");
    this.#notes = [];
    this.#messages = [];
    this.#timer = null;
    this.#saidAt = performance.now();
  }

  #summary() {
    if (this.#messages.length <= 1) return this.#messages;
    return [`${counted(this.#messages.length, "new message")}. The last one, ${this.#messages.at(-1)}`];
  }
}
