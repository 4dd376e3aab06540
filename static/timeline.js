/*
 * The events of the room as this page knows them. The only place that holds them.
 *
 * Owns the events that are seen, by seq, the small notices between, and the sources of replies that are not among the
 * events. Of all other events only the place is held (silence.js): what they changed was changed. Merges in any order,
 * holds nothing twice. A hole in the seqs is a gap: nothing else marks one, so forgetting is always honest.
 * What is gone stays gone: neither a page that was answered before, nor an old act brings anything back.
 * Knows no DOM and no connection.
 */

import { mentionsName } from "./mentions.js";
import { Silence } from "./silence.js";

const MAX_NOTICES = 50;
const MAX_CHANGES = 200; // of who came and went, in one line
const MAX_NOTES = 10;
const MAX_SOURCES = 300;
const MAX_NEWS = 500; // of messages that are not held: a page that was asked for may yet bring them as they were
const MAX_DELETED = 5000;

export class Timeline {
  #events = [];
  #silence = new Silence();
  #notices = [];
  #sources = new Map();
  #news = new Map(); // message → {edit, reactions}: the newest acts that concern what is not held
  #deleted = new Set();
  #purged = new Map(); // person → up to which seq
  #rules = null; // as they were before the next event
  #rulesAtHead = null;
  #epoch = null;
  #head = 0;
  #enteredHead = 0;
  #oldestStored = 1;
  #trimmed = 1; // nothing below it is stored any more
  #lastNotice = 0;
  you = { id: "", name: "" };

  #acts = {
    __proto__: null, // an event may be of any type
    edit: (event) => this.#edit(event),
    delete: (event) => this.#delete(event),
    purge: (event) => this.#purge(event),
    reactions: (event) => event.changes.forEach((change) => this.#react(change, event)),
    trim: (event) => this.#trim(event),
  };

  // Reading

  get events() {
    return this.#events;
  }

  get notices() {
    return this.#notices;
  }

