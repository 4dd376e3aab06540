/*
 * The dialog of the room's order: its rules, its filter, who has a role or is kept quiet, invitations, what owners may do.
 *
 * Each part is a tab, painted from the frame `order`. What is changed counts at once; the note on it can undo it.
 * Knows no socket: what is asked and done goes through the visit in the room.
 */

import { inverseOf, isForGood, LIFTED } from "./deeds.js";
import { byId, setText } from "./dom.js";
import { Filter } from "./filter.js";
import { Invites } from "./invites.js";
import { rankOf } from "./order.js";
import { Owners } from "./owners.js";
import { button, lineOf, note, personButton, replaceLines, Segments } from "./parts.js";
import { RULES } from "./rules.js";
import { moment, t } from "./words.js";

const TABS = ["rules", "filter", "people", "invites", "owners"];
const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

export class RoomOrder {
  #dialog = byId("order");
  #announcement = byId("announcement");
  #page;
  #deeds;
  #onPerson;
  #segments;
  #parts;
  #tab = "rules";
  #order = null;

  /** `page` has the `room` and the `visit`; `onPerson(person)` hears who was picked in it. */
  constructor({ page, deeds, onPerson }) {
    this.#page = page;
    this.#deeds = deeds;
    this.#onPerson = onPerson;
    this.#segments = this.#makeSegments();
    const change = (frame, options) => this.#change(frame, options);
    this.#parts = [new Filter({ change }), new Invites({ page, deeds }), new Owners({ page, deeds })];
    this.#listen();
  }

  // Lifecycle

  #makeSegments() {
    const groups = [...this.#dialog.querySelectorAll(".segments[data-rule]")];
    return new Map(groups.map((group) => {
      const { rule } = group.dataset;
      const { label, values, textOf } = RULES[rule];
      const onPick = (value) => this.#setRule(rule, value);
      return [rule, new Segments(group, { label: label(), choices: values, textOf, onPick })];
    }));
  }

