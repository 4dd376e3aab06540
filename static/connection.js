/*
 * The line to the server.
 *
 * Owns the WebSocket, how long to stay away after it is lost, when to come back, and questions that wait for an answer.
 * Every frame heard is handed on. Knows no DOM and no message: where to resume stands in the address it is given.
 */

const SUBPROTOCOL = "chatroom.v1";
const BACKOFF_BASE_MS = 1000;
const BACKOFF_CAP_MS = 30_000;
const STEADY_MS = 10_000; // a line that stood this long was a good one: the next loss starts with a short wait
const WELCOME_MS = 12_000; // the server itself drops a handshake after 10 s
const SILENCE_MS = 15_000; // no frame this long after we asked for one: the line is dead, though nobody said so
const POLICY = 1008; // the one close code after which a client must stay away

const askedToWait = (status) => status === 429 || status === 503;

/** A random wait up to a bound that doubles: a crowd that lost its server at once does not come back at once. */
export function backoff_ms(attempt, random = Math.random) {
  return random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** attempt);
}

/**
 * Why a handshake was refused: a browser hides that, so the room's HTTP address is asked, which answers alike.
 * Resolves to `{status, retry_after, reason}`, or null if nothing answers at all.
 */
export async function askWhyRefused(room) {
  try {
    const answer = await fetch(`/api/rooms/${encodeURIComponent(room)}/messages?limit=1`, { cache: "no-store" });
    const said = answer.ok ? null : await answer.json().catch(() => null);
    return { status: answer.status, retry_after: Number(answer.headers.get("Retry-After")) || 0, reason: said?.error };
  } catch {
    return null;
  }
}

export class Connection {
  #address;
  #onFrame;
  #onState;
  #whyRefused;
  #socket = null;
  #state = { phase: "new" };
  #attempt = 0;
  #openedAt = 0;
  #retry_after = 0;
  #comeBack = null;
  #deadline = null;
  #questions = new Map();
  #lastRef = 0;

  /**
   * `address()` gives the URL for each attempt; `onState` hears `{phase}`: "connecting", "open", "away" (with `until`,
   * `why`, and `bidden` if the server set the wait) or "ended" (with `why`; it will not come back by itself).
   */
  constructor({ address, onFrame, onState, whyRefused }) {
    this.#address = address;
    this.#onFrame = onFrame;
    this.#onState = onState;
    this.#whyRefused = whyRefused;
  }

  // Lifecycle

  open() {
    this.#leave();
    this.#become({ phase: "connecting" });
    const socket = new WebSocket(this.#address(), [SUBPROTOCOL]);
    let isAccepted = false;
    socket.onopen = () => { isAccepted = true; };
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ code }) => (isAccepted ? this.#lost(code) : this.#refused());
    this.#socket = socket;
    this.#expectWithin(WELCOME_MS);
  }

  /** Comes back at once, unless the server itself asked for the wait. */
  retryNow() {
    if (this.#state.phase === "away" && !this.#state.bidden) this.open();
  }

  /** A laptop that slept may hold a line that is long dead: asks for a sign of life. */
  probe() {
    if (this.#state.phase === "open") this.ask({ type: "people", limit: 1 }).catch(() => {});
    else this.retryNow();
  }

  // Actions

  get isOpen() {
    return this.#state.phase === "open";
  }

  /** Sends a frame that is answered; false if there is no line to send it on. */
  send(frame) {
    if (!this.tell(frame)) return false;
    if (!this.#deadline) this.#expectWithin(SILENCE_MS);
    return true;
  }

  /** Sends a frame that nobody answers. */
  tell(frame) {
    if (!this.isOpen || this.#socket.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(frame));
    return true;
  }

  /** Sends a question and resolves to its answer; one refused for haste is asked again when its time has come. */
  ask(question) {
    this.#lastRef += 1;
    const frame = { ...question, ref: `r${this.#lastRef}` };
    return new Promise((resolve, reject) => {
      this.#questions.set(frame.ref, { frame, resolve, reject });
      if (!this.send(frame)) this.#giveUp(frame.ref);
    });
  }

  // Internal

  #become(state) {
    this.#state = state;
    this.#onState(state);
  }

  #hear(frame) {
    this.#expectNothing();
    if (frame.type === "welcome") this.#welcomed();
    if (frame.type === "bye") this.#retry_after = frame.retry_after;
    if (this.#questions.has(frame.ref)) this.#answered(frame);
    else this.#onFrame(frame);
  }

  #welcomed() {
    this.#openedAt = Date.now();
    this.#become({ phase: "open" });
  }

  #answered(frame) {
    const { frame: asked, resolve, reject } = this.#questions.get(frame.ref);
    if (frame.code === "rate_limited") {
      setTimeout(() => this.#askAgain(asked), (frame.retry_after ?? 1) * 1000);
      return;
    }
    this.#questions.delete(frame.ref);
    if (frame.type === "error") reject(new Error(frame.message));
    else resolve(frame);
  }

  #askAgain(asked) {
    if (this.#questions.has(asked.ref)) this.send(asked);
  }

  #giveUp(ref) {
    this.#questions.get(ref).reject(new Error("There is no connection at the moment."));
    this.#questions.delete(ref);
  }

  #expectWithin(wait_ms) {
    this.#expectNothing();
    this.#deadline = setTimeout(() => this.#lost(1006), wait_ms);
  }

  #expectNothing() {
    clearTimeout(this.#deadline);
    this.#deadline = null;
  }

  // A closing handshake on a dead network takes minutes: the socket is left behind, not waited for.
  #leave() {
    clearTimeout(this.#comeBack);
    this.#expectNothing();
    for (const ref of [...this.#questions.keys()]) this.#giveUp(ref);
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #lost(code) {
    if (Date.now() - this.#openedAt > STEADY_MS && this.isOpen) this.#attempt = 0;
    this.#leave();
    if (code === POLICY) this.#end("The server closed the line and asked this page to stay away.");
    else this.#stayAway({ retry_after: this.#retry_after, why: "lost" });
  }

  async #refused() {
    this.#leave();
    this.#become({ phase: "connecting" });
    const answer = await this.#whyRefused();
    // Meanwhile someone may have asked to try again.
    if (this.#socket) return;
    if (!answer) this.#stayAway({ why: "unreachable" });
    else if (askedToWait(answer.status)) this.#stayAway({ retry_after: answer.retry_after, why: "full" });
    else if (answer.status >= 400 && answer.status < 500) this.#end(answer.reason ?? "The server does not let this page in.");
    else this.#stayAway({ why: "blocked" });
  }

  #end(why) {
    this.#become({ phase: "ended", why });
  }

  #stayAway({ retry_after = 0, why }) {
    const bidden = retry_after > 0;
    const wait_ms = bidden ? retry_after * 1000 : backoff_ms(this.#attempt);
    this.#attempt += 1;
    this.#retry_after = 0;
    this.#comeBack = setTimeout(() => this.open(), wait_ms);
    this.#become({ phase: "away", until: Date.now() + wait_ms, why, bidden });
  }
}