  get newest() {
    return Math.max(this.#events.at(-1)?.seq ?? 0, this.#silence.newest);
  }

  get oldest() {
    return Math.min(this.#events[0]?.seq ?? this.head + 1, this.#silence.oldest);
  }

  /** The oldest seq that may be stored. */
  get oldestStored() {
    return Math.max(this.#oldestStored, this.#trimmed);
  }

  /** True if there may be something before `seq` that can be asked for. */
  hasBefore(seq) {
    return seq > this.oldestStored;
  }

  get isEmpty() {
    return this.newest === 0;
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

  /** The event `seq`, if it is held and to be seen. */
  at(seq) {
    const event = this.#events[this.indexOf(seq)];
    return event?.seq === seq ? event : undefined;
  }

  /** What is held between two seqs (inclusive) and shows nothing: `{first, last, gone}`, `gone` messages stood there. */
  silenceWithin(first, last) {
    return this.#silence.within(first, last);
  }

  /** The first seq from `seq` on at which something is to be seen, as far as that is known. */
  pastSilence(seq) {
    return this.#silence.past(seq);
  }

  /** True if it is known that no message stands at `seq`, or none any more. */
  isGone(seq) {
    return seq < this.#trimmed || this.#deleted.has(seq) || this.#silence.has(seq);
  }

  /** The message a reply answers: an event, null if it is not there, undefined if that has yet to be asked. */
  source(seq) {
    const held = this.at(seq);
    if (held) return held.type === "message" ? held : null;
    return this.isGone(seq) ? null : this.#sources.get(seq);
  }

  /** The rules that an event `rules` replaced; null if they are not known. */
  rulesBefore({ seq, was }) {
    const before = was ?? this.#events.findLast((event) => event.seq < seq && event.type === "rules")?.rules;
    return before ?? (this.oldest === 1 ? {} : null);
  }

  /** How many messages of others came after `seq`; what is in a gap counts, whoever said it. */
  countAfter(seq) {
    if (seq >= this.newest) return 0;
    const later = this.#events.slice(this.indexOf(seq + 1));
    const missing = Math.max(0, this.newest - seq - later.length - this.#silence.countFrom(seq + 1));
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

  /** The log goes on in another epoch, if one is given: all that is held here is there, too. */
  goOnIn(epoch) {
    this.#epoch = epoch ?? this.#epoch;
  }

  /** Takes a `welcome`; true if what was held had to be dropped because the server's past is another one. */
  enter({ epoch, head, you, rules, resumed }) {
    const isOurPast = resumed === "whole" || resumed === "gap";
    const hadEvents = !this.isEmpty;
    this.you = you;
    this.#epoch = epoch;
    this.#head = head;
    this.#rulesAtHead = rules;
    if (resumed !== "whole") this.#rules = null;
    if (isOurPast) return false;
    this.#forgetAll();
    this.#enteredHead = head;
    return hadEvents;
  }

  /**
   * Takes events in any order; each message is marked `isForMe` if somebody else names me in it, or replies to me.
   * Those of a page are as they were when it was answered: not before `asOf`, the head when it was asked for.
   */
  merge(events, asOf = 0) {
    for (const event of events) this.#take(event, Math.max(event.seq, asOf));
  }

  /** Takes the answer to a question for what is older than everything held. */
  mergeOlder({ events, more_before }, asOf) {
    this.merge(events, asOf);
    if (!more_before) this.#oldestStored = this.oldest;
  }

  /** Takes what a reply answers; null if there is no such message. */
  addSource(seq, event) {
    const isMessage = event?.type === "message" && !this.#wasPurged(event);
    this.#sources.set(seq, isMessage ? this.#asItIs(event, this.head) : null);
    for (const reply of this.#events) if (reply.reply_to === seq) reply.isForMe = this.#isForMe(reply);
    forgetOldest(this.#sources, MAX_SOURCES);
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
    const { newest } = this;
    this.#events = this.#events.filter(isKept);
    this.#silence.keep(({ first, last }) => this.at(first - 1) || this.at(last + 1) || last === newest);
  }

  // Internal: events

  #forgetAll() {
    this.#events = [];
    this.#silence = new Silence();
    this.#notices = [];
    for (const known of [this.#sources, this.#news, this.#deleted, this.#purged]) known.clear();
    this.#oldestStored = this.#trimmed = 1;
  }

  #take(event, asOf) {
    if (event.seq < this.#trimmed) return;
    const held = this.at(event.seq);
    if (held) this.#renew(held, event, asOf);
    else if (!this.#silence.has(event.seq)) this.#insert(event, asOf);
  }

  #insert(event, asOf) {
    const isGone = event.type === "message" && (this.#deleted.has(event.seq) || this.#wasPurged(event));
    if (!isGone && this.#isSeen(event)) this.#show(this.#asItIs(event, asOf));
    else this.#silence.add(event.seq, isGone || this.#deleted.has(event.seq));
    this.#acts[event.type]?.(event);
  }

  // What moderators did with somebody concerns nobody else.
  #isSeen({ type }) {
    return type === "message" || type === "role" || type === "rules" || (type === "act" && Boolean(this.you.role));
  }

  // The commonest case by far is the next event.
  #show(event) {
    if (event.type === "message") event.isForMe = this.#isForMe(event);
    if (event.type === "rules") this.#noteRules(event);
    if (event.seq > (this.#events.at(-1)?.seq ?? 0)) this.#events.push(event);
    else this.#events.splice(this.indexOf(event.seq), 0, event);
  }

  #isForMe(message) {
    if (this.isMine(message)) return false;
    const source = message.reply_to && this.source(message.reply_to);
    return Boolean(source && this.isMine(source)) || mentionsName(message.text, this.you.name);
  }

  #noteRules(event) {
    if (event.seq < this.newest) return;
    event.was = this.#rules ?? (this.isLive(event) ? this.#rulesAtHead : undefined);
    this.#rules = event.rules;
  }

  #wasPurged({ seq, by }) {
    return seq < this.#purged.get(by.id);
  }

  // Internal: acts

  /** The event as it is by all that is known here; `asOf` is the seq up to which it has all that happened to it. */
  #asItIs(event, asOf) {
    event.asOf = asOf;
    const { edit, reactions } = this.#news.get(event.seq) ?? {};
    if (edit) applyEdit(event, edit);
    if (reactions) applyReactions(event, reactions);
    return event;
  }

  /** A page that was asked for later knows better than what is held. */
  #renew(held, event, asOf) {
    if (event.type === "removed") this.#hush([held]);
    if (held.type !== "message" || event.type !== "message") return;
    if (event.edit) this.#applyEdit(held, event);
    applyReactions(held, { seq: asOf, reactions: event.reactions });
  }

  #edit({ seq, at, message, text }) {
    const act = { edit: seq, edited: at, text };
    const source = this.source(message);
    if (source) this.#applyEdit(source, act);
    if (!this.at(message)) this.#addNews(message, "edit", act);
  }

  #react({ message, reactions }, { seq }) {
    const held = this.at(message);
    if (held) applyReactions(held, { seq, reactions });
    else this.#addNews(message, "reactions", { seq, reactions });
  }

  #delete({ message }) {
    if (this.#deleted.has(message)) return;
    this.#deleted.add(message);
    forgetOldest(this.#deleted, MAX_DELETED);
    const held = this.at(message);
    if (held) this.#hush([held]);
    else this.#silence.countGone(message);
    this.#loseSources((seq) => seq === message);
  }

  #purge({ person, seq }) {
    this.#purged.set(person, Math.max(seq, this.#purged.get(person) ?? 0));
    this.#hush(this.#events.filter((event) => event.type === "message" && event.by.id === person && event.seq < seq));
    this.#loseSources((at, source) => at < seq && source?.by.id === person);
  }

  #trim({ before }) {
    this.#trimmed = Math.max(this.#trimmed, before);
    this.#events = this.#events.filter(({ seq }) => seq >= this.#trimmed);
    this.#silence.keep(({ last }) => last >= this.#trimmed);
    this.#loseSources((seq) => seq < this.#trimmed);
  }

  /** Takes messages out; whoever still holds one is told by its `isGone`. */
  #hush(messages) {
    if (messages.length === 0) return;
    for (const message of messages) message.isGone = true;
    this.#events = this.#events.filter((event) => !event.isGone);
    this.#silence.addGone(messages.map(({ seq }) => seq));
  }

  #loseSources(isLost) {
    for (const [seq, source] of this.#sources) if (isLost(seq, source)) this.#sources.set(seq, null);
  }

  #applyEdit(message, act) {
    applyEdit(message, act);
    message.isForMe = this.#isForMe(message);
  }

  // Moved to the end, as the newest.
  #addNews(message, kind, act) {
    const known = this.#news.get(message);
    if (!isNewer(act, known?.[kind])) return;
    this.#news.delete(message);
    this.#news.set(message, { ...known, [kind]: act });
    forgetOldest(this.#news, MAX_NEWS);
  }
}

const isNewer = (act, known) => !known || (act.edit ?? act.seq) > (known.edit ?? known.seq);

/** The seq of its newest edit tells which of two texts of a message is the newer. */
function applyEdit(message, { edit, edited, text }) {
  if (edit > (message.edit ?? 0)) Object.assign(message, { edit, edited, text });
}

function applyReactions(message, { seq, reactions }) {
  if (seq > message.asOf) Object.assign(message, { asOf: seq, reactions });
}

function forgetOldest(known, atMost) {
  if (known.size > atMost) known.delete(known.keys().next().value);
}
