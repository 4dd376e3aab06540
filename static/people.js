/*
 * Who is in the room, as far as this page was told, and who is writing.
 *
 * A crowd is only counted; up to CROWD people are known by name. The roster is whole exactly if as many names are
 * known as people are counted. Knows no DOM and no connection.
 */

export const CROWD = 100; // above it the server names nobody

const TYPING_MS = 5000; // the server hears of typing at most every 3 s

export class Roster {
  #names = new Map();
  #expected = new Set();
  present = 0;

  get isWhole() {
    return this.#names.size === this.present;
  }

  get isCrowd() {
    return this.present > CROWD;
  }

  /** Everyone known, by name. */
  get people() {
    const people = Array.from(this.#names, ([id, name]) => ({ id, name }));
    return people.sort((a, b) => a.name.localeCompare(b.name));
  }

  /** A line opened. Who was here before is expected back, and his coming is no news: after a restart all come at once. */
  enter(present) {
    for (const id of this.#names.keys()) this.#expected.add(id);
    this.present = present;
  }

  replace({ total, people }) {
    this.present = total;
    this.#names = new Map(people.map(({ id, name }) => [id, name]));
  }

  /** Takes a `presence`; returns the news: `came` and `went` as people, `renamed` as `{before, after}`. */
  change({ present, joined = [], left = [], renamed = [] }) {
    this.present = present;
    const went = left.map((id) => this.#remove(id)).filter(Boolean);
    const renames = renamed.map((person) => this.#rename(person)).filter(({ before }) => before !== undefined);
    const came = joined.filter((person) => this.#add(person));
    return { came, went, renamed: renames };
  }

  // Internal

  #add({ id, name }) {
    const isNews = !this.#names.has(id) && !this.#expected.delete(id);
    this.#names.set(id, name);
    return isNews;
  }

  #remove(id) {
    const name = this.#names.get(id);
    this.#names.delete(id);
    return name === undefined ? null : { id, name };
  }

  #rename({ id, name }) {
    const before = this.#names.get(id);
    this.#names.set(id, name);
    return { id, before, after: name };
  }
}

/** Who is writing at the moment. */
export class Writers {
  #until = new Map();

  onTyping({ id, name }, now = Date.now()) {
    this.#until.set(id, { name, until: now + TYPING_MS });
  }

  /** He said it, or left. */
  stopped(id) {
    this.#until.delete(id);
  }

  names(now = Date.now()) {
    for (const [id, { until }] of this.#until) if (until <= now) this.#until.delete(id);
    return Array.from(this.#until.values(), ({ name }) => name);
  }
}
