/*
 * What stands in the log, row by row: messages in groups, days, the unread line, gaps, sums, notices, what was removed.
 *
 * Each row has a `key` that is its own for good and a `stamp` that changes when it has to be painted anew; the reactions
 * to a message have a stamp of their own, as they come and go while it is being read.
 * A pure function of what is held: knows no DOM.
 */

import { actSentence } from "./actwords.js";
import { dayKey, dayName, listed, t } from "./words.js";

const GROUP_MS = 5 * 60 * 1000; // messages of one author nearer than this stand under one byline
const FOLD_LINES = 14;
const FOLD_LENGTH = 1400;
const MAX_PENDING = 100;

/**
 * The rows for a `stretch` of a `timeline`, with `pending` says at its end if it is the room's. `marks` are the reader's:
 * `unreadAfter` (a seq, or null), `unfolded` (keys of long messages shown whole), `filling` (the gap being loaded),
 * `isLeaving(seq)` tells which message is about to be deleted, `roleOf(id)` and `reactionsTo(message)` what stands beside it.
 */
export function rowsOf(timeline, stretch, pending, marks) {
  const rows = new Rows(timeline, stretch.sums, marks);
  const { events, isAtEnd } = stretch;
  const notices = noticesWithin(timeline.notices, events, isAtEnd);
  let before = Math.max(Math.min(stretch.first, events[0]?.seq ?? Infinity), timeline.oldestStored) - 1;
  for (const event of events) {
    rows.addHole(before, event.seq);
    while (notices.length && notices[0].after < event.seq) rows.addNotice(notices.shift());
    rows.addEvent(event, before);
    before = event.seq;
  }
  if (isAtEnd) rows.addHole(before, timeline.newest + 1);
  notices.forEach((notice) => rows.addNotice(notice));
  if (isAtEnd) rows.addPending(pending);
  return rows.all;
}

function noticesWithin(notices, events, isAtEnd) {
  const first = events[0]?.seq ?? 0;
  const last = isAtEnd ? Infinity : events.at(-1)?.seq;
  return notices.filter(({ after }) => after >= first - 1 && after < last);
}

class Rows {
  #rows = [];
  #timeline;
  #sums;
  #marks;
  #lastMessage = null;
  #hasUnreadLine = false;

  constructor(timeline, sums, marks) {
    this.#timeline = timeline;
    this.#sums = sums;
    this.#marks = marks;
  }

  get all() {
    return this.#rows;
  }

  /** What lies between two seqs, both exclusive: summed up, removed, or not loaded. */
  addHole(after, before) {
    let at = after + 1;
    if (at >= before) return;
    for (const sum of this.#sums.filter(({ first, last }) => last >= at && first < before)) {
      this.#addSilence(at, sum.first);
      const last = Math.min(sum.last, before - 1);
      if (last > this.#marks.unreadAfter) this.#addUnreadLine(at - 1);
      this.#rows.push(sumRow(Math.max(sum.first, at), last, sum));
      at = last + 1;
    }
    this.#addSilence(at, before);
  }

  addNotice(notice) {
    const row = noticeRow(notice);
    if (row.text) this.#rows.push(row);
  }

  addPending(says) {
    const older = says.length - MAX_PENDING;
    if (older > 0) this.#rows.push(noticeRow({ key: "waiting", kind: "note", content: [t("log.waiting", { n: older })] }));
    for (const say of says.slice(-MAX_PENDING)) this.#addMessage(say);
  }

  /** `before` is the seq up to which everything is shown, summed up, or a gap. */
  addEvent(event, before) {
    if (event.type === "message") this.#addMessage(event, before);
    else this.#addAct(event);
  }

  // Internal

  #addMessage(message, before) {
    const above = this.#rows.at(-1);
    if (message.seq > this.#marks.unreadAfter && !this.#timeline.isMine(message)) this.#addUnreadLine(before);
    if (!isSameDay(this.#lastMessage, message)) this.#rows.push(dayRow(message.at));
    const isContinued = this.#rows.at(-1) === above && continues(above, message);
    this.#rows.push(this.#messageRow(message, isContinued ? above.groupAt : null));
    this.#lastMessage = message;
  }

  #addAct(event) {
    const text = actSentence(event, this.#timeline.rulesBefore(event));
    if (text) this.#rows.push({ kind: "notice", key: `e${event.seq}`, stamp: text, text });
  }

  /** What lies from `at` on before `before`, and is not summed up. */
  #addSilence(at, before) {
    for (const { first, last, gone } of at < before ? this.#timeline.silenceWithin(at, before - 1) : []) {
      this.#addGap(at, first);
      if (gone > 0) this.#rows.push(removedRow(first, gone));
      at = last + 1;
    }
    this.#addGap(at, before);
  }

  #addGap(at, before) {
    if (at < before) this.#rows.push(gapRow(at - 1, before, this.#marks.filling));
  }

  // Where the line would stand before what is not loaded, there is none.
  #addUnreadLine(before) {
    const { unreadAfter } = this.#marks;
    if (this.#hasUnreadLine || unreadAfter === null) return;
    this.#hasUnreadLine = true;
    if (this.#rows.length === 0 && before > unreadAfter) return;
    this.#rows.push({ kind: "unread", key: "unread", stamp: "unread", text: t("log.unread") });
  }

  #messageRow(message, groupAt) {
    const reactions = message.seq ? this.#marks.reactionsTo(message) : [];
    const row = {
      kind: "message",
      key: message.client_id ?? `m${message.seq}`,
      message,
      me: this.#timeline.you.name,
      state: message.seq ? "stored" : message.state,
      isMine: this.#timeline.isMine(message),
      isContinued: groupAt !== null,
      groupAt: groupAt ?? message.at,
      source: message.reply_to && this.#timeline.source(message.reply_to),
      waits_s: waits_s(message),
      fold: this.#foldOf(message),
      role: this.#marks.roleOf(message.by.id),
      isLeaving: this.#marks.isLeaving(message.seq),
      reactions,
      reacted: reactions.map(({ kind, n, isMine, who }) => `${kind}${n}${isMine}${who}`).join(),
    };
    return { ...row, stamp: stampOf(row) };
  }

  #foldOf(message) {
    if (!isLong(message.text)) return "none";
    return this.#marks.unfolded.has(message.client_id ?? `m${message.seq}`) ? "unfolded" : "folded";
  }
}

