/*
 * How much was said in rooms since this browser read there.
 *
 * Asks the server for each room's newest seq while somebody looks, newest visit first. Asking is limited for a person as
 * a whole and the room he is in needs it more: so few at once, with pauses, and none before the server's `Retry-After`.
 * Knows no DOM.
 */

import { pathOf } from "./links.js";
import { readMark } from "./storage.js";

const AT_ONCE = 4;
const PAUSE_MS = 600; // with four at once under seven a second: most of the burst of 20 asks stays
const FRESH_MS = 5000;
const EVERY_MS = 30_000;
const FORBIDDEN = 403;

export class Unread {
  #heads = new Map(); // room → {seq, at}: its newest seq and when that was told
  #shut = new Set(); // rooms that do not let this person in: not asked again by this page
  #rooms;
  #onChange;
  #closedUntil = 0;
  #looking = null;

  /** `rooms()`: the names to ask for, the most wanted first; `onChange(room)`: its count may be another. */
  constructor({ rooms, onChange }) {
    this.#rooms = rooms;
    this.#onChange = onChange;
  }

  // Lifecycle

  start() {
    if (this.#looking) return;
    this.#looking = new AbortController();
    this.#look(this.#looking.signal);
  }

  stop() {
    this.#looking?.abort();
    this.#looking = null;
  }

  // Actions

  /** How many messages came since; 0 if none, or if nothing was ever read there. */
  count(room) {
    const [mark, head] = [readMark(room), this.#heads.get(room)];
    // A mark beyond the head is of a log that was replaced.
    return mark && head ? Math.max(0, head.seq - mark.seq) : 0;
  }

  // Internal

  async #look(signal) {
    while (!signal.aborted) {
      const left = this.#rooms().filter((room) => readMark(room) && !this.#shut.has(room) && !this.#isFresh(room));
      await Promise.all(Array.from({ length: AT_ONCE }, () => this.#askFor(left, signal)));
      await pause(EVERY_MS);
    }
  }

  async #askFor(left, signal) {
    while (left.length > 0 && !signal.aborted) {
      const room = left.shift();
      if (!(await this.#ask(room, signal))) left.unshift(room);
      await pause(Math.max(PAUSE_MS, this.#closedUntil - Date.now()));
    }
  }

  /** False if the server wants to be asked later. */
  async #ask(room, signal) {
    if (Date.now() < this.#closedUntil) return false;
    const address = pathOf(`/api/rooms/${encodeURIComponent(room)}/messages?limit=1`);
    const answer = await fetch(address, { signal }).catch(() => null);
    if (answer?.status === 429 || answer?.status === 503) return this.#stayAway(answer);
    if (answer?.status === FORBIDDEN) this.#shut.add(room);
    const { head } = (answer?.ok && (await answer.json().catch(() => null))) || {};
    if (Number.isSafeInteger(head)) this.#learn(room, head);
    return true;
  }

  #stayAway(answer) {
    const wait_s = Number(answer.headers.get("Retry-After")) || EVERY_MS / 1000;
    this.#closedUntil = Date.now() + wait_s * 1000;
    return false;
  }

  #learn(room, seq) {
    this.#heads.set(room, { seq, at: Date.now() });
    this.#onChange(room);
  }

  #isFresh(room) {
    return Date.now() - (this.#heads.get(room)?.at ?? -Infinity) < FRESH_MS;
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
