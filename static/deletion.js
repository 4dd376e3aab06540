/*
 * Deleting a message of one's own, with time for second thoughts.
 *
 * What is deleted is gone for everybody and comes back for nobody: so it is sent a little later, and until then taken
 * back without a trace. It goes out at once when the page or the room is left, or the next one is deleted, so that
 * nothing that was deleted stays because somebody was quick. Whoever deletes the message of another does so to stop it
 * from being read: that never waits, and does not come here.
 * Knows no connection and no message.
 */

import { byId } from "./dom.js";

const UNDO_MS = 5000;

export class Deletion {
  #note = byId("undo");
  #leaving = new Set();
  #pending = null;
  #timer = null;
  #send;
  #onChange;

  /** `send(seq)` promises that the message is deleted; `onChange()` hears that something looks different. */
  constructor({ send, onChange, signal }) {
    this.#send = send;
    this.#onChange = onChange;
    byId("undo-button").addEventListener("click", () => this.undo(), { signal });
    window.addEventListener("pagehide", () => this.settle(), { signal });
  }

  // Reading

  /** True if it is about to be gone. */
  isLeaving(seq) {
    return this.#leaving.has(seq);
  }

  /** The seq of what can be taken back, or null. */
  get pending() {
    return this.#pending;
  }

  // Actions

  /** The message `seq` is to go. */
  ask(seq) {
    this.settle();
    this.#pending = seq;
    this.#leaving.add(seq);
    this.#timer = setTimeout(() => this.settle(), UNDO_MS);
    this.#show(true);
  }

  /** The last one is to stay after all. */
  undo() {
    clearTimeout(this.#timer);
    this.#leaving.delete(this.#pending);
    this.#pending = null;
    this.#show(false);
  }

  /** There is no time left for second thoughts. */
  settle() {
    if (this.#pending === null) return;
    const seq = this.#pending;
    clearTimeout(this.#timer);
    this.#pending = null;
    this.#show(false);
    this.#delete(seq);
  }

  // Internal

  async #delete(seq) {
    if (await this.#send(seq)) return;
    this.#leaving.delete(seq);
    this.#onChange();
  }

  #show(isPending) {
    const hadFocus = this.#note.contains(document.activeElement);
    this.#note.hidden = !isPending;
    if (hadFocus && !isPending) byId("log").focus({ preventScroll: true });
    this.#onChange();
  }
}