  #listen() {
    byId("order-close").addEventListener("click", () => this.#dialog.close());
    byId("order-tabs").addEventListener("click", ({ target }) => this.#go(target.closest("[role=tab]")));
    byId("order-tabs").addEventListener("keydown", (event) => this.#onKey(event));
    byId("announcing").addEventListener("submit", (event) => this.#announce(event));
    byId("announcing-down").addEventListener("click", () => this.#setRule("announcement", ""));
    for (const box of this.#switches) box.addEventListener("change", () => this.#setRule(box.dataset.rule, box.checked));
  }

  get #switches() {
    return [...this.#dialog.querySelectorAll("input[data-rule]")];
  }

  // Actions

  open() {
    if (this.#dialog.open) return;
    this.#announcement.value = this.#page.visit.order.rules.announcement?.text ?? "";
    this.#paintRules();
    this.#select(this.#tab);
    this.#dialog.showModal();
    this.#tabOf(this.#tab).focus();
    for (const part of this.#parts) part.begin?.();
    this.refresh();
  }

  /** Something of the order changed. */
  async refresh() {
    if (!this.#dialog.open) return;
    this.#paintRules();
    try {
      this.#order = await this.#page.visit.ask({ type: "order" });
      setText(byId("order-problem"), "");
      this.#paint();
    } catch (error) {
      setText(byId("order-problem"), error.message);
    }
  }

  // Internal: tabs

  #tabOf = (name) => byId(`tab-${name}`);

  get #offered() {
    return TABS.filter((name) => name !== "owners" || this.#page.visit.order.rank >= rankOf("owner"));
  }

  #go(tab) {
    if (tab) this.#select(tab.id.slice("tab-".length));
  }

  #select(name) {
    this.#tab = this.#offered.includes(name) ? name : "rules";
    for (const each of TABS) {
      const isOn = each === this.#tab;
      byId(`order-${each}`).hidden = !isOn;
      this.#tabOf(each).hidden = !this.#offered.includes(each);
      this.#tabOf(each).ariaSelected = String(isOn);
      this.#tabOf(each).tabIndex = isOn ? 0 : -1;
    }
    this.#tabOf(this.#tab).scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  #onKey(event) {
    if (!(event.key in STEPS)) return;
    event.preventDefault();
    const place = this.#offered.indexOf(this.#tab) + STEPS[event.key];
    this.#select(this.#offered[Math.min(Math.max(place, 0), this.#offered.length - 1)]);
    this.#tabOf(this.#tab).focus();
  }

  // Internal: painting

  #paintRules() {
    const { rules } = this.#page.visit.order;
    for (const [rule, segments] of this.#segments) segments.show(rules[rule]);
    for (const box of this.#switches) box.checked = rules[box.dataset.rule];
    byId("announcing-down").disabled = rules.announcement === null;
  }

  #paint() {
    this.#paintRoles();
    this.#paintRestraints();
    for (const part of this.#parts) part.show(this.#order);
  }

  #paintRoles() {
    const lines = this.#order.roles.map((each) => lineOf([this.#person(each), note(t(`role.${each.role}`))]));
    replaceLines(byId("standing-roles"), lines);
  }

  #paintRestraints() {
    const restraints = merged(this.#order.restraints);
    replaceLines(byId("standing-restraints"), restraints.map((each) => this.#restraint(each)));
    byId("standing-none").hidden = restraints.length > 0;
  }

  #restraint(restraint) {
    const { whom, reason } = restraint;
    const why = reason ? note(t("record.reason", { reason })) : "";
    return lineOf(
      [this.#person(whom), restraintSentence(restraint), why],
      [button(t("card.lift"), () => this.#lift(restraint), "button small")],
    );
  }

  #person(person) {
    return personButton(person, () => this.#onPerson(person));
  }

  // Internal: acts

  /** Does an act on the room, which can be undone; resolves to its answer, or null. */
  #change(frame, options) {
    const { order } = this.#page.visit;
    const before = { rules: order.rules, patterns: this.#order?.patterns ?? [] };
    return this.#deeds.do(frame, { inverse: inverseOf(frame, before, order.now()), ...options });
  }

  async #setRule(rule, value) {
    const isLoss = rule.startsWith("keep_") && losesMore(this.#page.visit.order.rules[rule], value);
    if (isLoss && !(await this.#sureToLose(rule, value))) return;
    const text = RULES[rule].textOf(value);
    const said = text ? t("rule.is", { rule: RULES[rule].label(), value: text }) : t("announcing.taken_down");
    // What is done, its event tells; a switch that was refused goes back.
    if (!(await this.#change({ type: "rules", [rule]: value }, { said }))) this.#paintRules();
  }

  #sureToLose(rule, value) {
    const kept = RULES[rule].textOf(value);
    return this.#deeds.sure({ title: t("sure.keep_title"), text: t("sure.keep", { kept }), yes: t("sure.keep_yes") });
  }

  #announce(event) {
    event.preventDefault();
    const text = this.#announcement.value.trim();
    if (text) this.#setRule("announcement", text);
    else this.#announcement.focus();
  }

  #lift({ act, whom, until, reason, address }) {
    const before = { [act === "mute" ? "muted_until" : "banned_until"]: until, reason };
    const frame = { type: act, person: whom.id, seconds: 0, ...(address && { address }) };
    const inverse = inverseOf(frame, before, this.#page.visit.order.now());
    this.#deeds.do(frame, { said: t(LIFTED[act], { name: whom.name }), inverse });
  }
}

/** True if by `after` instead of `before` (0: all is kept) something that is kept may go. */
const losesMore = (before, after) => after !== 0 && (before === 0 || after < before);

function restraintSentence({ act, until, address }) {
  const key = `${act === "mute" ? "muted" : "banned"}${isForGood(until) ? "_for_good" : ""}`;
  const sentence = t(`card.${key}`, { time: isForGood(until) ? "" : moment(until) });
  return address ? t("standing.with_address", { sentence }) : sentence;
}

/** A person and his address may be banned in one: that is one line, and lifted in one. */
function merged(restraints) {
  const lines = new Map();
  for (const each of restraints) {
    const key = `${each.act} ${each.whom.id}`;
    lines.set(key, { ...each, ...lines.get(key), address: Boolean(each.address || lines.get(key)?.address) });
  }
  return [...lines.values()];
}
