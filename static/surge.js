/*
 * What comes faster than anybody reads.
 *
 * A window of ten seconds that brings more than the eye takes in is summed up, but for its newest messages. A sum is a
 * range of seqs and two moments, whatever happened in between: so it costs nothing to hold, and can be opened and read.
 * Pure: knows events by seq and time alone.
 */

const WINDOW_MS = 10_000;
const EYE_PER_WINDOW = 100; // ten a second: already more than most people read
const EYE_PER_S = 40; // and so many at once nobody sees coming
const TAIL = 12; // the newest stand as they are, so that one sees what is going on
const MAX_SUMS = 40;

export class Surge {
  #sums = [];
  #window = null;
  #second = { first: 0, from: 0, n: 0 };
  #newest = 0;

  /** True while more comes than can be read. */
  get isOn() {
    return this.#window !== null && (this.#window.isCrowded || this.#window.isSurging);
  }

  /** What is summed up, oldest first: `{first, last, from, to}` (seqs, inclusive; ms). */
  get sums() {
    const upTo = this.#newest - TAIL;
    const sums = this.isOn ? [...this.#sums, this.#window] : this.#sums;
    return sums.map((sum) => ({ ...sum, last: Math.min(sum.last, upTo) })).filter(({ first, last }) => first < last);
  }

  /** An event that has just been said; in order. */
  heard({ seq, at }) {
    if (seq <= this.#newest) return;
    if (!this.#belongs(seq, at)) this.#begin(seq, at);
    Object.assign(this.#window, { last: seq, to: at });
    this.#newest = seq;
    if (this.#perSecond(seq, at) >= EYE_PER_S) this.#crowd(this.#second);
    else if (seq - this.#window.first >= EYE_PER_WINDOW) this.#crowd(this.#window);
  }

  /** Somebody wants to read what lies between: it is no longer summed up. */
  open({ first, last }) {
    const isApart = (sum) => sum.last < first || sum.first > last;
    this.#sums = this.#sums.filter(isApart);
    if (this.#window && !isApart(this.#window)) this.#window = null;
  }

  /** Nothing before `seq` is on the page any more. */
  forgetBefore(seq) {
    this.#sums = this.#sums.filter(({ last }) => last >= seq);
  }

  clear() {
    this.#sums = [];
    this.#window = null;
    this.#newest = 0;
  }

  // Internal

  // What came before the rush could be read, and stays; a surge that goes on leaves nothing out.
  #crowd({ first, from }) {
    const { isCrowded, isSurging } = this.#window;
    if (!isCrowded && !isSurging && first > this.#window.first) Object.assign(this.#window, { first, from });
    this.#window.isCrowded = true;
  }

  #perSecond(seq, at) {
    if (at - this.#second.from >= 1000) this.#second = { first: seq, from: at, n: 0 };
    this.#second.n += 1;
    return this.#second.n;
  }

  #belongs(seq, at) {
    return this.#window !== null && seq === this.#newest + 1 && at - this.#window.from < WINDOW_MS;
  }

  // A surge that lasts is summed up from the start of each window; where it has ended its newest stay as they are.
  #begin(seq, at) {
    const before = this.#window;
    const isSurging = Boolean(before?.isCrowded) && at - before.to < WINDOW_MS;
    if (before?.isCrowded) this.#add(isSurging ? before : { ...before, last: before.last - TAIL });
    this.#window = { first: seq, last: seq, from: at, to: at, isCrowded: false, isSurging };
  }

  // The oldest two become one: a room that never rests must not fill the page with sums.
  #add({ first, last, from, to }) {
    this.#sums.push({ first, last, from, to });
    if (this.#sums.length <= MAX_SUMS) return;
    const [oldest, next, ...others] = this.#sums;
    this.#sums = [{ ...oldest, last: next.last, to: next.to }, ...others];
  }
}
