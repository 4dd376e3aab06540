/*
 * What is heard from the server, read and checked: every frame of chatroom.v1 that the page relies on (docs/protocol.md).
 *
 * Whoever gets a frame from here need not look twice at it. The wire only grows, so unknown types and unknown fields pass;
 * of an event of an unknown type only its place does.
 * Knows no socket, no room and no DOM.
 */

const LATEST_MS = 8.64e15; // no Date is later

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
const isWait = (value) => Number.isFinite(value) && value >= 0;

const optional = (isRight) => (value) => value === undefined || isRight(value);
const listOf = (isRight) => (value) => Array.isArray(value) && value.every(isRight);

function shape(fields) {
  const checks = Object.entries(fields);
  return (value) => typeof value === "object" && value !== null && checks.every(([name, isRight]) => isRight(value[name]));
}

const isFrame = shape({ type: isText });
const isPerson = shape({ id: isText, name: isText });
const isPlaced = shape({ type: isText, seq: isSeq, at: isMoment });
const isSaid = shape({ by: isPerson, text: isText, reply_to: optional(isSeq) });
const isEvent = (event) => isPlaced(event) && (event.type !== "message" || isSaid(event));

// A Map, not an object: a type may be called `constructor`.
const SHAPES = new Map([
  ["message", isEvent],
  ["welcome", shape({
    epoch: isText, head: isCount, you: isPerson, present: isCount, resumed: optional(isText), limits: shape({ text: isCount }),
  })],
  ["ack", shape({ client_id: isText, seq: isSeq })],
  ["presence", shape({
    present: isCount, joined: optional(listOf(isPerson)), left: optional(listOf(isText)), renamed: optional(listOf(isPerson)),
  })],
  ["you", isPerson],
  ["typing", shape({ by: isPerson })],
  ["page", shape({ events: listOf(isEvent), more_before: isFlag, more_after: isFlag })],
  ["people", shape({ total: isCount, people: listOf(isPerson) })],
  ["status", shape({ storing: isFlag })],
  ["bye", shape({ retry_after: isWait })],
  ["error", shape({ code: isText, message: isText, client_id: optional(isText), retry_after: optional(isWait) })],
]);

// Internal

function parsed(data) {
  try {
    return isText(data) ? JSON.parse(data) : null;
  } catch {
    return null;
  }
}

function understood(frame) {
  if (frame.type === "page") return { ...frame, events: frame.events.map(understoodEvent) };
  return hasPlace(frame) ? understoodEvent(frame) : frame;
}

// Whatever else an unknown kind of event has, a field called `text` or `by` in it need not be one.
const understoodEvent = (event) => (event.type === "message" ? event : { type: event.type, seq: event.seq, at: event.at });

const told = new Set();

function refused(what) {
  if (!told.has(what)) console.warn(`The server sent ${what}. It is passed over, and so is all that follows of this kind.`);
  told.add(what);
  return null;
}
