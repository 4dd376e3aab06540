/*
 * The line to the server.
 *
 * Owns the WebSocket, how long to stay away after it is lost, when to come back, whether it is alive, and questions that
 * wait for an answer. Every other frame heard is handed on.
 * Knows no DOM and no message: where to resume stands in the address it is given.
 */

import { pathOf } from "./links.js";
import { sentenceOf, t } from "./words.js";
import { heard } from "./wire.js";

const SUBPROTOCOL = "chatroom.v1";
const BACKOFF_BASE_MS = 1000;
const BACKOFF_CAP_MS = 30_000;
const LONGEST_BIDDEN_S = 3600; // whatever a server asks for, a page comes back within the hour
const STEADY_MS = 10_000; // a line that stood this long was a good one: the next loss starts with a short wait
const WELCOME_MS = 12_000; // the server itself drops a handshake after 10 s
const SLOW_MS = 3000; // an attempt older than this may have begun on a network that is gone
const SILENCE_MS = 15_000; // no frame this long after we asked for one: the line is dead, though nobody said so
const PROBE_MS = 5000; // the same, where somebody looks at the page and waits
const QUIET_MS = 30_000; // so long to twice as long without a frame: the server's pings are hidden from a page, so it asks
const ANSWER_MS = 20_000; // a line may live and yet a question be forgotten
const WHY_MS = 8000;

const FORBIDDEN = 403;
const NO_CLOSE_FRAME = 1006;
const POLICY = 1008; // the one close code after which a client must stay away
const TRY_LATER = 1013;

// What answers each question; every other frame that is asked with is an act.
const QUESTIONS = { history: "page", people: "people", acts: "acts", held: "held", person: "person", order: "order" };
const ACTS = { invite: "invite" }; // the others are done
const ANSWERS = new Set([...Object.values(QUESTIONS), ...Object.values(ACTS), "done", "error"]);
const BARS = new Set(["banned", "locked", "closed"]);

/** A random wait up to a bound that doubles: a crowd that lost its server at once does not come back at once. */
export function backoff_ms(attempt, random = Math.random) {
  return random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** attempt);
}

/**
 * Why a handshake was refused: a browser hides that, so the room's HTTP address is asked, which answers alike.
 * Resolves to `{status, retry_after}` with the wait in seconds, and who is kept out to `{status, code, until, reason}`,
 * too; to null if nothing answers at all.
 */
export async function askWhyRefused(room) {
  try {
    const address = pathOf(`/api/rooms/${encodeURIComponent(room)}/messages?limit=1`);
    const answer = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(WHY_MS) });
    const bar = answer.status === FORBIDDEN ? barOf(await answer.json().catch(() => null)) : null;
    return { status: answer.status, retry_after: seconds(answer.headers.get("Retry-After")), ...bar };
  } catch {
    return null;
  }
}

/** Why somebody is kept out, as far as the answer says it. */
function barOf(answer) {
  const { code, until, reason } = answer ?? {};
  if (!BARS.has(code)) return null;
  return { code, ...(Number.isSafeInteger(until) && { until }), ...(typeof reason === "string" && { reason }) };
}

/** The seconds that a `Retry-After` means: it is a number of them, or a date; 0 if it is missing or neither. */
export function seconds(retry_after, now = Date.now()) {
  const wait_s = /^\d+$/.test(retry_after) ? Number(retry_after) : (Date.parse(retry_after) - now) / 1000;
  return Math.max(0, wait_s) || 0;
}

export class Connection {
  #address;
  #onFrame;
  #onState;
  #whyRefused;
  #now;
  #signal;
  #socket = null;
  #state = { phase: "new" };
  #failures = 0; // since a line stood for a while
  #attempts = 0;
  #startedAt = 0;
  #openedAt = 0;
  #retry_after = 0;
  #out = null; // what the server said before it closed the line for good
  #comeBack = null;
  #watch = null;
  #isSignDue = false;
  #questions = new Map();
  #lastRef = 0;