function stampOf({ message, me, state, isMine, isContinued, source, waits_s: wait_s, fold, role, isLeaving }) {
  const quoted = source === undefined ? "?" : `${source?.seq}.${source?.edit}`;
  const said = `${message.seq}.${message.edit}`;
  return [state, said, isMine, message.isForMe && me, isContinued, quoted, wait_s, fold, role, isLeaving].join("|");
}

const isSameDay = (earlier, message) => earlier !== null && dayKey(earlier.at) === dayKey(message.at);

function continues(above, { by, at, reply_to }) {
  if (above?.kind !== "message" || reply_to) return false;
  const earlier = above.message;
  return earlier.by.id === by.id && earlier.by.name === by.name && at - above.groupAt < GROUP_MS;
}

/** Whole seconds until a say that came too fast goes out. */
function waits_s({ state, detail }) {
  return state === "held" ? Math.max(1, Math.ceil((detail.until - Date.now()) / 1000)) : 0;
}

function isLong(text) {
  if (text.length > FOLD_LENGTH) return true;
  let lines = 1;
  for (let at = text.indexOf("\n"); at !== -1 && lines <= FOLD_LINES; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines > FOLD_LINES;
}

function dayRow(at) {
  return { kind: "day", key: `d${dayKey(at)}`, stamp: dayName(at), at };
}

function gapRow(after, before, filling) {
  const text = t("gap.missing", { n: before - after - 1 });
  const isFilling = filling === before;
  return { kind: "gap", key: `g${before}`, stamp: `${text}|${isFilling}`, text, after, before, isFilling };
}

/** What was removed leaves one line, however much it was; `first` is the seq of the first of it. */
function removedRow(first, n) {
  const text = t("message.removed", { n });
  return { kind: "removed", key: `x${first}`, stamp: text, text };
}

/** A sum, or the piece of it that lies between messages which are shown. */
function sumRow(first, last, sum) {
  const n = last - first + 1;
  const text = first === sum.first && last === sum.last ? sumText(n - sum.silent, sum) : t("sum.count", { n });
  return { kind: "sum", key: `s${first}`, stamp: text, text, first, last };
}

function sumText(n, { from, to }) {
  const seconds = Math.max(1, Math.round((to - from) / 1000));
  if (seconds < 120) return t("sum.in_time", { n, seconds });
  return t("sum.in_minutes", { n, minutes: Math.round(seconds / 60) });
}

function noticeRow({ key, kind, content }) {
  const text = NOTICES[kind](content);
  return { kind: "notice", key, stamp: text, text };
}

// How a notice of each kind reads. Presence is netted: who came and went in between is not mentioned.
const NOTICES = {
  presence: (changes) => sentences(netted(changes)),
  note: (notes) => notes.join(" "),
};

function netted(changes) {
  const net = new Map();
  for (const { id, name, came } of changes) {
    if (net.has(id) && net.get(id).came !== came) net.delete(id);
    else net.set(id, { name, came });
  }
  return [...net.values()];
}

function sentences(people) {
  const came = people.filter((person) => person.came).map((person) => person.name);
  const went = people.filter((person) => !person.came).map((person) => person.name);
  const parts = [];
  if (came.length) parts.push(t("notice.came", { people: listed(came) }));
  if (went.length) parts.push(t("notice.left", { people: listed(went) }));
  return parts.join(" · ");
}
