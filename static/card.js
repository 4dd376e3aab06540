/*
 * The card of a person: how he stands here, what he said, what was done about him, and what can be done.
 *
 * On a wide screen it stands beside the talk, which goes on; on a narrow one it covers it. Knows no socket: what is asked
 * and done goes through the visit in the room.
 */

import { Records } from "./actlog.js";
import { inverseOf, isForGood, LIFTED } from "./deeds.js";
import { byId, paintPerson, setText } from "./dom.js";
import { rankOf } from "./order.js";
import { armedButton, button, element, focusLine, lineOf, note, replaceLines, timeOf } from "./parts.js";
import { BANS_S, MUTES_S, UNITS_S } from "./rules.js";
import { moment, span, t } from "./words.js";

const REASONS = ["spam", "flood", "insult", "harass", "topic"];
const GIVEN = { "": "deed.role_none", moderator: "deed.role_moderator", owner: "deed.role_owner" };
const ROLES = Object.keys(GIVEN);
const FIRST_RECORDS = 5;
const PAGE = 30;
const MAX_PAGE = 100; // the server gives no more at once
const MAX_MUTE_S = 366 * 24 * 3600;
const wide = window.matchMedia("(min-width: 60rem)");

export class Card {
  #dialog = byId("card");
  #reason = byId("card-reason");
  #address = byId("card-address");
  #withPurge = byId("card-ban-purge");
  #messages = byId("card-messages");
  #page;
  #deeds;
  #records;
  #bans = [];
  #card = null;
  #opener = null;

