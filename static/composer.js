/*
 * The place where one writes.
 *
 * Owns the text field and what stands around it: what Enter does, how the field grows, how much may be written, which
 * message is replied to, and that what is not yet said is kept. Hands on a finished text and what is worth keeping.
 * Knows no connection, no timeline and no storage; completing names is completion.js.
 */

import { Completion } from "./completion.js";
import { byId, setText } from "./dom.js";
import { codePoints, hueOf, t, trimmed } from "./words.js";

const TYPING_EVERY_MS = 3000;
const KEEP_AFTER_MS = 300;
const COUNT_FROM = 0.9; // of the limit: before that the counter is only in the way
const SNIPPET_LENGTH = 200; // of what is replied to: one line is shown, all of it is kept with the draft
const MIRRORED_LENGTH = 4000; // no field grows as tall as that

export class Composer {
  #form = byId("composer");
  #field = byId("text");
  #counter = byId("counter");
  #refusal = byId("refusal");
  #strip = byId("reply");
  #completion;
  #limit = 4000;
  #reply = null;
  #typedAt = -TYPING_EVERY_MS;
  #keepTimer = null;
  #onSay;
  #onTyping;
  #onDraft;

  /**
   * `draft` is what `onDraft` was told last time: `{text, reply}`, or null for nothing. `onSay({text, reply_to})` gets
   * what is to be said, `onSource(seq)` which message the person wants to see, `findPeople(query)` promises people.
   */
  constructor({ draft, onSay, onTyping, onDraft, findPeople, onSource, signal }) {
    this.#onSay = onSay;
    this.#onTyping = onTyping;
    this.#onDraft = onDraft;
    this.#completion = new Completion({ field: this.#field, findPeople, signal });
    this.#listen(onSource, signal);
    this.#show(draft);
    keepAboveKeyboard(this.#form, signal);
  }

  // Lifecycle

  #listen(onSource, signal) {
    const on = (target, type, act) => target.addEventListener(type, act, { signal });
    on(this.#field, "input", () => this.#onInput());
    on(this.#form, "keydown", (event) => this.#onKey(event));
    on(this.#form, "submit", (event) => this.#onSubmit(event));
    // On a phone a button that takes the focus takes the keyboard away, too.
    on(this.#form, "mousedown", (event) => event.target.closest("button") && event.preventDefault());
    on(byId("reply-source"), "click", () => onSource(this.#reply.seq));
    on(byId("reply-cancel"), "click", () => this.#cancelReply());
    on(window, "pagehide", () => this.#keep());
    on(document, "visibilitychange", () => document.hidden && this.#keep());
    signal.addEventListener("abort", () => this.#keep());
  }

  // Actions

  /** How many code points a message may have. */
  set limit(limit) {
    this.#limit = limit;
    this.#count();
  }

  focus() {
    this.#field.focus();
  }

  /** What is said next answers the message `{seq, by, text}`. */
  replyTo({ seq, by, text }) {
    this.#showReply({ seq, by, text: snippetOf(text) });
    this.#keepSoon();
    this.focus();
  }

  /** Puts `@name` where the caret is. */
  insertMention(name) {
    const { value, selectionStart: from, selectionEnd: to } = this.#field;
    const isApart = from === 0 || /\s/.test(value[from - 1]);
    if (!isApart) this.#field.setRangeText(" ", from, from);
    this.#completion.insert(name, isApart ? from : from + 1, isApart ? to : to + 1);
    this.focus();
  }

  /** Shows what another tab of this person wrote, unless he is writing in this one. */
  takeDraft(draft) {
    const isInUse = !document.hidden && document.hasFocus() && document.activeElement === this.#field;
    if (isInUse) return;
    this.#forgetToKeep();
    this.#show(draft);
  }

  // What is written

  #onInput() {
    this.#shape();
    this.#keepSoon();
    if (this.#field.value && performance.now() - this.#typedAt >= TYPING_EVERY_MS) this.#tellTyping();
  }

  #tellTyping() {
    this.#typedAt = performance.now();
    this.#onTyping();
  }

  // A key that chooses a word of an input method is not ours; Safari reports Enter of that kind only by its keyCode.
  #onKey(event) {
    if (event.isComposing || event.keyCode === 229) return;
    const isInField = event.target === this.#field;
    if (isInField && this.#completion.onKey(event)) return;
    if (isInField && event.key === "Enter" && !event.shiftKey) this.#onSubmit(event);
    if (event.key === "Escape" && this.#reply) this.#onEscape(event);
  }

  #onSubmit(event) {
    event.preventDefault();
    const text = trimmed(this.#field.value);
    this.focus();
    if (codePoints(text) > this.#limit) this.#refuse(codePoints(text) - this.#limit);
    else if (text) this.#say(text);
  }

  // Said before the draft is forgotten: a page that dies in between has the text twice, not nowhere.
  #say(text) {
    this.#onSay({ text, reply_to: this.#reply?.seq });
    this.#typedAt = -TYPING_EVERY_MS;
    this.#show(null);
    this.#keepSoon();
    this.#keep();
  }

  #refuse(surplus) {
    this.#counter.hidden = true;
    setText(this.#refusal, t("composer.too_long", { n: surplus }));
  }

  // What is replied to

  #onEscape(event) {
    event.preventDefault(); // or the keys of the page would take it for theirs
    this.#cancelReply();
  }

  #cancelReply() {
    this.#showReply(null);
    this.#keepSoon();
    this.focus();
  }

  #showReply(reply) {
    this.#reply = reply;
    this.#strip.hidden = !reply;
    this.#field.setAttribute("aria-describedby", reply ? "reply-source counter" : "counter");
    if (!reply) return;
    this.#strip.style.setProperty("--hue", hueOf(reply.by.id));
    setText(byId("reply-name"), reply.by.name);
    setText(byId("reply-text"), reply.text);
  }

  // What is kept

  get #draft() {
    const { value: text } = this.#field;
    return text || this.#reply ? { text, reply: this.#reply } : null;
  }

  #keepSoon() {
    this.#keepTimer ??= setTimeout(() => this.#keep(), KEEP_AFTER_MS);
  }

  // Only what changed here: another tab may have written since.
  #keep() {
    if (this.#keepTimer === null) return;
    this.#forgetToKeep();
    this.#onDraft(this.#draft);
  }

  #forgetToKeep() {
    clearTimeout(this.#keepTimer);
    this.#keepTimer = null;
  }

  // Internal

  #show(draft) {
    this.#field.value = draft?.text ?? "";
    this.#showReply(draft?.reply ?? null);
    this.#completion.close();
    this.#shape();
  }

  #shape() {
    // The frame around the field is as tall as this text, and the field as tall as its frame.
    this.#field.parentElement.dataset.text = this.#field.value.slice(0, MIRRORED_LENGTH);
    this.#count();
  }

  #count() {
    const left = this.#limit - codePoints(trimmed(this.#field.value));
    const isNear = left <= this.#limit * (1 - COUNT_FROM);
    this.#counter.hidden = !isNear;
    this.#counter.classList.toggle("over", left < 0);
    this.#field.ariaInvalid = String(left < 0);
    // It describes the field, hidden or not: so it is empty while it is hidden.
    setText(this.#counter, isNear ? countSentence(left) : "");
    setText(this.#refusal, "");
  }
}

const countSentence = (left) => (left < 0 ? t("composer.too_many", { n: -left }) : t("composer.left", { n: left }));

const snippetOf = (text) => Array.from(text.replace(/\s+/g, " ").trim()).slice(0, SNIPPET_LENGTH).join("");

/** Lifts `node` by what the phone's keyboard hides of the page, where the browser does not make the page smaller. */
function keepAboveKeyboard(node, signal) {
  const viewport = window.visualViewport;
  const lift = () => {
    // Zoomed in, a part of the page is out of sight that no keyboard hides.
    const isZoomed = viewport.scale > 1;
    const hidden = document.body.getBoundingClientRect().bottom - viewport.offsetTop - viewport.height;
    node.style.setProperty("--keyboard", `${isZoomed ? 0 : Math.max(0, Math.round(hidden))}px`);
  };
  for (const type of ["resize", "scroll"]) viewport.addEventListener(type, lift, { signal });
}
