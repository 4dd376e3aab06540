/*
 * The announcement that stands above the log until it is taken down, or hidden by who has read it.
 *
 * One line until it is opened. What was hidden is remembered by when it was made: another one shows again.
 * Knows no connection.
 */

import { byId, setText } from "./dom.js";
import { plainOf } from "./markdown.js";
import { paint } from "./prose.js";
import { hiddenAnnouncement, hideAnnouncement } from "./storage.js";
import { exactTime, hueOf, moment, t } from "./words.js";

export class Pinned {
  #node = byId("pinned");
  #text = byId("pinned-text");
  #more = byId("pinned-more");
  #room;
  #announcer;
  #onCopy;
  #shown; // undefined until the room told of an announcement, or of none

  /** `onCopy(text)` hears of a code block's button. */
  constructor({ room, announcer, onCopy, signal }) {
    this.#room = room;
    this.#announcer = announcer;
    this.#onCopy = onCopy;
    this.#more.addEventListener("click", () => this.#open(!this.#isOpen), { signal });
    byId("pinned-close").addEventListener("click", () => this.#hide(), { signal });
    const resizing = new ResizeObserver(() => this.#offerMore());
    resizing.observe(this.#text);
    signal.addEventListener("abort", () => { resizing.disconnect(); this.#node.hidden = true; });
  }

  // Actions

  /** Shows `{text, by, at}`, or nothing for null; one that comes while somebody is here is read out. */
  show(announcement) {
    const isNew = announcement?.at !== this.#shown?.at;
    if (isNew && announcement && this.#shown !== undefined) this.#readOut(announcement);
    if (isNew) this.#open(false);
    this.#shown = announcement;
    this.refresh();
  }

  /** Another tab may have hidden it. */
  refresh() {
    this.#node.hidden = !this.#shown || hiddenAnnouncement(this.#room) === this.#shown.at;
    if (!this.#node.hidden) this.#paint(this.#shown);
  }

  // Internal

  get #isOpen() {
    return this.#node.classList.contains("open");
  }

  #readOut({ by, text }) {
    this.#announcer.note(t("pinned.new", { name: by.name, text: plainOf(text) }));
  }

  #paint({ text, by, at }) {
    this.#node.style.setProperty("--hue", hueOf(by.id));
    setText(byId("pinned-name"), by.name);
    const time = byId("pinned-time");
    time.dateTime = new Date(at).toISOString();
    time.title = exactTime(at);
    setText(time, moment(at));
    if (this.#text.dataset.text === text) return;
    this.#text.dataset.text = text;
    paint(this.#text, text, { onCopy: this.#onCopy });
    this.#offerMore();
  }

  #open(isOpen) {
    this.#node.classList.toggle("open", isOpen);
    this.#more.setAttribute("aria-expanded", String(isOpen));
    this.#offerMore();
  }

  // Opened it has something to fold, folded only if something of it is out of sight.
  #offerMore() {
    const isCut = this.#text.scrollHeight > this.#text.clientHeight + 1;
    this.#more.hidden = !this.#isOpen && !isCut;
  }

  #hide() {
    hideAnnouncement(this.#room, this.#shown.at);
    this.refresh();
  }
}
