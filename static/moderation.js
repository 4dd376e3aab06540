/*
 * What moderators have on the page: the button in the bar and its menu, cards, dialogs, the notes on what they did.
 *
 * Fetched when somebody first has a role in a room; from then on it follows him from room to room, and shows nothing
 * where he has none. Whoever is in the room tells it of people that were picked and of what happened.
 */

import { ActLog } from "./actlog.js";
import { Card } from "./card.js";
import { Deeds } from "./deeds.js";
import { byId, fromTemplate, part, setText } from "./dom.js";
import { pathOf } from "./links.js";
import { Pause } from "./pause.js";
import { pieceAt } from "./piece.js";
import { Raid } from "./raid.js";
import { Review } from "./review.js";
import { RoomOrder } from "./roomorder.js";
import { count, learn, t } from "./words.js";

await furnish();

const DIALOGS = ["card", "sure", "order", "review", "records"];
const REFRESH_MS = 100; // what is done is told twice, as an answer and as an event
const REFRESH_EVERY_MS = 1000; // the server allows 5 questions a second, and a room may be in uproar
const CONCERNS = new Set(["act", "delete", "purge", "role", "rules"]);

export class Moderation {
  #page;
  #visit = null;
  #deeds;
  #card;
  #order;
  #review;
  #log;
  #raids;
  #pause;
  #toggle;
  #menu;
  #refreshing = null;
  #refreshedAt = -REFRESH_EVERY_MS;
  #chosen = null; // from the list of people: {person, mention}

  /** `page` has the `room` that is open and the `visit` in it. */
  constructor(page) {
    this.#page = page;
    document.body.append(byId("moderation").content.cloneNode(true));
    this.#makeParts();
    this.#makeMenu();
    this.#makeChoice();
  }

  // Lifecycle

