/*
 * What a screen reader says by itself: one polite region that changes at most once in PAUSE_MS.
 *
 * What is for me is read out before all else, then what the page has to note. Other messages are read out while they
 * come singly and summed up in a burst: in a fast room nobody can listen to everything. While nobody could hear it
 * (a hidden tab; a dialog, which silences the page behind it) everything waits, and is summed up then.
 * The log itself is aria-live=off and can be read at leisure. Knows no connection and no timeline.
 */

import { t } from "./words.js";

const PAUSE_MS = 3000;
const READ_OUT = 3; // of what is for me, and of the notes: the newest
const EAR_LENGTH = 200; // nobody listens to more of a text before knowing whether he wants it

export class Announcer {
  #region;
  #notes = [];
  #forMe = [];
  #forMeCount = 0;
  #others = [];
  #count = 0;
  #timer = null;
  #saidAt = -PAUSE_MS;

  /** Speaks through `region`, an empty aria-live element, until `signal` aborts. */
  constructor(region, { signal } = {}) {
    this.#region = region;
    document.addEventListener("visibilitychange", () => this.#schedule(), { signal });
    // A dialog's close event does not bubble.
    document.addEventListener("close", () => this.#schedule(), { signal, capture: true });
    signal?.addEventListener("abort", () => this.#forget());
  }

  // Actions

  /** Something about the room or the line; what is said already and not yet heard is not said twice. */
  note(sentence) {
    this.#notes = [...this.#notes.filter((earlier) => earlier !== sentence), sentence].slice(-READ_OUT);
    this.#schedule();
  }

  /** A message of somebody else; `isForMe` if it mentions me or replies to me. */
  message(event, isForMe = false) {
    if (isForMe) this.#addForMe(event);
    else this.#addOther(event);
    this.#schedule();
  }

  // Internal

  #addForMe(event) {
    this.#forMe = [...this.#forMe, event].slice(-READ_OUT);
    this.#forMeCount += 1;
  }

  #addOther(event) {
    this.#others = [...this.#others, event].slice(-READ_OUT);
    this.#count += 1;
  }

  #schedule() {
    if (this.#timer || !this.#hasNews || !isHeard()) return;
    this.#timer = setTimeout(() => this.#onTime(), Math.max(0, this.#saidAt + PAUSE_MS - performance.now()));
  }

  get #hasNews() {
    return this.#notes.length + this.#forMeCount + this.#count > 0;
  }

  #onTime() {
    this.#timer = null;
    if (isHeard()) this.#say();
  }

  // New elements, even for the same words: a screen reader passes over a text that did not change.
  #say() {
    this.#region.replaceChildren(...this.#sentences().map(line));
    this.#saidAt = performance.now();
    this.#forget();
  }

  // What was deleted before it was said is not read out.
  #sentences() {
    const forMe = this.#forMe.filter(isThere).map((event) => spoken("announce.for_you", event));
    const more = this.#forMeCount - this.#forMe.length;
    if (more > 0) forMe.push(t("announce.more_for_you", { n: more }));
    return [...forMe, ...this.#notes, ...this.#burst()];
  }

  #burst() {
    const kept = this.#others.filter(isThere);
    const n = this.#count - (this.#others.length - kept.length);
    if (kept.length === 0) return [];
    const last = spoken("announce.message", kept.at(-1));
    return [n === 1 ? last : t("announce.burst", { n, last })];
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#notes = this.#others = [];
    this.#forMe = [];
    this.#forMeCount = this.#count = 0;
  }
}

const isHeard = () => !document.hidden && !document.querySelector("dialog:modal");

const isThere = ({ isGone }) => !isGone;

const spoken = (key, { by, text }) => t(key, { name: by.name, text: clipped(text) });

function clipped(text) {
  // A sign has two UTF-16 units at most: this much of a long text is enough to know.
  const signs = [...text.slice(0, 2 * (EAR_LENGTH + 1))];
  return signs.length > EAR_LENGTH ? `${signs.slice(0, EAR_LENGTH).join("")}…` : text;
}

// A line of its own makes a pause between two sentences, whether or not people end theirs with a full stop.
function line(sentence) {
  const node = document.createElement("div");
  node.textContent = sentence;
  return node;
}
