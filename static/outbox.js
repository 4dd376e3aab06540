/*
 * What was said here and is not yet known to be stored. The only place that holds it, on the page and in the browser.
 *
 * One say is in flight at a time and the next follows its ack: so the order holds, over lost lines, too. A say that was
 * in flight when the line broke goes out again under the same client_id; the server stores it once. For the same reason
 * every tab of a person may hold the whole queue and send it: whoever is first, it is stored once and in order.
 * Knows no DOM and no WebSocket: it is given `send` and told what comes back.
 */

import { dropSay, keepSay, keptSay, saysOf } from "./storage.js";

const NOT_STORED_RETRY_S = 2; // a disk that is full or slow is not helped by haste
const ORPHAN_MS = 4000; // what another tab said is left to it for so long
const LONGEST_HOLD_S = 3600; // a longer timer overflows, and fires at once
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
    this.#next();
  }

  /** What was on its way may be stored all the same. */
  lineLost() {
    this.#isLineOpen = false;
    for (const say of this.#says.filter(isUnderWay)) Object.assign(say, { isUnsure: true, state: "waiting" });
    this.#land();
  }

  // Reading

  /** What stands after the newest event: `{client_id, text, reply_to, at, state, detail}`, state "waiting", "sending", "held" or "failed". */
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
    const { text, reply_to } = this.#find(client_id);
    this.discard(client_id);
    this.say(text, reply_to);
  }

  discard(client_id) {
    dropSay(client_id);
    this.#remove(client_id);
  }

  /** The log takes messages again: what waits for it need not wait any longer. */
  storingAgain() {
    if (this.#timer) this.#again();
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
    if (error.client_id !== this.#inFlight) return;
    if (error.code === "rate_limited") this.#hold(error, error.retry_after ?? 1);
    else if (error.code === "not_stored") this.#hold(error, error.retry_after ?? NOT_STORED_RETRY_S);
    else this.#fail(error);
    this.#onChange();
  }

  /**
   * An event of one's own has come: returns the client_id of the say that turned into it, if it was said here.
   * One that was on its way when the line broke, or was said in another tab, is known by its text until its ack comes.
   */
  claim(event) {
    const say = this.#says.find(({ seq }) => seq === event.seq) ?? this.#twinOf(event);
    if (!say) return undefined;
    if (say.isUnsure) say.seq = event.seq;
    else this.#remove(say.client_id);
    return say.client_id;
  }

  /** Another tab kept or dropped this say. */
  onWrittenElsewhere(client_id) {
    const kept = keptSay(client_id);
    if (!kept) this.#settledElsewhere(client_id);
    else if (kept.room === this.#room && !this.#find(client_id)) this.#adopt(kept);
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
    return this.#says.find((say) => say.isUnsure && say.seq === null && isTwin(say));
  }

  #next() {
    if (this.#inFlight || !this.#isLineOpen) return;
    const say = this.#says.find(isDue);
    if (!say || !this.#send(frameOf(say))) return;
    this.#inFlight = say.client_id;
    say.state = "sending";
    if (!say.wasSent) keepSay(recordOf(Object.assign(say, { wasSent: true })));
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

  // The held say stays in flight, so that none overtakes it.
  #hold({ client_id, code }, wait_s) {
    const wait_ms = Math.min(wait_s, LONGEST_HOLD_S) * 1000 + Math.random() * 100;
    this.#timer = setTimeout(() => this.#again(), wait_ms);
    Object.assign(this.#find(client_id) ?? {}, { state: "held", detail: { code, until: Date.now() + wait_ms } });
  }

  #again() {
    this.#land();
    this.#next();
  }

  #fail(error) {
    const say = this.#find(error.client_id);
    if (say) {
      Object.assign(say, { state: "failed", detail: error, failed: error });
      keepSay(recordOf(say));
      this.#onFailed();
    }
    this.#again();
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
const isDue = ({ state, dueAt = 0 }) => state !== "failed" && state !== "stored" && dueAt <= Date.now();

const isUnderWay = ({ state }) => state === "sending" || state === "held";

function frameOf({ client_id, text, reply_to }) {
  return { type: "say", client_id, text, ...(reply_to && { reply_to }) };
}

function recordOf({ room, client_id, text, reply_to, at, wasSent, failed }) {
  return { room, client_id, text, reply_to, at, wasSent, failed };
}

/** A kept say as it begins its life on this page. */
function waiting(kept) {
  const isForgotten = kept.wasSent && Date.now() - kept.at > REMEMBERED_MS;
  const failed = kept.failed ?? (isForgotten ? { code: "unsure" } : undefined);
  const state = failed ? "failed" : "waiting";
  return { ...kept, state, failed, detail: failed, seq: null, isUnsure: Boolean(kept.wasSent) };
}
