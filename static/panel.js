/*
 * The list of people beside the talk; on a phone it covers the talk.
 *
 * Owns what is searched for and whether the panel is open. A room that is known by name is listed from the roster, a
 * crowd from its directory. Knows no socket: `ask` is given to it.
 */

import { Directory } from "./directory.js";
import { byId, fromTemplate, paintPerson, part, setText } from "./dom.js";
import { LongList } from "./longlist.js";
import { isPanelWished, keepPanelWished } from "./storage.js";
import { count, t } from "./words.js";

const SEARCH_PAUSE_MS = 300; // a crowd is asked when one has stopped typing
const NOBODY = { id: "", name: "…" }; // for a row whose person is not known yet
const wide = window.matchMedia("(min-width: 60rem)");
const touch = window.matchMedia("(pointer: coarse)");

export class Panel {
  #panel = byId("people");
  #toggle = byId("people-toggle");
  #search = byId("people-search");
  #roster;
  #onPick;
  #onChoose;
  #roleOf;
  #directory;
  #list;
  #you = "";
  #timer = null;

  /**
   * `ask({query, offset, limit})` resolves to `{total, people}`; `onPick(person)` hears who was chosen in the list, unless
   * `onChoose(person, {beside, mention})` is true: then `mention()` picks him, or something else is done with him.
   */
  constructor({ roster, ask, onPick, onChoose = () => false, roleOf = () => "", signal }) {
    this.#roster = roster;
    this.#onPick = onPick;
    this.#onChoose = onChoose;
    this.#roleOf = roleOf;
    this.#directory = new Directory({ ask, onChange: (isOther) => this.#show(isOther), signal });
    this.#list = this.#makeList(signal);
    this.#search.value = "";
    this.#listen(signal);
    this.#open(this.#isWished);
  }

  // Lifecycle

  #makeList(signal) {
    return new LongList({
      scroll: byId("people-scroll"),
      list: byId("people-list"),
      paint: (node, person) => this.#paint(node, person),
      onSight: (first, last) => this.#onSight(first, last),
      onPick: (person, row) => this.#pick(person, row),
      signal,
    });
  }

  #listen(signal) {
    this.#toggle.addEventListener("click", () => this.toggle(), { signal });
    byId("people-close").addEventListener("click", () => this.toggle(), { signal });
    this.#panel.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    this.#search.addEventListener("input", () => this.#onSearch(), { signal });
    wide.addEventListener("change", () => this.#onWidth(), { signal });
    document.addEventListener("visibilitychange", () => this.refresh(), { signal });
    signal.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  // Actions

  /** Which of the people is oneself. */
  set you(id) {
    this.#you = id;
    this.refresh();
  }

  /** The roster changed. */
  refresh() {
    const { present, isCrowd } = this.#roster;
    setText(byId("present"), present ? count(present) : "–");
    setText(byId("people-title"), present ? t("people.here", { n: present }) : t("people.title"));
    if (!this.#isInSight) return this.#directory.rest();
    if (isCrowd) this.#directory.changed(present);
    this.#show();
  }

  /** A line opened: what a crowd was asked on the last one is out of date. */
  reload() {
    this.#directory.reload();
    this.refresh();
  }

  /** Opens the panel and goes into it, or closes it and goes back. */
  toggle() {
    const isOpen = this.#panel.hidden;
    this.#open(isOpen);
    if (wide.matches) keepPanelWished(isOpen);
    this.#focus(isOpen);
  }

  // Internal: open or not

  get #isWished() {
    return wide.matches && (isPanelWished() ?? true);
  }

  get #isInSight() {
    return !this.#panel.hidden && !document.hidden;
  }

  #open(isOpen) {
    this.#panel.hidden = !isOpen;
    this.#toggle.setAttribute("aria-expanded", String(isOpen));
    this.#cover();
    this.refresh();
  }

  // On a narrow screen the panel lies over everything else, which is out of reach meanwhile.
  #cover() {
    const isOver = !this.#panel.hidden && !wide.matches;
    for (const covered of document.querySelectorAll(".bar, .banner, .talk")) covered.inert = isOver;
    this.#panel.role = isOver ? "dialog" : "complementary";
    this.#panel.ariaModal = isOver ? "true" : null;
  }

  // The keyboard of a phone would hide half of the list before one has seen it.
  #focus(isOpen) {
    if (!isOpen) this.#toggle.focus();
    else if (touch.matches) this.#panel.focus();
    else this.#search.focus();
  }

  // A window that became narrow, or a page that was zoomed: nobody loses the list he is in.
  #onWidth() {
    this.#open(this.#isWished || this.#panel.contains(document.activeElement));
  }

  #onKey(event) {
    if (event.isComposing) return;
    if (event.key === "ArrowDown" && event.target === this.#search) this.#list.focus();
    else if (event.key === "Escape") this.#leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #leave() {
    if (!this.#search.value) return this.toggle();
    this.#search.value = "";
    this.#onSearch();
    this.#search.focus();
  }

  // Internal: the list

  #onSearch() {
    clearTimeout(this.#timer);
    if (this.#roster.isCrowd) this.#timer = setTimeout(() => this.#directory.search(this.#query), SEARCH_PAUSE_MS);
    else this.#searchKnown();
  }

  // The directory is told, too: the room may become a crowd meanwhile.
  #searchKnown() {
    this.#directory.search(this.#query);
    this.#show(true);
  }

  get #query() {
    return this.#search.value.trim();
  }

  #show(isOther = false) {
    const people = this.#roster.isCrowd ? this.#directory : this.#known();
    if (isOther) this.#list.toTop();
    this.#list.show(people);
    setText(byId("people-note"), noteOn(people));
  }

  #known() {
    const query = this.#query.toLowerCase();
    const people = this.#roster.people.filter(({ name }) => name.toLowerCase().includes(query));
    return {
      query,
      total: people.length,
      at: (index) => people[index],
      indexOf: (id) => people.findIndex((person) => person.id === id),
    };
  }

  #onSight(first, last) {
    if (this.#isInSight && this.#roster.isCrowd) this.#directory.look(first, last);
    else this.#directory.rest();
  }

  #paint(node = fromTemplate("person-row"), person = NOBODY) {
    node.classList.toggle("unknown", person === NOBODY);
    paintPerson(node, person);
    const role = this.#roleOf(person.id);
    part(node, "role").hidden = !role;
    setText(part(node, "role"), role ? t(`role.${role}`) : "");
    part(node, "you").hidden = person.id !== this.#you || person === NOBODY;
    part(node, "pick").title = person === NOBODY ? "" : t("people.mention", { name: person.name });
    return node;
  }

  #pick(person, row) {
    const mention = () => this.#mention(person);
    if (!this.#onChoose(person, { beside: row, mention })) mention();
  }

  // Over the talk, the list is in the way of what one wants to say to him.
  #mention(person) {
    if (!wide.matches) this.toggle();
    this.#onPick(person);
  }
}

function noteOn({ query, total }) {
  if (!query) return "";
  return total ? t("people.found", { n: total }) : t("people.nobody");
}