  /** `page` has the `visit`; `onPerson(person)` hears who was picked in it, `onLog(person)` that all about him is wanted. */
  constructor({ page, deeds, onPerson, onLog }) {
    this.#page = page;
    this.#deeds = deeds;
    const ask = (question) => page.visit.ask(question);
    this.#records = new Records(byId("card-log"), {
      ask, onPerson, onJump: (seq) => this.#jump(seq), onMore: () => onLog(this.#card),
    });
    this.#draw();
    this.#listen();
  }

  // Lifecycle

  #draw() {
    byId("card-reasons").append(...REASONS.map((key) => this.#chip(t(`reason.${key}`))));
    const mutes = MUTES_S.map((seconds) => button(span(seconds, "short"), () => this.#mute(seconds)));
    this.#acts("mute").append(...mutes, this.#customMute());
    const lengthOf = (seconds) => (seconds ? span(seconds, "short") : t("card.for_good"));
    this.#bans = BANS_S.map((seconds) => button(lengthOf(seconds), () => this.#ban(seconds)));
    this.#acts("ban").append(...this.#bans);
    byId("card-role").append(...ROLES.map((role) => button(roleName(role), () => this.#giveRole(role), "segment")));
    byId("card-role").ariaLabel = t("card.role");
  }

  #listen() {
    byId("card-close").addEventListener("click", () => this.#dialog.close());
    byId("card-kick").addEventListener("click", () => this.#kick());
    byId("card-purge").addEventListener("click", () => this.#purge());
    byId("card-more").addEventListener("click", () => this.#loadMore());
    byId("card-acts").addEventListener("submit", (event) => event.preventDefault());
    this.#address.addEventListener("change", () => this.#judgeBans());
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
    this.#dialog.addEventListener("close", () => this.#return());
  }

  #acts(name) {
    return byId("card-acts").querySelector(`[data-act="${name}"]`);
  }

  #chip(text) {
    return button(text, () => { this.#reason.value = text; }, "chip");
  }

  // A number and its unit, instead of one of the lengths that are offered.
  #customMute() {
    const number = element("input", "custom-number");
    Object.assign(number, { type: "number", min: 1, max: 999, value: 15, inputMode: "numeric", ariaLabel: t("card.length") });
    const unit = element("select", "", ...UNITS_S.map((seconds) => new Option(unitName(seconds), seconds)));
    unit.ariaLabel = t("card.unit");
    const act = () => this.#mute(Math.min(MAX_MUTE_S, Math.max(1, Math.round(number.value) || 1) * unit.value));
    const node = element("details", "custom", element("summary", "button", t("card.custom")));
    node.append(element("div", "field-row", number, unit, button(t("card.mute"), act)));
    return node;
  }

  // Actions

  /** Opens the card of `person` ({id, name}). */
  open(person) {
    if (this.#card?.id !== person.id) this.#begin(person);
    this.#show();
    byId("card-name").focus({ preventScroll: true });
    this.#dialog.scrollTop = 0;
    return this.#load();
  }

  /** Something was done, here or elsewhere. */
  refresh() {
    if (this.#dialog.open) this.#load();
  }

  // Internal: open and closed

  #begin(person) {
    this.#card = { ...person, role: "", here: false, from_address: 0, events: [], more_before: false };
    for (const box of [this.#address, this.#withPurge]) box.checked = false;
    this.#reason.value = "";
    this.#messages.replaceChildren();
    byId("card-restraints").replaceChildren();
    byId("card-acts").hidden = true;
    this.#paintHead();
  }

  // Beside the talk, a dialog that was opened meanwhile would keep it out of reach.
  #show() {
    const isAside = wide.matches && !document.querySelector("dialog:modal");
    if (this.#dialog.matches(isAside ? "[open]" : ":modal")) return;
    this.#opener = document.activeElement;
    this.#dialog.close();
    if (isAside) this.#dialog.show();
    else this.#dialog.showModal();
  }

  #onKey(event) {
    if (event.key !== "Escape" || event.isComposing || this.#dialog.matches(":modal")) return;
    event.preventDefault();
    event.stopPropagation();
    this.#dialog.close();
  }

  // The browser leads back by itself, but not to a message that was removed meanwhile. This comes a moment later:
  // by then somebody may have gone on to something else.
  #return() {
    if (this.#dialog.open || document.activeElement !== document.body) return;
    const isThere = this.#opener?.isConnected && this.#opener !== document.body;
    (isThere ? this.#opener : byId("log")).focus({ preventScroll: true });
  }

  // Internal: what is known of him

  async #load() {
    const { id } = this.#card;
    this.#records.show({ person: id, limit: FIRST_RECORDS });
    const card = await this.#ask({ limit: Math.min(MAX_PAGE, Math.max(PAGE, this.#card.events.length)) });
    if (!card || this.#card.id !== id) return;
    this.#card = { ...card, name: card.name || this.#card.name };
    this.#paint();
  }

  async #loadMore() {
    const place = this.#messages.children.length;
    const more = await this.#ask({ before: this.#card.events.at(-1)?.seq, limit: PAGE });
    if (more?.id !== this.#card.id) return;
    this.#card.events.push(...more.events);
    this.#card.more_before = more.more_before;
    this.#paintMessages();
    focusLine(this.#messages, place);
  }

  /** The card with its messages, the newest first; null if it could not be had, which is said. */
  async #ask(more) {
    try {
      const card = await this.#page.visit.ask({ type: "person", person: this.#card.id, ...more });
      setText(byId("card-problem"), "");
      return { ...card, events: card.events.toSorted((a, b) => b.seq - a.seq) };
    } catch (error) {
      setText(byId("card-problem"), error.message);
      return null;
    }
  }

  // Internal: painting

  #paint() {
    this.#paintHead();
    this.#paintRestraints();
    this.#paintActs();
    this.#paintMessages();
  }

  #paintHead() {
    const { role, here } = this.#card;
    paintPerson(this.#dialog, this.#card);
    const standing = [role && roleName(role), t(here ? "card.here" : "card.away")];
    setText(byId("card-standing"), standing.filter(Boolean).join(" · "));
  }

  #paintRestraints() {
    const { muted_until, muted_for, banned_until, banned_for } = this.#card;
    const lines = [
      muted_until && this.#restraint(untilSentence("muted", muted_until), muted_for, () => this.#lift("mute")),
      banned_until && this.#restraint(untilSentence("banned", banned_until), banned_for, () => this.#lift("ban")),
    ];
    replaceLines(byId("card-restraints"), lines.filter(Boolean));
  }

  #restraint(sentence, reason, onLift) {
    const why = reason ? note(t("record.reason", { reason })) : "";
    return lineOf([sentence, why], this.#mayAct ? [button(t("card.lift"), onLift, "button small")] : []);
  }

  // The server judges alike: who acts has to be above, but owners may also make and unmake owners.
  get #mayAct() {
    const { order } = this.#page.visit;
    return order.role === "operator" || rankOf(this.#card.role) < order.rank;
  }

  #paintActs() {
    const { rank } = this.#page.visit.order;
    const form = byId("card-acts");
    form.hidden = !this.#mayAct && rank < rankOf("owner");
    for (const node of form.children) node.hidden = !this.#mayAct;
    byId("card-role").hidden = rank < rankOf("owner");
    const roles = [...byId("card-role").children];
    for (const [at, node] of roles.entries()) node.ariaPressed = String(ROLES[at] === this.#card.role);
    byId("card-kick").disabled = !this.#card.here;
    this.#paintAddress();
  }

  #paintAddress() {
    const { here, from_address } = this.#card;
    this.#address.disabled = !here;
    this.#address.checked &&= here;
    const sentence = here ? t("card.address", { n: from_address }) : t("card.no_address");
    setText(this.#address.nextElementSibling, sentence);
    this.#judgeBans();
  }

  // Addresses change hands: nobody is kept out for good by one.
  #judgeBans() {
    this.#bans.at(-1).disabled = this.#address.checked;
  }

  #paintMessages() {
    const { events, more_before } = this.#card;
    replaceLines(this.#messages, events.map((event) => this.#message(event)));
    byId("card-silent").hidden = events.length > 0;
    byId("card-more").hidden = !more_before;
  }

  #message(event) {
    const text = element("p", "order-said", event.text ?? "");
    text.dir = "auto";
    return lineOf(
      [note(timeOf(event.at)), text],
      [
        button(t("card.jump"), () => this.#jump(event.seq), "button small"),
        armedButton(t("card.delete"), () => this.#delete(event)),
      ],
    );
  }

  #jump(seq) {
    for (const dialog of document.querySelectorAll("dialog:modal")) dialog.close();
    this.#page.visit.goTo(seq);
  }

  // Internal: acts

  /** Does `frame` on him with the reason that was written; `said` tells how. */
  #do(frame, said) {
    const act = { ...frame, person: this.#card.id, reason: this.#reason.value.trim() };
    const { muted_for, banned_for } = this.#card;
    const before = { ...this.#card, reason: act.type === "mute" ? muted_for : banned_for };
    const inverse = inverseOf(act, before, this.#page.visit.order.now());
    return this.#deeds.do(act, { said, inverse });
  }

  #mute(seconds) {
    this.#do({ type: "mute", seconds }, t("deed.muted", { name: this.#card.name, span: span(seconds) }));
  }

  async #ban(seconds) {
    const { name } = this.#card;
    const purge = this.#withPurge.checked;
    const frame = { type: "ban", ...(seconds && { seconds }), address: this.#address.checked, purge };
    if (purge && !(await this.#surePurge())) return;
    this.#do(frame, seconds ? t("deed.banned", { name, span: span(seconds) }) : t("deed.banned_for_good", { name }));
  }

  #lift(type) {
    this.#do({ type, seconds: 0 }, t(LIFTED[type], { name: this.#card.name }));
  }

  #kick() {
    this.#do({ type: "kick" }, t("deed.kicked", { name: this.#card.name }));
  }

  async #purge() {
    if (await this.#surePurge()) this.#do({ type: "purge" }, t("deed.purged", { name: this.#card.name }));
  }

  #surePurge() {
    const { name } = this.#card;
    return this.#deeds.sure({ title: t("sure.purge_title", { name }), text: t("sure.purge"), yes: t("sure.purge_yes") });
  }

  #giveRole(role) {
    if (role !== this.#card.role) this.#do({ type: "role", role }, t(GIVEN[role], { name: this.#card.name }));
  }

  #delete({ seq }) {
    this.#deeds.do({ type: "delete", message: seq, reason: this.#reason.value.trim() }, { said: t("deed.deleted") });
  }
}

const roleName = (role) => t(`role.${role || "none"}`);

const untilSentence = (how, until) =>
  isForGood(until) ? t(`card.${how}_for_good`) : t(`card.${how}`, { time: moment(until) });

/** "minutes", as `Intl` puts it beside a number. */
const unitName = (seconds) => span(seconds * 2).replace(/^[\d\p{Z}]+/u, "");
