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
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
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
    for (const line of [...this.#list.children]) if (!this.#find(line.dataset.held)) this.#remove(line);
    const shown = new Set([...this.#list.children].map((line) => Number(line.dataset.held)));
    this.#list.append(...this.#held.filter(({ id }) => !shown.has(id)).map((each) => this.#line(each)));
    this.#count();
  }

  #find(id) {
    return this.#held.find((each) => each.id === Number(id));
  }

  #remove(line) {
    const place = line.contains(document.activeElement) ? this.#placeOfFocus : -1;
    line.remove();
    if (place >= 0) focusLine(this.#list, place);
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
    this.#remove([...this.#list.children].find((line) => Number(line.dataset.held) === id));
    this.#count();
    const said = t(show ? "review.shown" : "review.refused", { name: by.name });
    await this.#deeds.do({ type: "review", held: id, show }, { said, onRefused: (error) => this.#onRefused(error) });
    this.#judged.delete(id);
    this.refresh();
  }

  // Somebody else may have been faster.
  #onRefused(error) {
    if (error.code !== "not_found") this.#deeds.tell(error.message);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const place = this.#placeOfFocus;
    if (event.key in STEPS) focusLine(this.#list, Math.max(0, place + STEPS[event.key]));
    else if (event.key.toLowerCase() in KEYS && !event.repeat) this.#judge(this.#find(this.#list.children[place].dataset.held), KEYS[event.key.toLowerCase()]);
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
