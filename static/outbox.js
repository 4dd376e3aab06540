/*
 * What was said here and is not yet known to be stored. The only place that holds it, on the page and in the browser.
 *
 * One say is in flight at a time and the next follows its ack: so the order holds, over lost lines, too. A say that was
 * in flight when the line broke goes out again under the same client_id; the server stores it once. For the same reason
 * every tab of a person may hold the whole queue and send it: whoever is first, it is stored once and in order.
 * What a moderator has to see first is not sent again: it stays until it comes as an event, or is refused.
 * Knows no DOM and no WebSocket: it is given `send` and told what comes back.
 */

import { dropSay, keepSay, keptSay, saysOf } from "./storage.js";

const NOT_STORED_RETRY_S = 2; // a disk that is full or slow is not helped by haste
const ORPHAN_MS = 4000; // what another tab said is left to it for so long
const LONGEST_HOLD_S = 7 * 3600; // slow mode has six at the most; a timer of weeks overflows, and fires at once
const SETTLED = new Set(["failed", "review", "stored"]); // not to be sent, or not again
const HOLDS = new Set(["rate_limited", "slow_mode", "not_stored"]); // what goes out later by itself
const CLOCKS_DIFFER_MS = 60_000; // of this machine and the server
const REMEMBERED_MS = 20 * 60 * 60 * 1000; // the server knows a client_id for 24 h: later a retry could store it twice

