/*
 * What this page asks the room's log for: earlier messages, gaps, the surroundings of one, what a reply answers.
 *
 * Every answer goes into the timeline. Knows no DOM; a question that cannot be answered now is told to `onTrouble`.
 */

const GAP_PAGE = 200;
const AROUND = 25; // messages on either side of one that is jumped to

export class History {
  #timeline;
  #ask;
  #onSource;
  #onTrouble;
  #asked = new Set();

  /** `ask(question)` resolves to a frame or rejects; `onSource()` hears that a reply's source has come. */
  constructor({ timeline, ask, onSource, onTrouble }) {
    this.#timeline = timeline;
    this.#ask = (question) => ask({ type: "history", ...question });
    this.#onSource = onSource;
    this.#onTrouble = onTrouble;
  }

  // Actions: each resolves to whether it worked

  /** The messages before `seq`. */
  async older(seq) {
    const page = await this.#page({ before: seq });
    if (page) this.#timeline.mergeOlder(page);
    return Boolean(page && (page.events.length || !page.more_before));
  }

  /** A part of a gap (`after` and `before` exclusive), from the side one comes from, so that one reads on from there. */
  async fill({ after, before, isFromBelow }) {
    const limit = Math.min(GAP_PAGE, before - after - 1);
    const page = await this.#page(isFromBelow ? { before, limit } : { after, limit });
    if (page) this.#timeline.merge(page.events);
    return Boolean(page?.events.length);
  }

  /** The messages around `seq`: whether it is one, or undefined if that could not be asked. */
  async around(seq) {
    const page = await this.#page({ after: Math.max(0, seq - AROUND - 1), limit: 2 * AROUND + 1 });
    if (!page) return undefined;
    this.#timeline.merge(page.events);
    return this.#timeline.at(seq) !== undefined;
  }

  /** The messages from a moment on (ms): the first one's seq, null if there is none, undefined if that could not be asked. */
  async since(at) {
    const page = await this.#page({ at, limit: 2 * AROUND });
    if (!page) return undefined;
    this.#timeline.merge(page.events);
    return page.events[0]?.seq ?? null;
  }

  /** The message that a reply answers: asked for once a line. */
  async source(seq) {
    if (this.#asked.has(seq)) return;
    this.#asked.add(seq);
    const answer = await this.#ask({ around: seq, limit: 1 }).catch((error) => error);
    if (answer.type !== "page" && answer.code !== "not_found") return;
    this.#asked.delete(seq);
    this.#timeline.addSource(seq, answer.events?.[0] ?? null);
    this.#onSource();
  }

  /** There is another line: what was asked in vain may be asked again. */
  lineOpened() {
    this.#asked.clear();
  }

  // Internal

  #page(question) {
    return this.#ask(question).catch(this.#onTrouble);
  }
}
