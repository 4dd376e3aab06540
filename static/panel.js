/*
 * The list of people beside the talk.
 *
 * Shows the roster while the room is small enough to be known by name; of a crowd it asks the server page by page.
 * Owns what is searched for and whether the panel is open. Knows no socket: `ask` is given to it.
 */

import { byId, fromTemplate, paintPerson, part, setText } from "./dom.js";
import { isPanelWished, keepPanelWished } from "./storage.js";
import { count, counted } from "./words.js";

const PAGE = 50;
const SEARCH_PAUSE_MS = 300;
const wide = window.matchMedia("(min-width: 60rem)");

export class Panel {
  #panel = byId("people");
  #toggle = byId("people-toggle");
  #search = byId("people-search");
  #roster;
  #ask;
  #you = "";
  #found = { total: 0, people: [] };
  #timer = null;

  /** `ask({query, offset, limit})` resolves to `{total, people}`. */
  constructor(roster, ask) {
    this.#roster = roster;
    this.#ask = ask;
    this.#toggle.addEventListener("click", () => this.#show(this.#panel.hidden));
    byId("people-close").addEventListener("click", () => this.#show(false));
    byId("people-more").addEventListener("click", () => this.#fetch(this.#found.people.length));
    this.#panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.#show(false));
    this.#search.addEventListener("input", () => this.#onSearch());
    this.#open(wide.matches && (isPanelWished() ?? true));
  }

  // Actions

  set you(id) {
    this.#you = id;
  }

  /** The roster changed. */
  refresh() {
    setText(byId("present"), count(this.#roster.present));
    if (!this.#panel.hidden && this.#isLocal) this.#paint();
  }

  /** A line opened: a crowd's list can be asked for. */
  reload() {
    this.refresh();
    if (!this.#panel.hidden && !this.#isLocal) this.#fetch(0);
  }

  // Internal

  get #isLocal() {
    return !this.#roster.isCrowd && this.#roster.isWhole;
  }

  #show(isOpen) {
    this.#open(isOpen);
    if (wide.matches) keepPanelWished(isOpen);
    (isOpen ? this.#search : this.#toggle).focus();
  }

  #open(isOpen) {
    this.#panel.hidden = !isOpen;
    this.#toggle.setAttribute("aria-expanded", String(isOpen));
    if (isOpen) this.#update();
  }

  #onSearch() {
    clearTimeout(this.#timer);
    if (this.#isLocal) this.#paint();
    else this.#timer = setTimeout(() => this.#fetch(0), SEARCH_PAUSE_MS);
  }

  #update() {
    if (this.#isLocal) this.#paint();
    else this.#fetch(0);
  }

  async #fetch(offset) {
    const query = this.#search.value;
    const page = await this.#ask({ query, offset, limit: PAGE }).catch(() => null);
    if (!page || query !== this.#search.value) return;
    const before = offset ? this.#found.people : [];
    this.#found = { total: page.total, people: [...before, ...page.people] };
    this.#paint();
  }

  #paint() {
    const { total, people } = this.#isLocal ? this.#filtered() : this.#found;
    byId("people-list").replaceChildren(...people.map((person) => this.#row(person)));
    byId("people-more").hidden = people.length >= total;
    setText(byId("people-title"), this.#title());
    setText(byId("people-note"), this.#note(total, people.length));
  }

  #filtered() {
    const query = this.#search.value.toLocaleLowerCase();
    const people = this.#roster.people.filter(({ name }) => name.toLocaleLowerCase().includes(query));
    return { total: people.length, people };
  }

  #row(person) {
    const node = fromTemplate("person-row");
    paintPerson(node, person);
    part(node, "you").hidden = person.id !== this.#you;
    return node;
  }

  #title() {
    const { present } = this.#roster;
    return present ? counted(present, "person here", "people here") : "People here";
  }

  #note(total, shown) {
    if (total === 0) return this.#search.value ? "Nobody here has such a name." : "";
    return shown < total ? `${count(shown)} of ${count(total)}` : "";
  }
}
