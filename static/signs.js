/*
 * What the page says about itself: the banner for the line and the log, passing notes, who writes, the title.
 *
 * Says "offline" only after a while, since most losses last a second, and takes it back at once.
 * Knows no connection: it is told its states.
 */

import { byId, setText } from "./dom.js";
import { clockTime, listed } from "./words.js";

const OFFLINE_AFTER_MS = 5000;
const NOTE_MS = 9000;

// What to say while the line is away, by the reason.
const AWAY = {
  lost: (since) => `No connection since ${clockTime(since)}. What you write goes out later.`,
  unreachable: (since) => `No connection since ${clockTime(since)}: the server does not answer. What you write goes out later.`,
  full: () => "The server takes nobody in at the moment. What you write goes out later.",
  blocked: () => "The server answers, but the live line does not open: something in between may block WebSockets.",
};

export class Signs {
  #announcer;
  #state = { phase: "new" };
  #awaySince = null;
  #why = "lost";
  #isStoring = true;
  #ticking = null;
  #noteTimer = null;
  #announced = "";
  #room;

  constructor({ room, announcer, onRetry }) {
    this.#room = room;
    this.#announcer = announcer;
    byId("banner-action").addEventListener("click", onRetry);
    byId("toast-close").addEventListener("click", () => this.#hideNote());
  }

  // Actions

  /** The line is in another state. */
  onState(state) {
    this.#state = state;
    this.#why = state.why ?? this.#why;
    if (state.phase === "open") this.#awaySince = null;
    else this.#awaySince ??= Date.now();
    this.#tick();
  }

  set storing(isStoring) {
    this.#isStoring = isStoring;
    this.#tick();
  }

  /** A passing note, for the eye and the ear. */
  note(sentence) {
    setText(byId("toast-text"), sentence);
    byId("toast").hidden = false;
    clearTimeout(this.#noteTimer);
    this.#noteTimer = setTimeout(() => this.#hideNote(), NOTE_MS);
    this.#announcer.note(sentence);
  }

  writing(names) {
    const verb = names.length === 1 ? "is" : "are";
    setText(byId("hint"), names.length ? `${names.length > 3 ? "Several people" : listed(names)} ${verb} writing…` : "");
  }

  unseen(n) {
    document.title = `${n ? `(${n}) ` : ""}${this.#room} · Chatroom`;
  }

  // Internal

  // A banner that counts down is painted anew each second, and only then.
  #tick() {
    clearTimeout(this.#ticking);
    this.#paint();
    if (this.#awaySince !== null && this.#state.phase !== "ended") this.#ticking = setTimeout(() => this.#tick(), 1000);
  }

  #paint() {
    const text = this.#text();
    byId("banner").hidden = text === "";
    document.body.classList.toggle("offline", this.#awaySince !== null);
    setText(byId("banner-text"), `${text} ${this.#countdown()}`.trim());
    byId("banner-action").hidden = this.#state.phase !== "away" || this.#state.bidden;
    setText(byId("banner-action"), "Try now");
    this.#announce(text);
  }

  #text() {
    if (this.#state.phase === "ended") return `${this.#state.why} Reload the page to try once more.`;
    if (this.#awaySince !== null) return this.#offlineText();
    return this.#isStoring ? "" : "The server cannot store messages right now. What you write is kept and tried again.";
  }

  #offlineText() {
    if (Date.now() - this.#awaySince < OFFLINE_AFTER_MS) return "";
    return AWAY[this.#why](this.#awaySince);
  }

  #countdown() {
    if (this.#state.phase === "connecting") return "Trying now…";
    if (this.#state.phase !== "away") return "";
    return `Trying again in ${Math.max(1, Math.ceil((this.#state.until - Date.now()) / 1000))} s.`;
  }

  #announce(text) {
    if (text === this.#announced) return;
    this.#announcer.note(text || "The connection is back.");
    this.#announced = text;
  }

  #hideNote() {
    byId("toast").hidden = true;
  }
}
