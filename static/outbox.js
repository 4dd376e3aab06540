/*
 * What was said here and is not yet known to be stored.
 *
 * One say is in flight at a time and the next follows its ack: so the order holds, over lost lines, too. A say that
 * was in flight when the line broke goes out again under the same client_id; the server stores it once.
 * Knows no DOM and no WebSocket: it is given `send` and told what comes back.
 */

const NOT_STORED_RETRY_S = 2; // a disk that is full or slow is not helped by haste

/** A name for a say that no other say has. crypto.randomUUID is missing on plain http, getRandomValues is not. */
export function newClientId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Outbox {
  #says = [];
  #inFlight = null;
  #isLineOpen = false;
  #timer = null;
  #send;
  #onFate;

  /** `onFate(client_id, state, detail)`: state is "sending", "held" ({code, until}) or "failed" ({message}). */
  constructor({ send, onFate }) {
    this.#send = send;
    this.#onFate = onFate;
  }

  // Lifecycle

  lineOpened() {
    this.#isLineOpen = true;
    this.#next();
  }

  lineLost() {
    this.#isLineOpen = false;
    this.#land();
  }

  // Actions

  say(client_id, text) {
    this.#says.push({ type: "say", client_id, text });
    this.#next();
  }

  discard(client_id) {
    this.#says = this.#says.filter((say) => say.client_id !== client_id);
  }

  /** The log takes messages again: what waits for it need not wait any longer. */
  storingAgain() {
    if (this.#timer) this.#again();
  }

  onAck({ client_id }) {
    this.discard(client_id);
    this.#land();
    this.#next();
  }

  onError(error) {
    if (error.client_id !== this.#inFlight) return;
    if (error.code === "rate_limited") this.#hold(error, error.retry_after ?? 1);
    else if (error.code === "not_stored") this.#hold(error, error.retry_after ?? NOT_STORED_RETRY_S);
    else this.#fail(error);
  }

  // Internal

  #next() {
    const [say] = this.#says;
    if (!say || this.#inFlight || !this.#isLineOpen) return;
    if (!this.#send(say)) return;
    this.#inFlight = say.client_id;
    this.#onFate(say.client_id, "sending");
  }

  #land() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#inFlight = null;
  }

  // The held say stays in flight, so that none overtakes it.
  #hold({ client_id, code }, wait_s) {
    const wait_ms = wait_s * 1000 + Math.random() * 100;
    this.#timer = setTimeout(() => this.#again(), wait_ms);
    this.#onFate(client_id, "held", { code, until: Date.now() + wait_ms });
  }

  #again() {
    this.#land();
    this.#next();
  }

  #fail({ client_id, message }) {
    this.discard(client_id);
    this.#onFate(client_id, "failed", { message });
    this.#again();
  }
}
