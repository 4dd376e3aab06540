/*
 * Which stretch of the timeline is on the page.
 *
 * At the end of the room it is the newest messages. Scrolled back it stands still, moves when the reader moves, and
 * never holds more than MAX_SHOWN, so that a busy room does not fill the page behind the reader's back.
 * Pure arithmetic on seqs: knows no DOM.
 */

export const MAX_SHOWN = 400;
const STEP = 60;
const MAX_HELD = 4000;
const TAIL_HELD = 600;

export class Stretch {
  #first = 0;
  #last = Infinity;
  #timeline;

  constructor(timeline) {
    this.#timeline = timeline;
  }

  /** True if the newest message belongs to the stretch. */
  get isAtEnd() {
    return this.#timeline.newest <= this.#last;
  }

  /** True if what lies before the stretch is held, and need not be asked for. */
  get hasEarlierHeld() {
    return this.#timeline.indexOf(this.#first) > 0;
  }

  /** The events to show. */
  get events() {
    const end = this.isAtEnd ? undefined : this.#timeline.indexOf(this.#last + 1);
    return this.#timeline.events.slice(this.#timeline.indexOf(this.#first), end);
  }

  /** Goes to the newest messages and lets go of what is far behind. */
  toEnd() {
    this.#last = Infinity;
    if (this.#timeline.events.length > 2 * TAIL_HELD) this.#timeline.keep(0, 0, TAIL_HELD);
    this.#first = this.#timeline.events.at(-MAX_SHOWN)?.seq ?? this.#timeline.oldest;
  }

  /** Stands still while the room goes on. */
  stand() {
    const events = this.events;
    if (events.length > MAX_SHOWN) this.#last = events[MAX_SHOWN - 1].seq;
    if (this.#timeline.events.length > MAX_HELD) this.#timeline.keep(this.#first, this.#last, TAIL_HELD);
  }

  earlier() {
    const index = this.#timeline.indexOf(this.#first);
    this.#first = this.#seqAt(index - STEP);
    this.#last = this.#isShort(index - STEP) ? this.#last : this.#seqAt(index - STEP + MAX_SHOWN - 1);
  }

  later() {
    const index = Math.min(this.#timeline.indexOf(this.#last) + STEP, this.#timeline.events.length - 1);
    this.#last = this.#seqAt(index);
    this.#first = Math.max(this.#first, this.#seqAt(index - MAX_SHOWN + 1));
    if (index === this.#timeline.events.length - 1) this.#last = Infinity;
  }

  // Internal

  #seqAt(index) {
    return this.#timeline.events[Math.max(0, index)]?.seq ?? this.#timeline.oldest;
  }

  #isShort(index) {
    return Math.max(0, index) + MAX_SHOWN >= this.#timeline.events.length;
  }
}
