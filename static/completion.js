/*
 * The names offered while one writes `@…`.
 *
 * Owns the list over the text field: when it is open, which name is the active one, and what a chosen one puts into the
 * text. The focus stays in the field; aria-activedescendant tells the active name. The field has no aria-expanded, as
 * only a combobox may, and a combobox has one line.
 * Knows neither who is here (it asks `findPeople`) nor what the text is for.
 */

import { byId, fromTemplate, paintPerson } from "./dom.js";
import { matching, mentionAt } from "./mentions.js";

const MAX_OFFERED = 8;

export class Completion {
  #field;
  #list = byId("completion");
  #findPeople;
  #mention = null; // the `{from, query}` that names are offered for
  #settled = null; // the `from` of one that was completed or refused: it is left alone
  #found = []; // for this query, or for the one before
  #offered = [];
  #active = 0;
  #isComposing = false;
  #keys = {
    ArrowDown: () => this.#mark(this.#active + 1),
    ArrowUp: () => this.#mark(this.#active - 1),
    Enter: () => this.#take(this.#active),
    Tab: () => this.#take(this.#active),
    Escape: () => this.#settle(this.#mention.from),
  };

  /** `findPeople(query)` promises people `{id, name}` who may be meant, in any order. */
  constructor({ field, findPeople, signal }) {
    this.#field = field;
    this.#findPeople = findPeople;
    const on = (target, type, act) => target.addEventListener(type, act, { signal });
    on(field, "input", () => this.#look());
    on(document, "selectionchange", () => this.#look());
    on(field, "compositionstart", () => this.#compose(true));
    on(field, "compositionend", () => this.#compose(false));
    on(field, "blur", () => this.close());
    on(this.#list, "mousedown", (event) => event.preventDefault()); // or the field would lose the focus
    on(this.#list, "click", ({ target }) => this.#onClick(target.closest("[role=option]")));
    signal.addEventListener("abort", () => this.close());
  }

  // Actions

  /** Offers nothing until somebody writes on. */
  close() {
    this.#settle(null);
  }

  /** Puts `@name` in the place of what stands between `from` and `to`. */
  insert(name, from, to) {
    this.#field.setRangeText(`@${name} `, from, to, "end");
    this.#settle(from);
    this.#field.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** True if the key was meant for the list. */
  onKey(event) {
    const act = this.#keys[event.key];
    if (this.#list.hidden || !act || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return false;
    event.preventDefault();
    act();
    return true;
  }

  // Internal

  async #look() {
    const mention = this.#mentionHere();
    if (mention?.from !== this.#settled) this.#settled = null;
    if (!mention || this.#settled !== null) return this.#settle(this.#settled);
    if (mention.from === this.#mention?.from && mention.query === this.#mention.query) return;
    this.#mention = mention;
    this.#offer(this.#found); // as far as they still fit: a hasty Enter must not take somebody else
    const found = await this.#findPeople(mention.query).catch(() => this.#found);
    if (this.#mention === mention) this.#offer(found);
  }

  #mentionHere() {
    const { value, selectionStart, selectionEnd } = this.#field;
    const isWriting = document.activeElement === this.#field && selectionStart === selectionEnd && !this.#isComposing;
    return isWriting ? mentionAt(value, selectionStart) : null;
  }

  #compose(isComposing) {
    this.#isComposing = isComposing;
    this.#look();
  }

  #settle(from) {
    this.#mention = null;
    this.#settled = from;
    this.#offer([]);
  }

  #take(index) {
    const { from } = this.#mention;
    this.insert(this.#offered[index].name, from, this.#field.selectionEnd);
  }

  #onClick(option) {
    if (option) this.#take([...this.#list.children].indexOf(option));
  }

  #offer(found) {
    this.#found = found;
    this.#offered = found.length ? best(found, this.#mention.query) : [];
    this.#list.replaceChildren(...this.#offered.map(optionOf));
    this.#list.hidden = !this.#offered.length;
    if (this.#offered.length) this.#mark(0);
    else this.#field.removeAttribute("aria-activedescendant");
  }

  // Past the last one comes the first.
  #mark(index) {
    const options = [...this.#list.children];
    this.#active = (index + options.length) % options.length;
    options.forEach((option, place) => option.setAttribute("aria-selected", place === this.#active));
    this.#field.setAttribute("aria-activedescendant", options[this.#active].id);
    options[this.#active].scrollIntoView({ block: "nearest" });
  }
}

function best(people, query) {
  const byName = new Map(people.map((person) => [person.name, person]));
  return matching([...byName.keys()], query, MAX_OFFERED).map((name) => byName.get(name));
}

function optionOf(person, index) {
  const option = fromTemplate("offer-row");
  option.id = `offer-${index}`;
  paintPerson(option, person);
  return option;
}
