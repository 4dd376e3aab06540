/*
 * The messages that wait until a moderator has read them: one after the other, shown or refused, by pointer or by keys.
 *
 * After a verdict the next one has the focus. Knows no socket: what is asked and done is given to it.
 */

import { byId, setText } from "./dom.js";
import { button, element, focusLine, lineOf, note, personButton, timeOf } from "./parts.js";
import { t } from "./words.js";

const KEYS = { s: true, r: false }; // show, refuse
const STEPS = { ArrowDown: 1, ArrowUp: -1 };

export class Review {
  #dialog = byId("review");
  #list = byId("review-list");
  #page;
  #deeds;
  #onPerson;
  #held = [];
  #judged = new Set(); // on their way to the server

  constructor({ page, deeds, onPerson }) {
    this.#page = page;
    this.#deeds = deeds;
    this.#onPerson = onPerson;
    byId("review-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
  }

  // Actions

  async open() {
    setText(byId("review-lead"), "…");
    this.#dialog.showModal();
    byId("review-title").focus();
    await this.refresh();
    focusLine(this.#list, 0);
  }

  /** More wait, or fewer: what is there stays where it is. */
  async refresh() {
    if (!this.#dialog.open) return;
    try {
      const { held } = await this.#page.visit.ask({ type: "held" });
      setText(byId("review-problem"), "");
      this.#take(held);
    } catch (error) {
      setText(byId("review-problem"), error.message);
    }
  }

  // Internal

  // Lines that stay are left alone, and so is the focus in them.
  #take(held) {
    this.#held = held.filter(({ id }) => !this.#judged.has(id));
    for (const line of [...this.#list.children]) if (!this.#find(line.dataset.held)) this.#takeAway(line);
    const shown = new Set([...this.#list.children].map((line) => Number(line.dataset.held)));
    this.#list.append(...this.#held.filter(({ id }) => !shown.has(id)).map((each) => this.#line(each)));
    this.#count();
  }

  #heldAt(place) {
    return this.#find(this.#list.children[place].dataset.held);
  }

  #find(id) {
    return this.#held.find((each) => each.id === Number(id));
  }

  // Somebody else was faster: the key that was meant for this one must not hit the next.
  #takeAway(line) {
    if (line.contains(document.activeElement)) byId("review-title").focus();
    line.remove();
  }

  #goOn(id) {
    const line = [...this.#list.children].find((line) => Number(line.dataset.held) === id);
    const place = [...this.#list.children].indexOf(line);
    line.remove();
    this.#count();
    focusLine(this.#list, place);
  }

  #count() {
    const n = this.#list.children.length;
    setText(byId("review-lead"), n ? t("review.lead", { n }) : t("review.none"));
  }

  get #placeOfFocus() {
    return [...this.#list.children].findIndex((line) => line.contains(document.activeElement));
  }

  #line(held) {
    const { id, at, by, text, why } = held;
    const line = lineOf(
      [
        element("div", "order-who", personButton(by, () => this.#onPerson(by)), timeOf(at)),
        said(text),
        note(t("review.why", { why: reason(why) })),
      ],
      [
        button(t("review.show"), () => this.#judge(held, true)),
        button(t("review.refuse"), () => this.#judge(held, false), "button grave-soft"),
      ],
    );
    line.dataset.held = id;
    return line;
  }

  // The next one is there at once: whoever reads a hundred of them does not wait for the server between two.
  async #judge({ id, by }, show) {
    this.#judged.add(id);
    this.#goOn(id);
    const said = t(show ? "review.shown" : "review.refused", { name: by.name });
    const options = { said, onRefused: (error) => this.#onRefused(error) };
    const isDone = await this.#deeds.do({ type: "review", held: id, show }, options);
    this.#judged.delete(id);
    if (!isDone) this.refresh();
  }

  // Somebody else may have been faster.
  #onRefused(error) {
    if (error.code !== "not_found") this.#deeds.tell(error.message);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const place = this.#placeOfFocus;
    const verdict = KEYS[event.key.toLowerCase()];
    if (event.key in STEPS) focusLine(this.#list, Math.max(0, place + STEPS[event.key]));
    else if (verdict !== undefined && place >= 0 && !event.repeat) this.#judge(this.#heldAt(place), verdict);
    else return;
    event.preventDefault();
  }
}

function said(text) {
  const node = element("p", "order-said", text);
  node.dir = "auto";
  return node;
}

// The server gives a pattern, or "link".
const reason = (why) => (why === "link" ? t("review.link") : why);
