/*
 * What a moderator does: an act is sent, its outcome is told, and what can be undone can be undone.
 *
 * Owns the note on the last act, which stands over the talk or in the dialog that is open, and the question that comes
 * before what cannot be undone. Knows no socket: `act` is given to it.
 */

import { byId, setText } from "./dom.js";
import { t } from "./words.js";

const NOTE_MS = 15_000; // time to see one's mistake, and to reach the button

/** What is said when a restraint is lifted. */
export const LIFTED = { mute: "deed.unmute", ban: "deed.unban" };

export const isForGood = (until) => until < 0 || until > 8.64e15; // no Date is later

/**
 * The act that brings back what `frame` changes, null if nothing does. `before` is how it was: for an act on a person
 * `muted_until`, `banned_until`, `reason` and `role`, else `rules` and `patterns`; `now` is the server's time.
 */
export function inverseOf(frame, before, now) {
  return INVERSES[frame.type]?.(frame, before, now) ?? null;
}

const INVERSES = {
  mute: ({ person }, { muted_until, reason }, now) => ({ type: "mute", person, ...restOf(muted_until, reason, now) }),
  // Which address was banned with somebody is known to the server only.
  ban: ({ person, purge, seconds, address }, { banned_until, reason }, now) =>
    purge || (address && seconds === 0) ? null : { type: "ban", person, ...restOf(banned_until, reason, now) },
  role: ({ person }, { role }) => ({ type: "role", person, role }),
  raid: (_, { rules }, now) => ({ type: "raid", seconds: secondsUntil(rules.raid_until, now) }),
  filter: (_, { patterns }) => ({ type: "filter", patterns }),
  rules: (frame, { rules }) => {
    const named = Object.keys(frame).filter((name) => name in rules);
    return { type: "rules", ...Object.fromEntries(named.map((name) => [name, plain(rules[name])])) };
  },
};

function restOf(until = 0, reason = "", now = 0) {
  if (until > 0 && until <= now) return { seconds: 0 };
  if (isForGood(until)) return { reason };
  return until ? { seconds: secondsUntil(until, now), reason } : { seconds: 0 };
}

const secondsUntil = (until, now) => Math.max(0, Math.ceil((until - now) / 1000));

// The rule `announcement` is told with who put it up, and set as its text.
const plain = (value) => (value === null ? "" : value.text ?? value);

export class Deeds {
  #act;
  #onDone;
  #note = byId("deed");
  #text = byId("deed-text");
  #undo = byId("deed-undo");
  #inverse = null;
  #timer = null;
  #from = null;
  #answer = null; // to whether one is sure

  /** `act(frame)` resolves to the answer; `onDone()` hears that something was done, or undone. */
  constructor({ act, onDone }) {
    this.#act = act;
    this.#onDone = onDone;
    this.#undo.addEventListener("click", () => this.undo());
    byId("deed-close").addEventListener("click", () => this.hide());
    this.#note.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    this.#note.addEventListener("pointerleave", () => this.#expire());
    this.#note.addEventListener("focusin", ({ relatedTarget }) => this.#onFocus(relatedTarget));
    this.#note.addEventListener("focusout", () => this.#expire());
    byId("sure").addEventListener("close", ({ target }) => this.#onSure(target));
    // What dialogs tell of themselves does not bubble; older browsers do not tell that one opened.
    for (const type of ["close", "toggle"]) document.addEventListener(type, () => this.#settle(), { capture: true });
  }

  // Actions

  /**
   * Does `frame`, says so (`said`: a sentence) and offers to undo it by `inverse`. Resolves to the answer, null if it was
   * refused: then that is said, unless `onRefused(error)` is given.
   */
  async do(frame, { said, inverse = null, onRefused = (error) => this.tell(error.message) }) {
    try {
      const answer = await this.#act(frame);
      if (said) this.tell(said, inverse);
      this.#onDone();
      return answer;
    } catch (error) {
      onRefused(error);
      return null;
    }
  }

  /** Takes back the last act, as long as its note stands. */
  async undo() {
    const inverse = this.#inverse;
    if (!inverse) return;
    this.#inverse = null;
    this.#undo.hidden = true;
    await this.do(inverse, { said: t("deed.undone") });
  }

  /** Asks before what cannot be undone; resolves to whether it is to be done. */
  sure({ title, text, yes }) {
    const dialog = byId("sure");
    setText(byId("sure-title"), title);
    setText(byId("sure-text"), text);
    setText(byId("sure-yes"), yes);
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => { this.#answer = resolve; });
  }

  tell(sentence, inverse = null) {
    this.#inverse = inverse;
    this.#undo.hidden = inverse === null;
    this.#settle();
    this.#note.hidden = false;
    setText(this.#text, "");
    // A live region is read out if it is there before its text.
    requestAnimationFrame(() => setText(this.#text, sentence));
    this.#expire();
  }

  hide() {
    clearTimeout(this.#timer);
    const hadFocus = this.#note.contains(document.activeElement);
    this.#note.hidden = true;
    this.#inverse = null;
    if (hadFocus) (this.#from?.isConnected ? this.#from : byId("text")).focus();
  }

  // Internal

  // All that lies behind an open dialog is out of reach, so the note goes where one is.
  #settle() {
    const place = [...document.querySelectorAll("dialog:modal:not(#sure)")].at(-1) ?? document.querySelector(".below-log");
    if (this.#note.parentElement !== place) place.append(this.#note);
  }

  // It is told a moment later: by then it may be open again, with another question.
  #onSure({ open, returnValue }) {
    if (!open) this.#answer(returnValue === "yes");
  }

  #onFocus(from) {
    clearTimeout(this.#timer);
    if (!this.#note.contains(from)) this.#from = from;
  }

  #expire() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.hide(), NOTE_MS);
  }
}
