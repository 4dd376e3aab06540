/*
 * What this page asks the room's log for: earlier messages, gaps, the surroundings of one, what a reply answers.
 *
 * Every answer goes into the timeline. Knows no DOM; a question that cannot be answered now is told to `onTrouble`.
 */

const GAP_PAGE = 200;
const SILENT_PAGE = 200; // where messages were removed much has to be asked for before anything is seen
const AROUND = 25; // messages on either side of one that is jumped to

export class History {
  #timeline;
  #ask;
  #onChange;
  #onTrouble;
  #asked = new Set();
  #distrusted = null; // what is held below it may have been changed unheard

  /** `ask(question)` resolves to a frame or rejects; `onChange()` hears that something came unasked, as a reply's source. */
  constructor({ timeline, ask, onChange, onTrouble }) {
    this.#timeline = timeline;
    this.#ask = (question) => ask({ type: "history", ...question });
    this.#onChange = onChange;
    this.#onTrouble = onTrouble;
  }

  // Actions: each resolves to whether it worked

  /** The messages before `seq`. */
  async older(seq) {
    const isSilent = this.#timeline.pastSilence(seq) > seq;
    const page = await this.#page({ before: seq, ...(isSilent && { limit: SILENT_PAGE }) });
    if (page) this.#timeline.mergeOlder(page, page.asOf);
    return Boolean(page && (page.events.length || !page.more_before));
  }

  /** A part of a gap (`after` and `before` exclusive), from the side one comes from, so that one reads on from there. */
  async fill({ after, before, isFromBelow }) {
    const limit = Math.min(GAP_PAGE, before - after - 1);
    const page = await this.#page(isFromBelow ? { before, limit } : { after, limit });
    if (page) this.#timeline.merge(page.events, page.asOf);
    return Boolean(page?.events.length);
  }

  /** The messages around `seq`: whether it is one, or undefined if that could not be asked. */
  async around(seq) {
    const page = await this.#page({ after: Math.max(0, seq - AROUND - 1), limit: 2 * AROUND + 1 });
    if (!page) return undefined;
    this.#timeline.merge(page.events, page.asOf);
    return this.#timeline.at(seq) !== undefined;
  }

  /** The messages from a moment on (ms): the first one's seq, null if there is none, undefined if that could not be asked. */
  async since(at) {
    let page = await this.#page({ at, limit: 2 * AROUND });
    while (page) {
      this.#timeline.merge(page.events, page.asOf);
      const seen = page.events.find(({ seq }) => this.#timeline.at(seq));
      if (seen || !page.more_after || page.events.length === 0) return seen?.seq ?? null;
      page = await this.#page({ after: page.events.at(-1).seq, limit: SILENT_PAGE });
    }
    return undefined;
  }

  /** The message that a reply answers: asked for once a line. */
  async source(seq) {
    if (this.#asked.has(seq)) return;
    this.#asked.add(seq);
    const answer = await this.#ask({ around: seq, limit: 1 }).catch((error) => error);
    if (answer.type !== "page" && answer.code !== "not_found") return;
    this.#asked.delete(seq);
    this.#timeline.addSource(seq, answer.events?.[0] ?? null);
    this.#onChange();
  }

  /** There is another line: what was asked in vain may be asked again. */
  lineOpened() {
    this.#asked.clear();
    if (this.#distrusted !== null) this.#renew();
  }

  /** What was held when the last line was lost may have been edited or removed in a gap: it is asked for anew. */
  distrustHeld() {
    if (!this.#timeline.isEmpty) this.#distrusted = this.#timeline.newest + 1;
  }

  // Internal

  /** A page, with the head at the time it was asked for. */
  #page(question) {
    const asOf = this.#timeline.head;
    return this.#ask(question).then((page) => ({ ...page, asOf }), this.#onTrouble);
  }

  // From the newest on, as that is what is read; a lost line ends it, and the next one goes on.
  async #renew() {
    while (this.#distrusted > this.#timeline.oldest) {
      const page = await this.#page({ before: this.#distrusted, limit: GAP_PAGE });
      if (!page) return;
      this.#timeline.merge(page.events, page.asOf);
      this.#distrusted = page.events[0]?.seq ?? 0;
      this.#onChange();
    }
    this.#distrusted = null;
  }
}
