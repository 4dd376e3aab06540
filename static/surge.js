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
  #second = { first: 0, from: 0, n: 0, passed: 0 };
  #newest = 0;
  #passed = 0; // how many events that show nothing
  #tail = []; // the newest messages: {seq, passed}

  /** True while more comes than can be read. */
  get isOn() {
    return this.#window !== null && (this.#window.isCrowded || this.#window.isSurging);
  }

  /** What is summed up, oldest first: `{first, last, from, to, silent}` (seqs, inclusive; ms; how many are no messages). */
  get sums() {
    const sums = this.isOn ? [...this.#sums, this.#window] : this.#sums;
    return sums.map((sum) => this.#withoutTail(sum)).filter(({ first, last }) => first < last);
  }

  /** A message that has just been said; in order. */
  heard({ seq, at }) {
    if (seq <= this.#newest) return;
    if (!this.#belongs(seq, at)) this.#begin(seq, at);
    Object.assign(this.#window, { last: seq, to: at, n: this.#window.n + 1 });
    this.#newest = seq;
    this.#tail = [...this.#tail, { seq, passed: this.#passed }].slice(-TAIL);
    if (this.#perSecond(seq, at) >= EYE_PER_S) this.#crowd(this.#second);
    else if (this.#window.n > EYE_PER_WINDOW) this.#crowd(this.#window);
  }

  /** An event that shows nothing: it has its place among the others, and crowds nobody. */
  passed(seq) {
    if (this.#window === null || seq !== this.#newest + 1) return;
    this.#passed += 1;
    Object.assign(this.#window, { last: seq, silent: this.#passed - this.#window.passed });
    this.#newest = seq;
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
    this.#tail = [];
  }

  // Internal

  // What came before the rush could be read, and stays; a surge that goes on leaves nothing out.
  #crowd({ first, from, n, passed }) {
    const { isCrowded, isSurging } = this.#window;
    if (!isCrowded && !isSurging && first > this.#window.first) {
      Object.assign(this.#window, { first, from, n, passed, silent: this.#passed - passed });
    }
    this.#window.isCrowded = true;
  }

  #perSecond(seq, at) {
    if (at - this.#second.from >= 1000) this.#second = { first: seq, from: at, n: 0, passed: this.#passed };
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
    if (before?.isCrowded) this.#add(isSurging ? before : this.#withoutTail(before));
    this.#window = {
      first: seq, last: seq, from: at, to: at, n: 0, passed: this.#passed, silent: 0, isCrowded: false, isSurging,
    };
  }

  #withoutTail({ first, last, from, to, passed, silent }) {
    const tail = this.#tail[0];
    if (!tail || last < tail.seq) return { first, last, from, to, passed, silent };
    return { first, last: tail.seq - 1, from, to, passed, silent: tail.passed - passed };
  }

  // The oldest two become one: a room that never rests must not fill the page with sums.
  #add({ first, last, from, to, passed, silent }) {
    this.#sums.push({ first, last, from, to, passed, silent });
    if (this.#sums.length <= MAX_SUMS) return;
    const [oldest, next, ...others] = this.#sums;
    this.#sums = [{ ...oldest, last: next.last, to: next.to, silent: oldest.silent + next.silent }, ...others];
  }
}
