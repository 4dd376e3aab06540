/*
 * The links by which people come into a room: they are made, seen once, listed and revoked.
 *
 * Knows no socket: what is done goes through the visit in the room.
 */

import { byId, setText } from "./dom.js";
import { armedButton, button, lineOf, note, offerLink, replaceLines, Segments } from "./parts.js";
import { INVITES_S } from "./rules.js";
import { moment, span, t } from "./words.js";

const MAX_USES = 10_000;

/**
 * Makes a link and shows it in `place`; resolves to whether there is one. Whoever has it can come in, so it is nowhere else.
 */
export async function makeLink({ deeds, place, label, ...invite }) {
  const answer = await deeds.do({ type: "invite", ...invite }, {});
  if (answer) offerLink(place, new URL(answer.path, location).href, label);
  return answer !== null;
}

export class Invites {
  #panel = byId("order-invites");
  #uses = byId("invite-uses");
  #list = byId("invites");
  #page;
  #deeds;
  #span;
  #seconds = INVITES_S[1];

  constructor({ page, deeds }) {
    this.#page = page;
    this.#deeds = deeds;
    this.#span = new Segments(byId("invite-span"), {
      label: t("invite.span"), choices: INVITES_S, textOf: (seconds) => span(seconds, "short"), onPick: (seconds) => this.#choose(seconds),
    });
    byId("invite-form").addEventListener("submit", (event) => this.#make(event));
  }

  // Actions

  begin() {
    this.#place.replaceChildren();
    this.#uses.value = 1;
    this.#choose(INVITES_S[1]);
  }

  show({ invites }) {
    const now = this.#page.visit.order.now();
    const open = invites.filter(({ until, uses, used }) => until > now && used < uses);
    const over = invites.filter((each) => !open.includes(each));
    const lines = [...open.map((each) => this.#line(each, true)), ...over.map((each) => this.#line(each, false))];
    replaceLines(this.#list, lines);
    byId("invites-none").hidden = invites.length > 0;
  }

  // Internal

  get #place() {
    return this.#panel.querySelector("[data-link]");
  }

  #choose(seconds) {
    this.#seconds = seconds;
    this.#span.show(seconds);
  }

  async #make(event) {
    event.preventDefault();
    const uses = Number(this.#uses.value);
    const isRight = Number.isInteger(uses) && uses >= 1 && uses <= MAX_USES;
    setText(byId("invite-problem"), isRight ? "" : t("invite.bad_uses", { n: MAX_USES }));
    if (!isRight) return this.#uses.focus();
    const label = t("invite.link", { n: uses, span: span(this.#seconds) });
    await makeLink({ deeds: this.#deeds, place: this.#place, label, seconds: this.#seconds, uses });
  }

  #line(invite, isOpen) {
    const { by, until, uses, used = 0, role } = invite;
    const state = isOpen ? t("invite.until", { time: moment(until) }) : t("invite.over");
    const revoke = (put_out) => this.#revoke(invite, put_out);
    const about = [role && t("invite.owner"), t("invite.used", { used, uses }), t("invite.by", { name: by.name })];
    return lineOf(
      [state, note(about.filter(Boolean).join(" · "))],
      [
        isOpen ? button(t("invite.revoke"), () => revoke(false), "button small") : "",
        used > 0 && !role ? armedButton(t("invite.put_out"), () => revoke(true)) : "",
      ].filter(Boolean),
    );
  }

  #revoke({ id }, put_out) {
    const said = t(put_out ? "invite.put_out_done" : "invite.revoked");
    this.#deeds.do({ type: "revoke", invite: id, put_out }, { said });
  }
}
