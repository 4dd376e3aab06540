/*
 * The messages of the room as this page knows them. The only place that holds them.
 *
 * Owns the events by seq, what was said here and is pending, and the small notices between. Merges in any order, holds
 * nothing twice. A hole in the seqs is a gap: nothing else marks one, so forgetting a stretch is always honest.
 * Knows no DOM and no connection.
 */

const MAX_NOTICES = 50;

export class Timeline {
  #events = [];
  #pending = [];
  #notices = [];
  #epoch = null;
  #head = 0;
  #enteredHead = 0;
  #oldestStored = 1;
  #lastNotice = 0;
  you = { id: "", name: "" };

  // Reading

  get events() {
    return this.#events;
  }

  get notices() {
    return this.#notices;
  }

  /** What was said here and is not yet among the events; a stored one whose event is on the way stays until then. */
  get pending() {
    return this.#pending.filter((say) => say.seq === null || say.seq > this.newest);
  }

  get newest() {
    return this.#events.at(-1)?.seq ?? 0;
  }

  get oldest() {
    return this.#events[0]?.seq ?? this.#head + 1;
  }

  get hasOlder() {
    return this.oldest > this.#oldestStored;
  }

  /** True if nothing was said here, as far as is known. */
  get isEmpty() {
    return this.#events.length === 0 && this.#pending.length === 0;
  }

  /** True if everything up to the head that the server named has arrived. */
  get isCaughtUp() {
    return this.newest >= this.#head;
  }

  /** The head when this page came in: what is newer was said while it was here. */
  get enteredHead() {
    return this.#enteredHead;
  }

  /** Where to resume: `{epoch, after}`, or null if everything has to be asked for. */
  get cursor() {
    const hasNothing = this.#epoch === null || (this.#events.length === 0 && this.#head > 0);
    return hasNothing ? null : { epoch: this.#epoch, after: this.newest };
  }

  /** The place of the first event whose seq is `seq` or above. */
  indexOf(seq) {
    let low = 0;
    let high = this.#events.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#events[middle].seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** How many messages of others came after `seq`; what is in a gap counts, whoever said it. */
  countAfter(seq) {
    const later = this.#events.slice(this.indexOf(seq + 1));
    const missing = Math.max(0, this.newest - seq - later.length);
    return missing + later.filter((event) => event.type === "message" && !this.isMine(event)).length;
  }

  isMine(event) {
    return event.by?.id === this.you.id;
  }

  // Coming in

  /** Takes a `welcome`; true if what was held had to be dropped because the server's past is another one. */
  enter({ epoch, head, you, resumed }) {
    const isOurPast = resumed === "whole" || resumed === "gap";
    const hadEvents = this.#events.length > 0;
    this.you = you;
    this.#epoch = epoch;
    this.#head = head;
    if (isOurPast) return false;
    this.#forgetAll();
    this.#enteredHead = head;
    return hadEvents;
  }

  merge(events) {
    for (const event of events) this.#insert(event);
  }

  /** Takes the answer to a question for what is older than everything held. */
  mergeOlder({ events, more_before }) {
    this.merge(events);
    if (!more_before) this.#oldestStored = this.oldest;
  }

  // Saying

  say(client_id, text, at = Date.now()) {
    this.#pending.push({ client_id, text, at, by: this.you, state: "waiting", seq: null, isUnsure: false });
  }

  /** What became of a say that was "waiting": "sending", "held" or "failed". */
  settle(client_id, state, detail) {
    const say = this.#find(client_id);
    if (say) Object.assign(say, { state, detail });
  }

  /** The line broke: what was on its way may be stored all the same. */
  lineLost() {
    for (const say of this.#pending) say.isUnsure ||= say.state === "sending" || say.state === "held";
  }

  onAck({ client_id, seq }) {
    const say = this.#find(client_id);
    if (!say) return;
    say.seq = seq;
    say.isUnsure = false;
    if (seq <= this.newest) this.discard(client_id);
  }

  discard(client_id) {
    this.#pending = this.#pending.filter((say) => say.client_id !== client_id);
  }

  find(client_id) {
    return this.#find(client_id);
  }

  // Noticing

  /** Puts a small line after the newest message; `content` is added to one of its kind that stands there already. */
  notice(kind, content, at = Date.now()) {
    const last = this.#notices.at(-1);
    if (last?.kind === kind && last.after === this.newest) {
      last.content = last.content.concat(content);
      last.at = at;
      return;
    }
    this.#lastNotice += 1;
    this.#notices.push({ key: `n${this.#lastNotice}`, kind, content, at, after: this.newest });
    this.#notices = this.#notices.slice(-MAX_NOTICES);
  }

  // Forgetting

  /** Forgets what lies before `first`, and between `last` and the `tail` newest: what is asked for again can be loaded. */
  keep(first, last, tail) {
    const tailFrom = this.#events.at(-tail)?.seq ?? 0;
    this.#events = this.#events.filter(({ seq }) => (seq >= first && seq <= last) || seq >= tailFrom);
  }

  // Internal

  #find(client_id) {
    return this.#pending.find((say) => say.client_id === client_id);
  }

  #forgetAll() {
    this.#events = [];
    this.#notices = [];
    this.#pending = this.#pending.filter((say) => say.seq === null);
    this.#oldestStored = 1;
  }

  #insert(event) {
    const index = this.indexOf(event.seq);
    if (this.#events[index]?.seq === event.seq) return;
    this.#events.splice(index, 0, event);
    if (this.isMine(event)) this.#claim(event);
  }

  // The pending message turns into the real one: the client_id stays with the event, so that the page keeps its place.
  // One that was on its way when the line broke is known by its text until its ack comes; else it would stand there twice.
  #claim(event) {
    const say = this.#pending.find(({ seq }) => seq === event.seq) ?? this.#twinOf(event);
    if (!say) return;
    if (say.isUnsure) {
      say.seq = event.seq;
      return;
    }
    event.client_id = say.client_id;
    this.discard(say.client_id);
  }

  #twinOf(event) {
    return this.#pending.find((say) => say.isUnsure && say.seq === null && say.text === event.text);
  }
}
