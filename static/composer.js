/*
 * The place where one writes.
 *
 * Owns the text field and what stands around it: what Enter does, how the field grows, how much may be written and when,
 * which message is replied to or edited, and that what is not yet said is kept. While a message is edited the draft is
 * put aside. Hands on a finished text and what is worth keeping.
 * Knows no connection, no timeline and no storage; completing names is completion.js.
 */

import { Completion } from "./completion.js";
import { byId, setText } from "./dom.js";
import { silenceSentence } from "./standing.js";
import { codePoints, hueOf, remaining, t, trimmed } from "./words.js";

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
  #editStrip = byId("editing");
  #silenceNote = byId("silence");
  #send = byId("send");
  #wait = byId("send-wait");
  #completion;
  #limit = 4000;
  #reply = null;
  #edit = null; // {seq, text} of the message that is edited
  #aside = null; // the draft meanwhile
  #isSaving = false;
  #silence = null;
  #waitsUntil = 0;
  #ticking = null;
  #typedAt = -TYPING_EVERY_MS;
  #keepTimer = null;
  #onSay;
  #onEdit;
  #onEditNewest;
  #onTyping;
  #onDraft;

  /**
   * `draft` is what `onDraft` was told last time: `{text, reply}`, or null for nothing. `onSay({text, reply_to})` gets
   * what is to be said; `onEdit({seq, text})` what a message shall be, and promises that it is: the error says why not.
   * `onEditNewest()`: one's newest message shall be edited, true if there is one. `onSource(seq)` hears which message the
   * person wants to see; `findPeople(query)` promises people.
   */
  constructor({ draft, onSay, onEdit, onEditNewest, onTyping, onDraft, findPeople, onSource, signal }) {
    this.#onSay = onSay;
    this.#onEdit = onEdit;
    this.#onEditNewest = onEditNewest;
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
    on(byId("editing-source"), "click", () => onSource(this.#edit.seq));
    on(byId("editing-cancel"), "click", () => this.#leaveEdit());
    on(window, "pagehide", () => this.#keep());
    on(document, "visibilitychange", () => document.hidden && this.#keep());
    signal.addEventListener("abort", () => this.#leave());
  }

  #leave() {
    this.#keep();
    this.#endEdit();
    this.silence = null;
    this.waitsUntil = 0;
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

  /** Why nothing can be written: `{code, until?, reason?}`; null if it can. What was written stays. */
  set silence(silence) {
    this.#silence = silence;
    this.#silenceNote.hidden = !silence;
    setText(this.#silenceNote, silence ? silenceSentence(silence) : "");
    this.#permit();
  }

  /** Until when (by this machine's clock) what is said has to wait; 0 if it need not. */
  set waitsUntil(at) {
    this.#waitsUntil = at;
    this.#tick();
  }

  /** The message `{seq, text}` is to be changed. */
  edit({ seq, text }) {
    this.#aside = this.#draft;
    this.#edit = { seq, text };
    this.#show({ text });
    this.focus();
    this.#field.setSelectionRange(text.length, text.length);
  }

  /** What is said next answers the message `{seq, by, text}`. */
  replyTo({ seq, by, text }) {
    if (this.#edit) this.#leaveEdit();
    this.#showReply({ seq, by, text: snippetOf(text) });
    this.#keepSoon();
    this.focus();
  }

  /** Messages were removed: what is replied to, or edited, may be one; true if it was. What else is written stays. */
  forget(isGone) {
    const isLost = [this.#reply, this.#edit, this.#aside?.reply].some((message) => message && isGone(message.seq));
    if (this.#aside?.reply && isGone(this.#aside.reply.seq)) this.#aside = { ...this.#aside, reply: null };
    if (this.#edit && isGone(this.#edit.seq)) this.#endEdit();
    if (this.#reply && isGone(this.#reply.seq)) this.#showReply(null);
    if (isLost) this.#keepSoon();
    return isLost;
  }

  /** Puts `@name` where the caret is. */
  insertMention(name) {
    if (this.#field.readOnly) return;
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
    if (this.#edit) this.#aside = draft;
    else this.#show(draft);
  }

  // What is written

  #onInput() {
    this.#shape();
    if (this.#edit) return;
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
    if (isInField && event.key === "ArrowUp" && this.#isAtRest(event) && this.#onEditNewest()) event.preventDefault();
    if (event.key === "Escape" && (this.#edit || this.#reply)) this.#onEscape(event);
  }

  // Nothing is written, and the key means nothing else.
  #isAtRest({ shiftKey, ctrlKey, metaKey, altKey }) {
    return !this.#draft && !this.#edit && !(shiftKey || ctrlKey || metaKey || altKey);
  }

  #onSubmit(event) {
    event.preventDefault();
    const text = trimmed(this.#field.value);
    this.focus();
    if (this.#silence || this.#isSaving) return;
    if (codePoints(text) > this.#limit) this.#refuse(t("composer.too_long", { n: codePoints(text) - this.#limit }));
    else if (this.#edit) this.#save(text);
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

  #refuse(sentence) {
    this.#counter.hidden = true;
    setText(this.#refusal, sentence);
  }

  // What is edited

  // Whoever has left it meanwhile, or edits another message, is not interrupted.
  async #save(text) {
    const edit = this.#edit;
    if (!text) return this.#refuse(t("composer.edit_empty"));
    this.#saving(true);
    const problem = text === edit.text ? "" : await this.#onEdit({ seq: edit.seq, text }).then(() => "", ({ message }) => message);
    if (edit !== this.#edit) return;
    this.#saving(false);
    if (problem) this.#refuse(problem);
    else this.#leaveEdit();
  }

  #saving(isSaving) {
    this.#isSaving = isSaving;
    this.#permit();
  }

  #leaveEdit() {
    this.#endEdit();
    this.focus();
  }

  #endEdit() {
    if (!this.#edit) return;
    this.#edit = null;
    this.#saving(false);
    this.#show(this.#aside);
    this.#aside = null;
  }

  // What is replied to

  #onEscape(event) {
    event.preventDefault(); // or the keys of the page would take it for theirs
    if (this.#edit) this.#leaveEdit();
    else this.#cancelReply();
  }

  #cancelReply() {
    this.#showReply(null);
    this.#keepSoon();
    this.focus();
  }

  #showReply(reply) {
    this.#reply = reply;
    this.#strip.hidden = !reply;
    this.#describe();
    if (!reply) return;
    this.#strip.style.setProperty("--hue", hueOf(reply.by.id));
    setText(byId("reply-name"), reply.by.name);
    setText(byId("reply-text"), reply.text);
  }

  // What is kept

  get #draft() {
    if (this.#edit) return this.#aside;
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
    this.#editStrip.hidden = !this.#edit;
    setText(byId("editing-text"), this.#edit ? snippetOf(this.#edit.text) : "");
    this.#showReply(draft?.reply ?? null);
    this.#completion.close();
    this.#shape();
    this.#dress();
  }

  #dress() {
    const sentence = t(this.#edit ? "composer.save" : "composer.send");
    this.#form.classList.toggle("editing", this.#edit !== null);
    this.#send.setAttribute("aria-label", sentence);
    this.#send.title = sentence;
    this.#tick();
  }

  // It is not disabled: what was written can be read and copied, and the focus stays.
  #permit() {
    this.#field.readOnly = Boolean(this.#silence) || this.#isSaving;
    this.#send.disabled = Boolean(this.#silence);
    this.#form.classList.toggle("silent", Boolean(this.#silence));
    this.#describe();
  }

  #describe() {
    const parts = { silence: this.#silence, "editing-source": this.#edit, "reply-source": this.#reply, "rules-hint": true, counter: true };
    this.#field.setAttribute("aria-describedby", Object.keys(parts).filter((id) => parts[id]).join(" "));
  }

  // The button counts; no screen reader is told each second.
  #tick() {
    clearTimeout(this.#ticking);
    const left_ms = this.#waitsUntil - Date.now();
    const isWaiting = left_ms > 0 && !this.#edit;
    this.#send.classList.toggle("waits", isWaiting);
    setText(this.#wait, isWaiting ? remaining(left_ms) : "");
    if (left_ms > 0) this.#ticking = setTimeout(() => this.#tick(), left_ms % 1000 || 1000);
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