  /**
   * `address()` gives the URL for each attempt; `onState` hears `{phase}`: "connecting", "open", "away" (with `until`,
   * `why`, and `bidden` if the server set the wait), "out" (put out or kept out of the room, with `why`, `reason`, and
   * `until` if it comes back by itself then) or "ended" (with `why`; it will not come back by itself).
   * `why` is "lost", "unreachable", "full" or "blocked" while away, "kick", "ban", "revoke", "locked" or "closed" while
   * out, and a sentence at the end.
   * `now()` is the server's time. Once `signal` aborts nothing is heard any more, and what was asked fails with its reason.
   */
  constructor({ address, onFrame, onState, whyRefused, now = Date.now, signal }) {
    this.#address = address;
    this.#onFrame = onFrame;
    this.#onState = onState;
    this.#whyRefused = whyRefused;
    this.#now = now;
    this.#signal = signal;
    signal?.addEventListener("abort", () => this.#leaveForGood());
  }

  // Lifecycle

  open() {
    if (this.#signal?.aborted) return;
    this.#leave();
    this.#attempts += 1;
    this.#startedAt = Date.now();
    this.#become({ phase: "connecting" });
    const socket = new WebSocket(this.#address(), [SUBPROTOCOL]);
    let isAccepted = false;
    socket.onopen = () => { isAccepted = true; };
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code }) => (isAccepted ? this.#lost(code) : this.#refused());
    this.#socket = socket;
    this.#expectWithin(WELCOME_MS);
  }

  /** Comes back at once, unless the server itself asked for the wait. */
  retryNow() {
    const { phase, bidden } = this.#state;
    if ((phase === "away" && !bidden) || (phase === "connecting" && this.#isStuck)) this.open();
  }

  /** Somebody asks for the line at once: whoever was put out of the room wants to come in again, too. */
  insist() {
    if (this.#state.phase === "out") this.open();
    else this.retryNow();
  }

  /** For when the tab or the network comes back: the line may be long dead, so it is asked for a sign of life. */
  probe() {
    if (!this.isOpen) return this.retryNow();
    this.ask({ type: "people", limit: 1 }).catch(() => {});
    this.#expectWithin(PROBE_MS);
  }

  // Actions

  get isOpen() {
    return this.#state.phase === "open";
  }

  /** Sends a frame that is answered; false if there is no line to send it on. */
  send(frame) {
    if (!this.tell(frame)) return false;
    if (!this.#isSignDue) this.#expectWithin(SILENCE_MS);
    return true;
  }

  /** Sends a frame that nobody answers. */
  tell(frame) {
    if (!this.isOpen || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /**
   * Sends a question or an act and resolves to its answer; one refused for haste is asked again when its time has come.
   * An error's `message` is a sentence for people, its `code` the server's. What was asked on a line that broke is not
   * asked again: an act may have been done all the same, which its error then says.
   */
  ask(question) {
    this.#lastRef += 1;
    const frame = { ...question, ref: `r${this.#lastRef}` };
    return new Promise((resolve, reject) => {
      this.#questions.set(frame.ref, { frame, resolve, reject, timer: null });
      this.#pose(frame.ref);
    });
  }

  // Internal

  #become(state) {
    this.#state = state;
    this.#onState(state);
  }

  // Refused already, or begun so long ago that it may never end.
  get #isStuck() {
    return !this.#socket || Date.now() - this.#startedAt > SLOW_MS;
  }

  // What is heard

  #hear(data) {
    const frame = heard(data);
    // The first frame is `welcome`, and no other is.
    if (!frame || (frame.type === "welcome") === this.isOpen) return;
    this.#relax();
    if (frame.type === "welcome") this.#welcomed();
    if (frame.type === "bye") this.#retry_after = frame.retry_after;
    if (frame.type === "out") this.#out = frame;
    if (isAnswer(frame)) this.#answered(frame);
    else this.#onFrame(frame);
  }

  #welcomed() {
    this.#openedAt = Date.now();
    this.#become({ phase: "open" });
  }

  // Whether the line is alive: one timer waits for a sign of life that is due or, if none is, for a long quiet to end.

  #expectWithin(wait_ms) {
    this.#isSignDue = true;
    this.#watchFor(wait_ms, () => this.#lost(NO_CLOSE_FRAME));
  }

  // Random, so that a room that falls quiet does not ask with one voice.
  #relax() {
    this.#isSignDue = false;
    this.#watchFor(QUIET_MS * (1 + Math.random()), () => this.ask({ type: "people", limit: 1 }).catch(() => {}));
  }

  #watchFor(wait_ms, act) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(act, wait_ms);
  }

  // Questions

  #pose(ref) {
    const question = this.#questions.get(ref);
    if (!this.send(question.frame)) this.#giveUp(ref, this.#noLine());
    else question.timer = setTimeout(() => this.#giveUp(ref, failure(t("line.no_answer"))), ANSWER_MS);
  }

  // An answer to what was given up meanwhile is nobody's.
  #answered(frame) {
    const question = this.#questions.get(frame.ref);
    if (!question) return;
    if (frame.type === "error") this.#denied(question, frame);
    else if (frame.type === answerTo(question.frame)) this.#take(question, frame);
  }

