/*
 * What is heard from the server, read and checked: every frame of chatroom.v1 that the page relies on (docs/protocol.md).
 *
 * Whoever gets a frame from here need not look twice at it. The wire only grows, so unknown types and unknown fields pass;
 * of an event of an unknown type only its place does.
 * Knows no socket, no room and no DOM.
 */

const LATEST_MS = 8.64e15; // no Date is later
const FOR_GOOD = -1;

/** An event is known by its place in the log, whatever its type: later kinds must not make holes. */
export const hasPlace = (frame) => "seq" in frame && "at" in frame;

/**
 * The frame in `data`, or null if there is none in it or a field of it is not what the protocol says. The console hears
 * of each kind of fault once: a server that has gone mad must not fill it.
 */
export function heard(data) {
  const frame = parsed(data);
  if (!isFrame(frame)) return refused("something that is no frame");
  const isKnown = SHAPES.has(frame.type);
  if ((isKnown && !SHAPES.get(frame.type)(frame)) || (hasPlace(frame) && !isEvent(frame)))
    return refused(`${isKnown ? frame.type : "an event"} with a bad field`);
  return understood(frame);
}

// Shapes

const isText = (value) => typeof value === "string";
const isFlag = (value) => typeof value === "boolean";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isSeq = (value) => Number.isSafeInteger(value) && value >= 1;
const isMoment = (value) => Number.isInteger(value) && value >= 0 && value <= LATEST_MS;
const isUntil = (value) => value === FOR_GOOD || isMoment(value);
const isWait = (value) => Number.isFinite(value) && value >= 0;
const isRef = (value) => isText(value) || isCount(value);

const optional = (isRight) => (value) => value === undefined || isRight(value);
const orNone = (isRight) => (value) => value === undefined || value === null || isRight(value);
const listOf = (isRight) => (value) => Array.isArray(value) && value.every(isRight);

function shape(fields) {
  const checks = Object.entries(fields);
  return (value) => typeof value === "object" && value !== null && checks.every(([name, isRight]) => isRight(value[name]));
}

const isFrame = shape({ type: isText });
const person = { id: isText, name: isText };
const isPerson = shape(person);
const isRoleOf = shape({ ...person, role: isText });
const me = { ...person, role: optional(isText), muted_until: optional(isMoment), muted_for: optional(isText) };
const isReactions = listOf(shape({ kind: isText, n: isCount, by: listOf(isPerson) }));
const isAnnouncement = shape({ text: isText, by: isPerson, at: isMoment });
const isPattern = shape({ pattern: isText, is_regex: optional(isFlag), action: optional(isText) });

// What a rule is like everywhere is left out.
const isRules = shape({
  slow_s: optional(isCount), read_only: optional(isFlag), locked: optional(isFlag), links: optional(isText),
  announcement: orNone(isAnnouncement), edit_s: optional(isCount), keep_s: optional(isCount), keep_events: optional(isCount),
  raid_until: optional(isMoment),
});

// Maps, not objects: a type may be called `constructor`.

const place = { type: isText, seq: isSeq, at: isMoment };
const isPlaced = shape(place);
const EVENTS = new Map(Object.entries({
  message: {
    by: isPerson, text: isText, reply_to: optional(isSeq), edited: optional(isMoment), edit: optional(isSeq),
    reactions: optional(isReactions),
  },
  edit: { message: isSeq, by: isPerson, text: isText },
  delete: { message: isSeq, by: optional(isPerson) },
  purge: { person: isText, by: optional(isPerson) },
  reactions: { changes: listOf(shape({ message: isSeq, reactions: isReactions })) },
  rules: { by: isPerson, rules: isRules },
  role: { by: isPerson, whom: isPerson, role: isText },
  act: { act: isText, by: isPerson, whom: isPerson, until: optional(isMoment) },
  trim: { before: isSeq },
  removed: {},
}).map(([type, fields]) => [type, shape({ ...place, ...fields })]));

const isEvent = (event) => (EVENTS.get(event?.type) ?? isPlaced)(event);

const isRecord = shape({
  act: isText, by: isPerson, at: optional(isMoment), id: optional(isCount), whom: orNone(isPerson), until: optional(isUntil),
  reason: optional(isText), message: optional(isCount), detail: optional(isText),
});
const isHeldMessage = shape({
  id: isCount, at: isMoment, by: isPerson, text: isText, why: isText, reply_to: optional(isSeq),
});
const isInvite = shape({
  id: isText, by: isPerson, at: isMoment, until: isMoment, uses: isCount, used: optional(isCount), role: optional(isText),
});
const isRestraint = shape({
  act: isText, whom: isPerson, until: isUntil, reason: optional(isText), address: optional(isFlag),
});

const SHAPES = new Map([...EVENTS, ...Object.entries({
  welcome: shape({
    epoch: isText, head: isCount, now: isMoment, you: shape(me), present: isCount, resumed: optional(isText),
    limits: shape({ text: isCount }), rules: isRules, roles: listOf(isRoleOf),
  }),
  ack: shape({ client_id: isText, seq: isSeq }),
  done: shape({ ref: optional(isRef), seq: optional(isSeq) }),
  presence: shape({
    present: isCount, joined: optional(listOf(isPerson)), left: optional(listOf(isText)), renamed: optional(listOf(isPerson)),
  }),
  you: shape(me),
  typing: shape({ by: isPerson }),
  page: shape({ events: listOf(isEvent), more_before: isFlag, more_after: isFlag }),
  people: shape({ total: isCount, people: listOf(isPerson) }),
  status: shape({ storing: isFlag, epoch: optional(isText) }),
  bye: shape({ retry_after: isWait }),
  out: shape({ why: isText, until: optional(isMoment), reason: optional(isText) }),
  error: shape({ code: isText, message: isText, client_id: optional(isText), retry_after: optional(isWait) }),

  // For moderators
  acts: shape({ acts: listOf(isRecord), more: isFlag }),
  waiting: shape({ held: isCount }),
  held: shape({ held: listOf(isHeldMessage) }),
  person: shape({
    ...person, role: isText, here: isFlag, from_address: isCount, events: listOf(isEvent), more_before: isFlag,
    muted_until: optional(isUntil), muted_for: optional(isText),
    banned_until: optional(isUntil), banned_for: optional(isText),
  }),
  invite: shape({ invite: isInvite, path: isText }),
  order: shape({
    rules: isRules, roles: listOf(isRoleOf), restraints: listOf(isRestraint), patterns: listOf(isPattern),
    invites: listOf(isInvite), closed: isFlag, has_password: isFlag, held: isCount,
  }),
})]);

const LISTS = new Set(["page", "person"]); // of events

// Internal

function parsed(data) {
  try {
    return isText(data) ? JSON.parse(data) : null;
  } catch {
    return null;
  }
}

function understood(frame) {
  if (LISTS.has(frame.type)) return { ...frame, events: frame.events.map(understoodEvent) };
  return hasPlace(frame) ? understoodEvent(frame) : frame;
}

// Whatever else an unknown kind of event has, a field called `text` or `by` in it need not be one.
const understoodEvent = (event) => (EVENTS.has(event.type) ? event : { type: event.type, seq: event.seq, at: event.at });

const told = new Set();

function refused(what) {
  if (!told.has(what)) console.warn(`The server sent ${what}. It is passed over, and so is all that follows of this kind.`);
  told.add(what);
  return null;
}
