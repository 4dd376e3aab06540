/*
 * What stands in the log, row by row: messages in groups, days, gaps, notices.
 *
 * Each row has a `key` that is its own for good and a `stamp` that changes when it has to be painted anew.
 * A pure function of the timeline: knows no DOM.
 */

import { counted, dayKey, dayName, isolated, listed } from "./words.js";

const GROUP_MS = 5 * 60 * 1000; // messages of one author nearer than this stand under one byline

/** The rows for `events` (a stretch of `timeline`), with its notices and pending messages at the end if `isAtEnd`. */
export function rowsOf(timeline, events, { isAtEnd, filling = null }) {
  const rows = [];
  const notices = noticesWithin(timeline.notices, events, isAtEnd);
  let previous = null;
  for (const event of events) {
    if (previous && event.seq !== previous.seq + 1) rows.push(gapRow(previous.seq, event.seq, filling));
    while (notices.length && notices[0].after < event.seq) rows.push(noticeRow(notices.shift()));
    addMessage(rows, event, timeline);
    previous = event;
  }
  rows.push(...notices.map(noticeRow));
  if (isAtEnd) for (const say of timeline.pending) addMessage(rows, say, timeline);
  return rows.filter((row) => row.stamp !== "");
}

function noticesWithin(notices, events, isAtEnd) {
  const first = events[0]?.seq ?? 0;
  const last = isAtEnd ? Infinity : events.at(-1)?.seq;
  return notices.filter(({ after }) => after >= first - 1 && after < last);
}

function addMessage(rows, message, timeline) {
  // An event of a kind this page does not know keeps its place among the seqs, and shows nothing.
  if (message.text === undefined) return;
  const above = rows.at(-1);
  if (!isSameDay(lastMessage(rows), message)) rows.push(dayRow(message.at));
  const isContinued = rows.at(-1) === above && continues(above, message);
  rows.push(messageRow(message, timeline.isMine(message), isContinued ? above.groupAt : null));
}

const lastMessage = (rows) => rows.findLast((row) => row.kind === "message")?.message;

const isSameDay = (earlier, message) => earlier !== undefined && dayKey(earlier.at) === dayKey(message.at);

function continues(above, { by, at }) {
  if (above?.kind !== "message") return false;
  const earlier = above.message;
  return earlier.by.id === by.id && earlier.by.name === by.name && at - above.groupAt < GROUP_MS;
}

function messageRow(message, isMine, groupAt) {
  const state = message.state ?? "stored";
  const isContinued = groupAt !== null;
  return {
    kind: "message",
    key: message.client_id ?? `m${message.seq}`,
    stamp: `${state}|${isMine}|${isContinued}|${message.seq}`,
    message,
    state,
    isMine,
    isContinued,
    groupAt: groupAt ?? message.at,
  };
}

function dayRow(at) {
  return { kind: "day", key: `d${dayKey(at)}`, stamp: dayName(at), text: dayName(at), at };
}

function gapRow(after, before, filling) {
  const missing = before - after - 1;
  const text = `${counted(missing, "message")} ${missing === 1 ? "is" : "are"} not loaded here`;
  const isFilling = filling === after;
  return { kind: "gap", key: `g${before}`, stamp: `${text}|${isFilling}`, text, after, before, isFilling };
}

function noticeRow({ key, kind, content }) {
  const text = NOTICES[kind](content);
  return { kind: "notice", key, stamp: text, text };
}

// How a notice of each kind reads. Presence is netted: who came and went in between is not mentioned.
const NOTICES = {
  presence: (changes) => sentences(netted(changes)),
  note: (sentences_) => sentences_.join(" "),
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
  if (came.length) parts.push(`${listed(came)} came in`);
  if (went.length) parts.push(`${listed(went)} left`);
  return parts.join(", ");
}

/** "Bo is called Bob now": the sentence for a person who changed his name. */
export const renamedSentence = (before, after) => `${isolated(before)} is called ${isolated(after)} now.`;
