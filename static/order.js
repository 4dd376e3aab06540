/*
 * The order of the room as this page was told it: its rules, who has which role, and what I may do at the moment.
 *
 * Counts in the server's time, which `welcome` tells. Whoever listens hears of every change, and of what changes by
 * itself: a mute, a raid, the wait of slow mode that is over. One timer serves them all.
 * Knows no DOM and no connection; what the server refuses all the same, it refuses.
 */

const RANKS = { "": 0, moderator: 1, owner: 2, operator: 3 };
const RAID_SLOW_S = 30;
const LONGEST_WAIT_MS = 3_600_000; // a timer of more than 24 days overflows, and fires at once
const LATE_MS = 20; // a timer may come a little early

// What the server does not say is so.
const PLAIN = {
  slow_s: 0, read_only: false, locked: false, links: "on", announcement: null, edit_s: 3600, keep_s: 0, keep_events: 0,
  raid_until: 0,
};

/** How much a role may do: 0 for none, more for each that is above another. */
export const rankOf = (role) => RANKS[role] ?? 0;

export class Order {
  #ahead_ms = 0; // the server's clock before this one
  #toldUpTo = 0; // the seq up to which `welcome` has it all
  #me = { id: "", name: "" };
  #rules = PLAIN;
  #roles = new Map();
  #saidAt = -Infinity;
  #waitUntil = 0;
  #timer = null;
  #listeners = new Set();

  constructor({ signal } = {}) {
    signal?.addEventListener("abort", () => this.#leave());
  }

  // Reading

  /** The server's time. */
  now() {
    return Date.now() + this.#ahead_ms;
  }

  /** As in the frame `rules`, each of them. */
  get rules() {
    return this.#rules;
  }

  /** Everybody who has a role: `{id, name, role}`. */
  get roles() {
    return [...this.#roles.values()];
  }

  roleOf(id) {
    return id === this.#me.id ? this.role : this.#roles.get(id)?.role ?? "";
  }

  get role() {
    return this.#me.role ?? "";
  }

  get rank() {
    return rankOf(this.role);
  }

  get isRaid() {
    return this.#rules.raid_until > this.now();
  }

  /** When I may speak again; 0 if I am not muted. */
  get mutedUntil() {
    const until = this.#me.muted_until ?? 0;
    return until > this.now() ? until : 0;
  }

  /** How many seconds lie between two messages of mine. */
  get slow() {
    if (this.rank > 0) return 0;
    return this.isRaid ? Math.max(RAID_SLOW_S, this.#rules.slow_s) : this.#rules.slow_s;
  }

  /** When slow mode lets me say something again; 0 if it does. */
  get slowUntil() {
    const until = Math.max(this.slow && this.#saidAt + this.slow * 1000, this.#waitUntil);
    return until > this.now() ? until : 0;
  }

  /** Why I cannot speak: `{code, until?, reason?}`, code "muted", "newcomer" or "read_only"; null if I can. */
  get silence() {
    const { mutedUntil: until, isRaid } = this;
    // A raid mutes newcomers as long as it lasts, and gives no reason.
    const isByRaid = isRaid && until === this.#rules.raid_until && !this.#me.muted_for;
    if (until) return { code: isByRaid ? "newcomer" : "muted", until, reason: this.#me.muted_for ?? "" };
    return this.#rules.read_only && this.rank === 0 ? { code: "read_only" } : null;
  }

  mayEdit(event) {
    const { edit_s } = this.#rules;
    const isInTime = edit_s === 0 || event.at >= this.now() - edit_s * 1000;
    return isMessage(event) && this.#isMine(event) && isInTime && this.silence === null;
  }

  mayDelete(event) {
    return isMessage(event) && (this.#isMine(event) || this.rank > 0);
  }

  mayReact(event) {
    return isMessage(event) && !this.mutedUntil;
  }

  // Being told

  /** Takes a `welcome`. */
  enter({ head, now, you, rules, roles }) {
    this.#ahead_ms = now - Date.now();
    this.#toldUpTo = head;
    this.#me = you;
    this.#rules = { ...PLAIN, ...rules };
    this.#roles = new Map(roles.map((each) => [each.id, each]));
    this.#changed();
  }

  /** Takes a frame `you`. */
  onYou(you) {
    this.#me = you;
    this.#changed();
  }

  /** Takes any event: what it has to do with the order counts. */
  onEvent(event) {
    if (event.type === "message") this.#onMessage(event);
    else if (event.seq > this.#toldUpTo) this.#onAct(event);
  }

  /** Something that was said was refused, or is held for review. */
  onError({ code, retry_after }) {
    if (code === "slow_mode") this.#waitUntil = this.now() + (retry_after ?? 1) * 1000;
    else if (code === "held") this.#saidAt = this.now();
    else return;
    this.#tell();
  }

  /** Calls `listener()` after each change. */
  onChange(listener) {
    this.#listeners.add(listener);
  }

  // Internal

  #isMine(event) {
    return event.by.id === this.#me.id;
  }

  // What was said before there was a slow mode is no reason to wait.
  #onMessage(event) {
    if (!this.#isMine(event) || !this.slow || event.at <= this.#saidAt) return;
    this.#saidAt = event.at;
    this.#changed();
  }

  #onAct(event) {
    if (event.type === "rules") this.#rules = { ...PLAIN, ...event.rules };
    else if (event.type === "role") this.#give(event);
    else return;
    this.#changed();
  }

  #give({ whom, role }) {
    if (role) this.#roles.set(whom.id, { ...whom, role });
    else this.#roles.delete(whom.id);
  }

  // A wait the server asked for is over with the slow mode it was for; it may have asked before it told of that mode.
  #changed() {
    if (!this.slow) this.#waitUntil = 0;
    this.#tell();
  }

  #tell() {
    this.#waitForNext();
    for (const listener of this.#listeners) listener();
  }

  #waitForNext() {
    clearTimeout(this.#timer);
    const next = Math.min(...[this.#rules.raid_until, this.mutedUntil, this.slowUntil].filter((until) => until > this.now()));
    if (next === Infinity) return;
    const wait_ms = Math.min(next - this.now() + LATE_MS, LONGEST_WAIT_MS);
    this.#timer = setTimeout(() => this.#changed(), wait_ms);
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#listeners.clear();
  }
}

const isMessage = (event) => event.type === "message" && event.seq !== undefined;
