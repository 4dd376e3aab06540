/*
 * The people of a crowd, as far as they were asked for.
 *
 * The server names a crowd in pages, ordered by name, and allows few questions a second. So only what is in sight is
 * asked for, one page at a time, and what was heard is shown until something newer is there.
 * Who comes or goes shifts all behind him: pages heard at different moments may overlap, or leave somebody out.
 * Knows no DOM and no socket: `ask` is given to it.
 */

const PAGE = 100; // the most the server gives at once
const MAX_PAGES = 200;
const ASK_EVERY_MS = 250; // the server allows 5 questions a second, and others ask, too
const RENEW_MS = 5000;
const RENEW_MS_PER_PERSON = 10; // so all lists of a crowd together are renewed 100 times a second, however large it is

export class Directory {
  #ask;
  #onChange;
  #signal;
  #query = "";
  #heardQuery = null; // the one that the held pages answer
  #present = 0;
  #total = 0;
  #pages = new Map(); // number -> {people, heardAt, dueAt}, the one heard last at the end
  #sight = null;
  #isAsking = false;
  #askedAt = -ASK_EVERY_MS;
  #timer = null;

  /**
   * `ask({query, offset, limit})` resolves to `{total, people}`; `onChange(isOther)` hears that something came, and
   * whether it is another list now, the answer to another query.
   */
  constructor({ ask, onChange, signal }) {
    this.#ask = ask;
    this.#onChange = onChange;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.rest());
  }

  // What is known

  /** The query to which all else is the answer: the last one may not be answered yet. */
  get query() {
    return this.#heardQuery ?? "";
  }

  get total() {
    return this.#total;
  }

  /** The person at a place of the list; undefined if he is not known yet. */
  at(index) {
    return this.#pages.get(Math.floor(index / PAGE))?.people[index % PAGE];
  }

  /** Where somebody stands, as heard last; -1 if that is not known. */
  indexOf(id) {
    let found = -1;
    for (const [number, { people }] of this.#pages) {
      const place = people.findIndex((person) => person.id === id);
      if (place >= 0) found = number * PAGE + place;
    }
    return found;
  }

  // Actions

  /** These places are in sight now. */
  look(first, last) {
    this.#sight = { first: Math.floor(first / PAGE), last: Math.floor(last / PAGE) };
    this.#plan();
  }

  /** Nothing is in sight: nothing is asked for. */
  rest() {
    this.#sight = null;
    this.#plan();
  }

  /** Lists only those in whose name `query` is; what is held stays until the answer is there. */
  search(query) {
    this.#query = query;
    this.#plan();
  }

  /** So many people are here now: what was heard is out of date and is renewed in time. */
  changed(present) {
    if (present === this.#present) return;
    this.#present = present;
    if (!this.query) this.#total = present;
    this.#outdate();
    this.#plan();
  }

  /** A line opened: what was heard on the last one is renewed at once. */
  reload() {
    for (const page of this.#pages.values()) page.dueAt = 0;
    this.#plan();
  }

  // Internal

  #outdate() {
    const renew_ms = Math.max(RENEW_MS, this.#total * RENEW_MS_PER_PERSON);
    for (const page of this.#pages.values()) page.dueAt = Math.min(page.dueAt, page.heardAt + renew_ms);
  }

  // Whoever flings through the list gets here each frame; the pages he only passes are never asked for.
  #plan() {
    clearTimeout(this.#timer);
    if (this.#isAsking || !this.#sight) return;
    const { number, dueAt } = this.#mostDue();
    if (dueAt === Infinity) return;
    const wait_ms = Math.max(dueAt, this.#askedAt + ASK_EVERY_MS) - performance.now();
    this.#timer = setTimeout(() => this.#fetch(number), wait_ms);
  }

  #mostDue() {
    if (this.#query !== this.#heardQuery) return { number: 0, dueAt: 0 };
    const last = Math.min(this.#sight.last, Math.max(0, Math.ceil(this.#total / PAGE) - 1));
    let most = { dueAt: Infinity };
    for (let number = this.#sight.first; number <= last; number += 1) {
      const dueAt = this.#pages.get(number)?.dueAt ?? -1;
      if (dueAt < most.dueAt) most = { number, dueAt };
    }
    return most;
  }

  async #fetch(number) {
    const query = this.#query;
    this.#isAsking = true;
    this.#askedAt = performance.now();
    const answer = await this.#ask({ query, offset: number * PAGE, limit: PAGE }).catch(() => null);
    this.#isAsking = false;
    if (this.#signal.aborted) return;
    if (answer && query === this.#query) this.#take(number, answer);
    // A question that failed is not repeated by itself: the next look, or the next line, does.
    if (answer || query !== this.#query) this.#plan();
  }

  #take(number, { total, people }) {
    const isOther = this.#query !== this.#heardQuery;
    if (isOther) this.#pages.clear();
    if (total !== this.#total) this.#outdate();
    this.#heardQuery = this.#query;
    this.#total = total;
    this.#keep(number, people);
    this.#onChange(isOther);
  }

  #keep(number, people) {
    this.#pages.delete(number);
    this.#pages.set(number, { people, heardAt: performance.now(), dueAt: Infinity });
    if (this.#pages.size > MAX_PAGES) this.#pages.delete(this.#pages.keys().next().value);
  }
}
