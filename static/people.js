/*
 * Who is in the room, as far as this page was told, and who is writing.
 *
 * A crowd is only counted; a smaller room is known by name. The roster is whole exactly if as many names are known as
 * people are counted. Knows no DOM and no connection.
 */

export const CROWD = 100; // above it the server names nobody
const SMALL_AGAIN = 80; // below it the server names again who comes and goes

const TYPING_MS = 5000; // the server hears of typing at most every 3 s

export class Roster {
  #names = new Map();
  #expected = new Set();
  #present = 0;
  #isCrowd = false;

  /** How many people are here; 0 until a line opened. */
  get present() {
    return this.#present;
  }

  get isWhole() {
    return this.#names.size === this.#present;
  }

  /** True from when a room was too full to be named until it is small again. */
  get isCrowd() {
    return this.#isCrowd;
  }

  /** Everyone known, by name. */
  get people() {
    const people = Array.from(this.#names, ([id, name]) => ({ id, name }));
    return people.sort((a, b) => a.name.localeCompare(b.name));
  }

  /** A line opened. Who was here before is expected back, and his coming is no news: after a restart all come at once. */
  enter(present) {
    for (const id of this.#names.keys()) this.#expected.add(id);
    this.#count(present);
  }

  /** Takes an answer to `people` that was asked from the first name on. */
  replace({ total, people }) {
    this.#names = new Map(people.map(({ id, name }) => [id, name]));
    this.#count(total);
  }

  /** Takes a `presence`; returns the news: `came` and `went` as people, `renamed` as `{id, before, after}`. */
  change({ present, joined = [], left = [], renamed = [] }) {
    const went = left.map((id) => this.#remove(id)).filter(Boolean);
    const renames = renamed.map((person) => this.#rename(person)).filter(({ before }) => before !== undefined);
    const came = joined.filter((person) => this.#add(person));
    this.#count(present);
    return { came, went, renamed: renames };
  }

  // Internal

  // In a crowd names go stale unseen. Forgotten, they cannot pass for whole when as many other people are left.
  #count(present) {
    this.#present = present;
    this.#isCrowd = present > (this.#isCrowd ? SMALL_AGAIN - 1 : CROWD);
    if (this.#isCrowd) this.#names.clear();
  }

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

  /** He said it, or left; true if he was writing. */
  stopped(id) {
    return this.#until.delete(id);
  }

  names(now = Date.now()) {
    for (const [id, { until }] of this.#until) if (until <= now) this.#until.delete(id);
    return Array.from(this.#until.values(), ({ name }) => name);
  }
}