  #makeParts() {
    const page = this.#page;
    this.#deeds = new Deeds({ act: (frame) => page.visit.act(frame), onDone: () => this.#refreshSoon() });
    const shared = { page, deeds: this.#deeds, onPerson: (person) => this.card(person) };
    this.#card = new Card({ ...shared, onLog: (person) => this.#log.open(person) });
    this.#order = new RoomOrder(shared);
    this.#review = new Review(shared);
    this.#log = new ActLog({
      ask: (question) => page.visit.ask(question),
      onPerson: (person) => this.card(person),
      onJump: (seq) => this.#jump(seq),
    });
    const onHold = (isHeld, isMoved) => this.#visit?.hold(isHeld, isMoved);
    this.#pause = new Pause({ log: byId("log"), list: byId("rows"), onHold });
  }

  #makeMenu() {
    this.#menu = byId("order-menu");
    this.#toggle = fromTemplate("order-button");
    this.#toggle.popoverTargetElement = this.#menu;
    byId("menu-toggle").before(this.#toggle);
    const shared = { page: this.#page, deeds: this.#deeds };
    this.#raids = [...document.querySelectorAll("[data-raid]")].map((place) => new Raid(place, shared));
    this.#leadTo("order-review", () => this.#review.open());
    this.#leadTo("order-open", () => this.#order.open());
    this.#leadTo("order-share", () => byId("share").click());
    this.#leadTo("order-log", () => this.#log.open());
  }

  // Into a dialog, from which one comes back to the button.
  #leadTo(id, open) {
    byId(id).addEventListener("click", () => {
      this.#menu.hidePopover();
      this.#toggle.focus();
      open();
    });
  }

  #makeChoice() {
    const choose = (id, act) => byId(id).addEventListener("click", () => {
      byId("person-choice").hidePopover();
      act();
    });
    choose("person-mention", () => this.#chosen.mention());
    choose("person-card", () => this.card(this.#chosen.person));
  }

  // Actions

  /** The room, or what one may do in it, changed. */
  follow() {
    if (this.#visit !== this.#page.visit) this.#enter(this.#page.visit);
    const isKeeper = this.#isKeeper;
    if (!isKeeper) this.#leave();
    document.body.classList.toggle("keeps-order", isKeeper);
    this.#toggle.hidden = !isKeeper;
    this.#toggle.classList.toggle("alarmed", this.#visit.order.isRaid);
    for (const raid of this.#raids) raid.show(this.#visit.order);
    this.onWaiting(this.#visit.held);
  }

  /** Opens the card of `person`; false if that is not for whoever sits here. */
  card(person) {
    if (!this.#isKeeper) return false;
    for (const id of ["records", "review"]) if (byId(id).open) byId(id).close();
    this.#card.open(person);
    return true;
  }

  /** Somebody was picked from the list of people: `mention()` him, or see his card; false if there is no choice. */
  choose(person, { beside, mention }) {
    if (!this.#isKeeper) return false;
    const choice = byId("person-choice");
    this.#chosen = { person, mention };
    setText(byId("person-mention"), t("people.mention", { name: person.name }));
    choice.ariaLabel = person.name;
    choice.showPopover();
    placeBeside(choice, beside);
    byId("person-mention").focus();
    return true;
  }

  /** Opens the menu of the bar's button. */
  openMenu() {
    if (!this.#isKeeper) return;
    this.#menu.showPopover();
    this.#menu.querySelector("button").focus();
  }

  undo() {
    this.#deeds.undo();
  }

  /** So many messages wait for review. */
  onWaiting(held) {
    for (const badge of [byId("order-held"), part(this.#toggle, "held")]) {
      badge.hidden = held === 0;
      setText(badge, count(held));
    }
    const label = held ? t("order.menu_held", { n: held }) : t("order.menu");
    this.#toggle.ariaLabel = this.#toggle.title = label;
    this.#refreshSoon();
  }

  /** An event of the room's log. */
  onEvent({ type }) {
    if (CONCERNS.has(type)) this.#refreshSoon();
  }

  // Internal

  get #isKeeper() {
    return this.#page.visit.order.rank > 0;
  }

  #enter(visit) {
    this.#leave();
    this.#visit = visit;
    visit.keeper = this;
  }

  #leave() {
    for (const id of DIALOGS) byId(id).close();
    for (const menu of [this.#menu, byId("person-choice")]) menu.hidePopover();
    this.#deeds.hide();
    this.#pause.end();
  }

  #refreshSoon() {
    const wait_ms = Math.max(REFRESH_MS, this.#refreshedAt + REFRESH_EVERY_MS - performance.now());
    this.#refreshing ??= setTimeout(() => this.#refresh(), wait_ms);
  }

  // Each only if it is open.
  #refresh() {
    this.#refreshing = null;
    this.#refreshedAt = performance.now();
    for (const dialog of [this.#card, this.#order, this.#review]) dialog.refresh();
  }

  #jump(seq) {
    for (const dialog of document.querySelectorAll("dialog:modal")) dialog.close();
    this.#visit.goTo(seq);
  }
}

/** Under `node` where there is room, else over it, and never out of sight. */
function placeBeside(choice, node) {
  const { top, bottom, left } = node.getBoundingClientRect();
  const { width, height } = choice.getBoundingClientRect();
  const y = bottom + height > innerHeight ? top - height : bottom;
  choice.style.setProperty("inset", `${Math.max(0, y)}px auto auto ${Math.max(0, Math.min(left, innerWidth - width))}px`);
}

/** Brings the page what of it only moderators have: sentences, style, markup. */
async function furnish() {
  const piece = await pieceAt(pathOf("/moderation"));
  const style = piece.getElementById("moderators-style");
  const isStyled = new Promise((resolve) => { style.onload = style.onerror = resolve; });
  learn(JSON.parse(piece.getElementById("moderators-words").textContent));
  document.head.append(style);
  document.body.append(piece.getElementById("moderation"));
  await isStyled;
}