/** A name for a say that no other say has. crypto.randomUUID is missing on plain http, getRandomValues is not. */
function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  #says = [];
  #inFlight = null;
  #isLineOpen = false;
  #timer = null;
  #lastAt = 0;
  #room;
  #send;
  #onChange;
  #onFailed;

  /** `send(frame)` is false without a line; `onChange()` hears that something looks different, `onFailed()` of a failure. */
  constructor({ room, send, onChange, onFailed, signal }) {
    this.#room = room;
    this.#send = send;
    this.#onChange = onChange;
    this.#onFailed = onFailed;
    this.#says = saysOf(room).map(waiting);
    signal.addEventListener("abort", () => this.lineLost());
  }

  // Lifecycle

  lineOpened() {
    this.#isLineOpen = true;
    this.#askAfterReviewed();
    this.#next();
  }

  /** What was on its way may be stored all the same. */
  lineLost() {
    this.#isLineOpen = false;
    for (const say of this.#says.filter(isUnderWay)) Object.assign(say, { isUnsure: true, state: "waiting" });
    this.#land();
  }

  // Reading

  /**
   * What stands after the newest event: `{client_id, text, reply_to, at, state, detail}`, state "waiting", "sending",
   * "held" (goes out by itself later), "review" (a moderator has it) or "failed".
   */
  pending(newest) {
    return this.#says.filter(({ seq }) => seq === null || seq > newest);
  }

  // Actions

  say(text, reply_to) {
    this.#lastAt = Math.max(Date.now(), this.#lastAt + 1);
    const say = { room: this.#room, client_id: newClientId(), text, reply_to, at: this.#lastAt };
    keepSay(say);
    this.#says.push({ ...say, state: "waiting", seq: null, isUnsure: false });
    this.#next();
    this.#onChange();
  }

  /** Says once more what failed, as the newest. */
  retry(client_id) {
    const { text, reply_to, failed } = this.#find(client_id);
    this.discard(client_id);
    this.say(text, failed.code === "not_found" ? undefined : reply_to); // what it answered is gone
  }

  discard(client_id) {
    dropSay(client_id);
    this.#remove(client_id);
  }

  /** What is held for `code` need not wait any longer. */
  tryHeld(code) {
    const held = this.#find(this.#inFlight);
    if (held?.state === "held" && held.detail.code === code) this.#again();
  }

  onAck({ client_id, seq }, newest) {
    dropSay(client_id);
    const say = this.#find(client_id);
    // One that was taken for another event has given its name away: it comes as an event of its own.
    const isTaken = say?.isUnsure && say.seq !== null && say.seq !== seq;
    if (say) Object.assign(say, { seq, isUnsure: false, state: "stored" });
    if (seq <= newest || isTaken) this.#remove(client_id);
    this.#landed(client_id);
  }

  onError(error) {
    if (error.client_id === this.#inFlight) this.#onRefused(error);
    else if (error.code === "refused" && this.#find(error.client_id)?.state === "review") this.#fail(error);
    this.#onChange();
  }

  /**
   * An event of one's own has come: returns the client_id of the say that turned into it, if it was said here.
   * One that was on its way when the line broke, or was said in another tab, is known by its text until its ack comes.
   */
  claim(event) {
    const say = this.#says.find(({ seq }) => seq === event.seq) ?? this.#twinOf(event);
    if (!say) return undefined;
    if (say.state === "review") this.discard(say.client_id);
    else if (say.isUnsure) say.seq = event.seq;
    else this.#remove(say.client_id);
    return say.client_id;
  }

  /** Another tab kept or dropped this say. */
  onWrittenElsewhere(client_id) {
    const kept = keptSay(client_id);
    const say = this.#find(client_id);
    if (!kept) this.#settledElsewhere(client_id);
    else if (kept.room === this.#room && !say) this.#adopt(kept);
    else if (say && client_id !== this.#inFlight) Object.assign(say, withFate(kept));
    this.#onChange();
  }

  // Internal

  #find(client_id) {
    return this.#says.find((say) => say.client_id === client_id);
  }

  #remove(client_id) {
    this.#says = this.#says.filter((say) => say.client_id !== client_id);
    this.#onChange();
  }

  #twinOf({ text, reply_to, at }) {
    const isTwin = (say) => say.text === text && say.reply_to === reply_to && !(at < say.at - CLOCKS_DIFFER_MS);
    const mayHaveCome = (say) => say.state === "review" || (say.isUnsure && say.seq === null);
    return this.#says.find((say) => mayHaveCome(say) && isTwin(say));
  }

  #next() {
    if (this.#inFlight || !this.#isLineOpen) return;
    const say = this.#says.find(isDue);
    if (!say || !this.#send(frameOf(say))) return;
    this.#inFlight = say.client_id;
    say.state = "sending";
    if (!say.wasSent) keepSay(recordOf(Object.assign(say, { wasSent: true })));
  }

  // A moderator may have decided while nobody was there to hear it. Said again, it is only answered.
  #askAfterReviewed() {
    const isKnown = ({ state, at }) => state === "review" && Date.now() - at < REMEMBERED_MS;
    for (const say of this.#says.filter(isKnown)) this.#send(frameOf(say));
  }

  #land() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#inFlight = null;
  }

  #landed(client_id) {
    if (client_id !== this.#inFlight) return;
    this.#again();
  }

  #onRefused(error) {
    if (HOLDS.has(error.code)) this.#hold(error);
    else if (error.code === "held") this.#awaitReview(error);
    else this.#fail(error);
  }

  // The held say stays in flight, so that none overtakes it.
  #hold({ client_id, code, retry_after }) {
    const wait_s = retry_after ?? (code === "not_stored" ? NOT_STORED_RETRY_S : 1);
    const wait_ms = Math.min(wait_s, LONGEST_HOLD_S) * 1000 + Math.random() * 100;
    this.#timer = setTimeout(() => this.#again(), wait_ms);
    Object.assign(this.#find(client_id) ?? {}, { state: "held", detail: { code, until: Date.now() + wait_ms } });
  }

  #again() {
    this.#land();
    this.#next();
  }

  #awaitReview({ client_id }) {
    this.#keepFate(client_id, { review: true });
    this.#landed(client_id);
  }

  #fail(error) {
    if (this.#keepFate(error.client_id, { failed: error })) this.#onFailed();
    this.#landed(error.client_id);
  }

  /** Writes down what became of a say; false if there is none of that name. */
  #keepFate(client_id, fate) {
    const say = this.#find(client_id);
    if (!say) return false;
    Object.assign(say, withFate(fate));
    keepSay(recordOf(say));
    return true;
  }

  #adopt(kept) {
    this.#says.push({ ...waiting(kept), isUnsure: true, dueAt: Date.now() + ORPHAN_MS });
    this.#says.sort((a, b) => a.at - b.at);
    setTimeout(() => this.#next(), ORPHAN_MS);
  }

  // Stored, or thrown away: either way it is no longer ours to send.
  #settledElsewhere(client_id) {
    this.#remove(client_id);
    this.#landed(client_id);
  }
}

// One that was only recognised by its text is sent again, too: nothing but its ack is sure.
const isDue = ({ state, dueAt = 0 }) => !SETTLED.has(state) && dueAt <= Date.now();

const isUnderWay = ({ state }) => state === "sending" || state === "held";

function frameOf({ client_id, text, reply_to }) {
  return { type: "say", client_id, text, ...(reply_to && { reply_to }) };
}

function recordOf({ room, client_id, text, reply_to, at, wasSent, failed, review }) {
  return { room, client_id, text, reply_to, at, wasSent, failed, review };
}

/** What is known of a say's fate, and the state it is in by that; none while it may still go out. */
function withFate({ failed, review }) {
  if (failed) return { failed, review: undefined, state: "failed", detail: failed };
  return review ? { review, state: "review" } : {};
}

/** A kept say as it begins its life on this page. */
function waiting(kept) {
  const isForgotten = kept.wasSent && !kept.review && Date.now() - kept.at > REMEMBERED_MS;
  const failed = kept.failed ?? (isForgotten ? { code: "unsure" } : undefined);
  const fate = withFate({ failed, review: kept.review });
  return { ...kept, state: "waiting", ...fate, seq: null, isUnsure: Boolean(kept.wasSent) };
}
