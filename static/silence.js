/*
 * The seqs of a room at which nothing is to be seen: what was removed, and acts that changed something elsewhere.
 *
 * Held as ranges, so that ten thousand of them cost no more than one. Each range knows how many messages stood in it.
 * Pure arithmetic on seqs.
 */

export class Silence {
  #ranges = []; // {first, last, gone}, in order, never touching each other

  get newest() {
    return this.#ranges.at(-1)?.last ?? 0;
  }

  get oldest() {
    return this.#ranges[0]?.first ?? Infinity;
  }

  has(seq) {
    return this.#ranges[this.#indexOf(seq)]?.first <= seq;
  }

  /** The first seq from `seq` on that is not silent. */
  past(seq) {
    return this.has(seq) ? this.#ranges[this.#indexOf(seq)].last + 1 : seq;
  }

  /** What of it lies between two seqs (inclusive), in order. */
  within(first, last) {
    const found = [];
    for (let i = this.#indexOf(first); this.#ranges[i]?.first <= last; i += 1) {
      const range = this.#ranges[i];
      found.push({ ...range, first: Math.max(first, range.first), last: Math.min(last, range.last) });
    }
    return found;
  }

  /** How many seqs from `first` on are silent. */
  countFrom(first) {
    return this.within(first, Infinity).reduce((sum, range) => sum + range.last - range.first + 1, 0);
  }

  /** `isMessage` if a message stood there. */
  add(seq, isMessage) {
    const range = { first: seq, last: seq, gone: Number(isMessage) };
    if (seq > this.newest + 1) this.#ranges.push(range);
    else this.#join([range]);
  }

  /** The messages at `seqs`, in order, are gone; none of them was silent before. */
  addGone(seqs) {
    this.#join(seqs.map((seq) => ({ first: seq, last: seq, gone: 1 })));
  }

  /** What is silent at `seq` turns out to have been a message. */
  countGone(seq) {
    if (this.has(seq)) this.#ranges[this.#indexOf(seq)].gone += 1;
  }

  /** Forgets the ranges that are not to be kept. */
  keep(isKept) {
    this.#ranges = this.#ranges.filter(isKept);
  }

  // Internal

  /** The place of the first range that ends at `seq` or above. */
  #indexOf(seq) {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ranges[middle].last < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // One pass over those that may touch them, however many there are.
  #join(ranges) {
    const from = Math.max(0, this.#indexOf(ranges[0].first) - 1);
    const touched = [...this.#ranges.splice(from), ...ranges].sort((a, b) => a.first - b.first);
    for (const range of touched) this.#append(range);
  }

  #append(range) {
    const before = this.#ranges.at(-1);
    if (before?.last + 1 === range.first) Object.assign(before, { last: range.last, gone: before.gone + range.gone });
    else this.#ranges.push(range);
  }
}
