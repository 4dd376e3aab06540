/*
 * The events of the room as this page knows them. The only place that holds them.
 *
 * Owns the events by seq, the small notices between, and the sources of replies that are not among the events. Merges in
 * any order, holds nothing twice. A hole in the seqs is a gap: nothing else marks one, so forgetting is always honest.
 * Knows no DOM and no connection.
 */

import { mentionsName } from "./mentions.js";

const MAX_NOTICES = 50;
const MAX_CHANGES = 200; // of who came and went, in one line
const MAX_NOTES = 10;
const MAX_SOURCES = 300;

export class Timeline {
  #events = [];
  #notices = [];
  #sources = new Map();
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

  get newest() {
    return this.#events.at(-1)?.seq ?? 0;
  }

  get oldest() {
    return this.#events[0]?.seq ?? this.#head + 1;
  }

  /** True if there may be something before `seq` that can be asked for. */
  hasBefore(seq) {
    return seq > this.#oldestStored;
  }

  get isEmpty() {
    return this.#events.length === 0;
  }

  /** The newest seq that is known to be there, held or not. */
  get head() {
    return Math.max(this.#head, this.newest);
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
    const hasNothing = this.#epoch === null || (this.isEmpty && this.#head > 0);
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

  /** The event `seq`, if it is held. */
  at(seq) {
    const event = this.#events[this.indexOf(seq)];
    return event?.seq === seq ? event : undefined;
  }

  /** The message a reply answers: an event, null if it is not there, undefined if that has yet to be asked. */
  source(seq) {
    return this.at(seq) ?? this.#sources.get(seq);
  }

  /** How many messages of others came after `seq`; what is in a gap counts, whoever said it. */
  countAfter(seq) {
    if (seq >= this.newest) return 0;
    const later = this.#events.slice(this.indexOf(seq + 1));
    const missing = Math.max(0, this.newest - seq - later.length);
    return missing + later.filter((event) => event.type === "message" && !this.isMine(event)).length;
  }

  /** True if it was said while the line was open, and not before. */
  isLive({ seq }) {
    return seq > this.#head;
  }

  isMine(event) {
    return event.by?.id === this.you.id;
  }

  // Coming in

  /** Takes a `welcome`; true if what was held had to be dropped because the server's past is another one. */
  enter({ epoch, head, you, resumed }) {
    const isOurPast = resumed === "whole" || resumed === "gap";
    const hadEvents = !this.isEmpty;
    this.you = you;
    this.#epoch = epoch;
    this.#head = head;
    if (isOurPast) return false;
    this.#forgetAll();
    this.#enteredHead = head;
    return hadEvents;
  }

  /** Takes events in any order; each is marked `isForMe` if somebody else names me in it, or replies to me. */
  merge(events) {
    for (const event of events) this.#insert(event);
  }

  /** Takes the answer to a question for what is older than everything held. */
  mergeOlder({ events, more_before }) {
    this.merge(events);
    if (!more_before) this.#oldestStored = this.oldest;
  }

  /** Takes what a reply answers; null if there is no such message. */
  addSource(seq, event) {
    this.#sources.set(seq, event);
    for (const reply of this.#events) if (reply.reply_to === seq) reply.isForMe = this.#isForMe(reply);
    if (this.#sources.size > MAX_SOURCES) this.#sources.delete(this.#sources.keys().next().value);
  }

  // Noticing

  /** Puts a small line after the newest message; `content` is added to one of its kind that stands there already. */
  notice(kind, content, at = Date.now()) {
    const last = this.#notices.at(-1);
    if (last?.kind === kind && last.after === this.newest) {
      last.content = last.content.concat(content).slice(kind === "note" ? -MAX_NOTES : -MAX_CHANGES);
      last.at = at;
      return;
    }
    this.#lastNotice += 1;
    this.#notices.push({ key: `n${this.#lastNotice}`, kind, content, at, after: this.newest });
    this.#notices = this.#notices.slice(-MAX_NOTICES);
  }

  // Forgetting

  /** Forgets the events that are not to be kept: what is asked for again can be loaded. */
  keep(isKept) {
    this.#events = this.#events.filter(isKept);
  }

  // Internal

  #forgetAll() {
    this.#events = [];
    this.#notices = [];
    this.#sources.clear();
    this.#oldestStored = 1;
  }

  // The commonest case by far is the next event.
  #insert(event) {
    event.isForMe = this.#isForMe(event);
    if (event.seq > this.newest) this.#events.push(event);
    else this.#insertWithin(event);
  }

  #isForMe(event) {
    if (event.text === undefined || this.isMine(event)) return false;
    const source = event.reply_to && this.source(event.reply_to);
    return Boolean(source && this.isMine(source)) || mentionsName(event.text, this.you.name);
  }

  #insertWithin(event) {
    const index = this.indexOf(event.seq);
    if (this.#events[index]?.seq !== event.seq) this.#events.splice(index, 0, event);
  }
}
