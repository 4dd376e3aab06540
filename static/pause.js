/*
 * Keeps a fast room still under the mouse of who has to hit what runs by.
 *
 * A mouse that only lies there holds nothing up: it begins with a movement over the log, and ends when the log is left.
 * Knows no timeline: how fast a room is, is what comes into the log.
 */

const FAST = 8; // messages, within
const WITHIN_MS = 8000;
const SPREAD_MS = 1000; // what was there when one came in, came at once

export class Pause {
  #log;
  #onHold;
  #comings = [];
  #isHeld = false;
  #isMoved = false; // by the reader, since it is held

  /** `onHold(isHeld, isMoved)` keeps `log` still, whose rows are in `list`. */
  constructor({ log, list, onHold }) {
    this.#log = log;
    this.#onHold = onHold;
    this.#listen(list);
  }

  // Lifecycle

  #listen(list) {
    const seen = new MutationObserver((changes) => this.#onRows(changes));
    seen.observe(list, { childList: true });
    this.#log.addEventListener("pointermove", (event) => this.#onMove(event), { passive: true });
    this.#log.addEventListener("pointerleave", () => this.#hold(false));
    this.#log.addEventListener("wheel", ({ deltaY }) => { this.#isMoved ||= deltaY < 0; }, { passive: true });
  }

  // Actions

  /** Another room, or nobody's order to keep any more. */
  end() {
    this.#comings = [];
    this.#hold(false);
  }

  // Internal

  // What is loaded above is not fast.
  #onRows(changes) {
    const now = performance.now();
    const added = changes.flatMap(({ addedNodes }) => [...addedNodes]);
    const came = added.filter((node) => node.matches(".message:nth-last-child(-n + 12)")).length;
    this.#comings = [...this.#comings.filter((at) => at > now - WITHIN_MS), ...Array(came).fill(now)];
  }

  // Rows that move under a resting mouse make it seem to move.
  #onMove({ pointerType, movementX, movementY }) {
    const isMoved = pointerType === "mouse" && (movementX !== 0 || movementY !== 0);
    if (isMoved && this.#isFast) this.#hold(true);
  }

  get #isFast() {
    const lately = this.#comings.filter((at) => at > performance.now() - WITHIN_MS);
    return lately.length >= FAST && lately.at(-1) - lately[0] > SPREAD_MS;
  }

  #hold(isHeld) {
    if (isHeld === this.#isHeld) return;
    this.#isHeld = isHeld;
    this.#onHold(isHeld, this.#isMoved);
    this.#isMoved = false;
  }
}