  #denied(question, error) {
    if (error.code === "rate_limited") this.#askLater(question, error.retry_after ?? 1);
    else this.#giveUp(error.ref, failure(sentenceOf(error), error.code, error));
  }

  #take({ frame, timer, resolve }, answer) {
    clearTimeout(timer);
    this.#questions.delete(frame.ref);
    resolve(answer);
  }

  #askLater(question, wait_s) {
    clearTimeout(question.timer);
    question.timer = setTimeout(() => this.#pose(question.frame.ref), bounded_ms(wait_s));
  }

  #giveUp(ref, error) {
    const { timer, reject } = this.#questions.get(ref);
    clearTimeout(timer);
    this.#questions.delete(ref);
    reject(error);
  }

  #brokenOff(frame) {
    const isUnsure = !(frame.type in QUESTIONS) && !this.#signal?.aborted;
    return isUnsure ? failure(t("line.act_unsure"), "act_unsure") : this.#noLine();
  }

  #noLine() {
    return this.#signal?.aborted ? this.#signal.reason : failure(t("line.none"), "no_line");
  }

  // When it is gone

  // Nobody is told: whoever aborted knows.
  #leaveForGood() {
    this.#state = { phase: "left" };
    this.#leave();
  }

  // A closing handshake on a dead network takes minutes: the socket is left behind, not waited for.
  #leave() {
    clearTimeout(this.#comeBack);
    clearTimeout(this.#watch);
    for (const [ref, { frame }] of [...this.#questions]) this.#giveUp(ref, this.#brokenOff(frame));
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #lost(code) {
    if (this.isOpen && Date.now() - this.#openedAt > STEADY_MS) this.#failures = 0;
    this.#leave();
    if (this.#out) this.#stayOut(this.#out);
    else if (code === POLICY) this.#end(t("line.away"));
    else this.#stayAway({ retry_after: this.#retry_after, why: code === TRY_LATER ? "full" : "lost" });
  }

  async #refused() {
    this.#leave();
    const attempt = this.#attempts;
    const answer = await this.#whyRefused();
    // Meanwhile the room was left, or somebody asked to try again.
    if (!this.#signal?.aborted && this.#attempts === attempt) this.#judge(answer);
  }

  #judge(answer) {
    const { status, retry_after, code } = answer ?? {};
    if (code) this.#stayOut({ ...answer, why: code === "banned" ? "ban" : code });
    else if (status === 429 || status === 503) this.#stayAway({ retry_after, why: "full" });
    else if (status === 400) this.#end(t("line.refused")); // the room's name: no later try is better
    else this.#stayAway({ why: status < 400 ? "blocked" : "unreachable" });
  }

  #end(why) {
    this.#become({ phase: "ended", why });
  }

  #stayOut({ why, until, reason = "" }) {
    this.#out = null;
    const here = until && until - this.#now() + Date.now();
    this.#become({ phase: "out", why, reason, ...(until && { until: here }) });
    if (until) this.#comeBackAt(here);
  }

  // In steps, as it may lie further off than a timer reaches; not before a moment, as the server's clock may be behind.
  #comeBackAt(until) {
    const left_ms = until - Date.now();
    const isFar = left_ms > LONGEST_BIDDEN_S * 1000;
    const wait_ms = isFar ? LONGEST_BIDDEN_S * 1000 : Math.max(left_ms, 0) + backoff_ms(this.#failures);
    this.#failures += isFar ? 0 : 1;
    this.#comeBack = setTimeout(() => (isFar ? this.#comeBackAt(until) : this.open()), wait_ms);
  }

  #stayAway({ retry_after = 0, why }) {
    const bidden = retry_after > 0;
    const wait_ms = bidden ? bounded_ms(retry_after) : backoff_ms(this.#failures);
    this.#failures += 1;
    this.#retry_after = 0;
    this.#comeBack = setTimeout(() => this.open(), wait_ms);
    this.#become({ phase: "away", until: Date.now() + wait_ms, why, bidden });
  }
}

const isAnswer = ({ type, ref }) => ref !== undefined && ANSWERS.has(type);

const answerTo = ({ type }) => QUESTIONS[type] ?? ACTS[type] ?? "done";

/** `said`: the server's own words, for where they tell more than what an error of this kind is called here. */
const failure = (sentence, code, { retry_after, message: said } = {}) => Object.assign(new Error(sentence), { code, retry_after, said });

const bounded_ms = (wait_s) => Math.min(wait_s, LONGEST_BIDDEN_S) * 1000;
