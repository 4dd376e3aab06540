/*
 * What the page says about itself: the banner for the line and the log, passing notes, who writes, what holds in the
 * room, the title.
 *
 * Says "offline" only after a while, since most losses last a second, and takes it back at once.
 * Knows no connection: it is told its states.
 */

import { showUnread } from "./badge.js";
import { byId, setText } from "./dom.js";
import { shownName } from "./roomname.js";
import { hintOf, newsOf, outSentence } from "./standing.js";
import { clockTime, listed, remaining, t } from "./words.js";

const OFFLINE_AFTER_MS = 5000;
const NOTE_MS = 9000;
const DAY_MS = 24 * 60 * 60 * 1000;
const MAY_COME_BACK = new Set(["kick", "revoke", "locked"]); // the others wait, or are of no use

const FEW_WRITERS = 3;

export class Signs {
  #announcer;
  #state = { phase: "new" };
  #awaySince = null;
  #why = "lost";
  #isStoring = true;
  #ticking = null;
  #noteTimer = null;
  #announced = "";
  #standing = null;
  #room;

  constructor({ room, announcer, onRetry, signal }) {
    this.#room = room;
    this.#announcer = announcer;
    byId("banner-action").addEventListener("click", onRetry, { signal });
    byId("toast-close").addEventListener("click", () => this.#hideNote(), { signal });
    signal.addEventListener("abort", () => this.#leave());
    this.unseen(0);
  }

  // Lifecycle

  #leave() {
    clearTimeout(this.#ticking);
    clearTimeout(this.#noteTimer);
    this.#hideNote();
    this.writing([]);
    this.#hint("");
    byId("banner").hidden = true;
    document.body.classList.remove("offline");
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
    setText(byId("hint"), names.length ? writingSentence(names) : "");
  }

  /** The room's order, as it is from now on; what is new for me is said. */
  order(order) {
    this.#hint(hintOf(order));
    const { role, silence } = order;
    const news = newsOf(this.#standing ?? { role, silence: null }, { role, silence });
    if (news && this.#standing) this.note(news);
    else if (news) this.#announcer.note(news);
    this.#standing = { role, silence };
  }

  unseen(n) {
    showUnread(shownName(this.#room), n);
  }

  // Internal

  // A banner that counts down is painted anew each second, and only then.
  #tick() {
    clearTimeout(this.#ticking);
    this.#paint();
    if (this.#isCounting) this.#ticking = setTimeout(() => this.#tick(), 1000);
  }

  get #isCounting() {
    const { phase, until } = this.#state;
    return this.#awaySince !== null && phase !== "ended" && (phase !== "out" || until !== undefined);
  }

  #hint(sentence) {
    setText(byId("rules-hint"), sentence);
    byId("rules-hint").title = sentence; // on a phone it is cut
  }

  #paint() {
    const text = this.#text();
    byId("banner").hidden = text === "";
    document.body.classList.toggle("offline", this.#awaySince !== null);
    setText(byId("banner-text"), `${text} ${this.#countdown()}`.trim());
    byId("banner-action").hidden = !this.#mayInsist;
    setText(byId("banner-action"), t(this.#state.why === "kick" ? "out.come_back" : "line.try_now"));
    this.#announce(text);
  }

  get #mayInsist() {
    const { phase, why, bidden } = this.#state;
    return phase === "out" ? MAY_COME_BACK.has(why) : phase === "away" && !bidden;
  }

  #text() {
    if (this.#state.phase === "out") return outSentence(this.#state);
    if (this.#state.phase === "ended") return t("line.ended", { why: this.#state.why });
    if (this.#awaySince !== null) return this.#offlineText();
    return this.#isStoring ? "" : t("line.not_storing");
  }

  #offlineText() {
    if (Date.now() - this.#awaySince < OFFLINE_AFTER_MS) return "";
    return t(`line.${this.#why}`, { time: clockTime(this.#awaySince) });
  }

  #countdown() {
    const { phase, until } = this.#state;
    if (phase === "connecting") return t("line.trying");
    if (phase === "out") return backSentence(until);
    if (phase !== "away") return "";
    return t("line.again_in", { n: Math.max(1, Math.ceil((until - Date.now()) / 1000)) });
  }

  #announce(text) {
    if (text === this.#announced) return;
    this.#announcer.note(text || t("line.back"));
    this.#announced = text;
  }

  #hideNote() {
    byId("toast").hidden = true;
  }
}

// Nobody counts the seconds of days.
function backSentence(until) {
  const left_ms = until - Date.now();
  return left_ms < DAY_MS ? t("out.back_in", { time: remaining(left_ms) }) : "";
}

function writingSentence(names) {
  if (names.length > FEW_WRITERS) return t("typing.many");
  return t(names.length === 1 ? "typing.one" : "typing.some", { people: listed(names) });
}
