/*
 * Which stretch of the timeline is on the page.
 *
 * At the end of the room it is the newest messages. Scrolled back it stands still, moves when the reader moves, and
 * never holds more than MAX_SHOWN, so that a busy room does not fill the page behind the reader's back. What is summed
 * up is left out, but for what is the reader's own concern.
 * Pure arithmetic on seqs: knows no DOM.
 */

export const MAX_SHOWN = 400;
const STEP = 60;
const MAX_HELD = 4000;
const TAIL_HELD = 600;

export class Stretch {
  #first = 0;
  #last = Infinity;
  #sums = [];
  #timeline;
  #surge;

  constructor(timeline, surge) {
    this.#timeline = timeline;
    this.#surge = surge;
  }

  /** True if the newest message belongs to the stretch. */
  get isAtEnd() {
    return this.#timeline.newest <= this.#last;
  }

  /** True if what lies before the stretch is held, and need not be asked for. */
  get hasEarlierHeld() {
    return this.#timeline.indexOf(this.#first) > 0;
  }

  /** The seq it begins with, shown or summed up. */
  get first() {
    return this.#first;
  }

  /** What is summed up in it. */
  get sums() {
    return this.#sums.filter(({ first, last }) => last >= this.#first && first <= this.#last);
  }

  /** The events to show. */
  get events() {
    const end = this.isAtEnd ? undefined : this.#timeline.indexOf(this.#last + 1);
    return this.#shown(this.#timeline.events.slice(this.#timeline.indexOf(this.#first), end));
  }

  /** Goes to the newest messages and lets go of what is far behind. */
  toEnd() {
    this.#last = Infinity;
    this.#sums = this.#surge.sums;
    const shown = this.#shown(this.#timeline.events);
    this.#first = this.#beginning(shown.at(-MAX_SHOWN)?.seq ?? this.#timeline.oldest, shown);
    this.#surge.forgetBefore(this.#first);
    if (this.#timeline.events.length > 2 * TAIL_HELD) this.#letGo(shown.slice(-MAX_SHOWN));
  }

  /** Stands still while the room goes on. */
  stand() {
    const { events } = this;
    if (events.length > MAX_SHOWN) this.#last = events[MAX_SHOWN - 1].seq;
    if (this.#timeline.events.length > MAX_HELD) this.#letGo(events);
  }

  earlier() {
    const shown = this.#shown(this.#timeline.events);
    const from = Math.max(0, indexIn(shown, this.#first) - STEP);
    this.#take(shown, from, from + MAX_SHOWN - 1, { keepsLast: true });
  }

  later() {
    const shown = this.#shown(this.#timeline.events);
    const to = Math.min(indexIn(shown, this.#last) + STEP, shown.length - 1);
    this.#take(shown, Math.max(indexIn(shown, this.#first), to - MAX_SHOWN + 1), to, { keepsLast: false });
  }

  /** Goes to where `seq` is in the middle; it has to be held. */
  around(seq) {
    this.open({ first: seq, last: seq });
    const shown = this.#shown(this.#timeline.events);
    const from = Math.max(0, indexIn(shown, seq) - MAX_SHOWN / 2);
    this.#take(shown, from, from + MAX_SHOWN - 1, { keepsLast: false });
  }

  /** Shows again what is summed up between two seqs. */
  open({ first, last }) {
    this.#surge.open({ first, last });
    this.#sums = this.#sums.filter((sum) => sum.last < first || sum.first > last);
  }

  // Internal

  // What the reader said himself, and what was said to him, is never summed up.
  #shown(events) {
    if (this.#sums.length === 0) return events;
    let next = 0;
    return events.filter((event) => {
      while (this.#sums[next]?.last < event.seq) next += 1;
      const isSummed = this.#sums[next]?.first <= event.seq;
      return !isSummed || event.isForMe || this.#timeline.isMine(event);
    });
  }

  // Sums older than the first message are shown, too, if there is room for more.
  #beginning(first, shown) {
    if (shown.length >= MAX_SHOWN || this.#sums.length === 0) return first;
    return Math.min(first, this.#sums[0].first);
  }

  #take(shown, from, to, { keepsLast }) {
    this.#first = from > 0 ? shown[from].seq : this.#timeline.oldest;
    if (to >= shown.length - 1) this.#last = keepsLast ? this.#last : Infinity;
    else this.#last = keepsLast ? Math.min(this.#last, shown[to].seq) : shown[to].seq;
  }

  #letGo(shown) {
    const kept = new Set(shown);
    const tailFrom = this.#timeline.events.at(-TAIL_HELD)?.seq ?? 0;
    this.#timeline.keep((event) => event.seq >= tailFrom || kept.has(event));
  }
}

/** The place in `events` of the first whose seq is `seq` or above. */
function indexIn(events, seq) {
  const index = events.findIndex((event) => event.seq >= seq);
  return index === -1 ? events.length - 1 : index;
}
