/*
 * What moderators did, in words: the log of acts as a list that grows, in a dialog of its own or inside of another.
 *
 * Knows no socket: `ask` is given to it.
 */

import { byId, fromTemplate, part, setText } from "./dom.js";
import { isForGood } from "./deeds.js";
import { button, lineOf, note, timeOf } from "./parts.js";
import { RULES } from "./rules.js";
import { moment, t } from "./words.js";

// The acts that have a sentence; a later server may know more.
const KNOWN = new Set([
  "delete", "purge", "mute", "unmute", "ban", "unban", "kick", "role", "rules", "raid", "raid_end", "filter", "invite",
  "revoke", "password", "review", "come_in",
]);

/** A record of the log as a sentence. */
export function sentenceOfRecord({ act, by, whom, until = 0, detail = "" }) {
  const values = { by: by.name, whom: whom?.name ?? "", until: until > 0 ? moment(until) : "", act, rules: rulesIn(detail) };
  return t(`record.${keyOf(act, until, detail)}`, values);
}

function keyOf(act, until, detail) {
  if (!KNOWN.has(act)) return "other";
  if (act === "ban" && isForGood(until)) return "ban_for_good";
  if (act === "role") return `role_${detail || "none"}`;
  if (act === "password") return detail === "set" ? "password" : "password_off";
  if (act === "review") return detail === "show" ? "review_show" : "review_refuse";
  return act;
}

/** `slow_s=30 read_only=true` in words. */
function rulesIn(detail) {
  const pairs = detail.split(" ").map((pair) => pair.split("="));
  return pairs.filter(([name]) => name in RULES).map(([name, value]) => RULES[name].told(value)).join(" · ");
}

/** One list of records: the newest first, more on demand. */
export class Records {
  #ask;
  #node = fromTemplate("records-part");
  #lines = part(this.#node, "lines");
  #more = part(this.#node, "more");
  #onPerson;
  #jump;
  #filter = {};
  #oldest = null;
  #round = 0;

  /**
   * Lives in `place`; `ask(question)` is a moderators' one, `onPerson(person)` and `onJump(seq)` hear what is pressed, and
   * `onMore()` that there is to be more, where it is not shown here.
   */
  constructor(place, { ask, onPerson, onJump, onMore = () => this.#loadMore() }) {
    this.#ask = ask;
    this.#onPerson = onPerson;
    this.#jump = onJump;
    this.#more.addEventListener("click", onMore);
    place.append(this.#node);
  }

  /** Shows the newest records; of `person` (an id) only, if one is given. At most `limit` at a time. */
  show({ person, limit = 30 } = {}) {
    this.#filter = { ...(person && { person }), limit };
    this.#oldest = null;
    return this.#load();
  }

  // Internal

  async #loadMore() {
    const place = this.#lines.children.length;
    await this.#load();
    this.#lines.children[place]?.querySelector("button")?.focus();
  }

  async #load() {
    const round = (this.#round += 1);
    const before = this.#oldest;
    try {
      const { acts, more } = await this.#ask({ type: "acts", ...this.#filter, ...(before && { before }) });
      if (round === this.#round) this.#take(acts, more, before === null);
    } catch (error) {
      if (round === this.#round) setText(part(this.#node, "problem"), error.message);
    }
  }

  #take(acts, more, isFirst) {
    if (isFirst) this.#lines.replaceChildren();
    setText(part(this.#node, "problem"), "");
    this.#lines.append(...acts.map((record) => this.#line(record)));
    this.#oldest = acts.at(-1)?.id ?? this.#oldest;
    this.#more.hidden = !more;
    part(this.#node, "none").hidden = this.#lines.children.length > 0;
  }

  #line(record) {
    const { at, whom, reason, message } = record;
    const isJump = message && record.act !== "delete";
    return lineOf(
      [note(timeOf(at)), sentenceOfRecord(record), reason ? note(t("record.reason", { reason })) : ""],
      [
        isJump ? button(t("card.jump"), () => this.#jump(message), "button small") : "",
        whom && !this.#filter.person ? this.#cardButton(whom) : "",
      ].filter(Boolean),
    );
  }

  #cardButton(person) {
    const node = button(t("card.short"), () => this.#onPerson(person), "button small");
    node.ariaLabel = t("card.of", { name: person.name });
    return node;
  }
}

/** The dialog of the whole log. */
export class ActLog {
  #dialog = byId("records");
  #whom = byId("records-whom");
  #records;

  constructor(options) {
    this.#records = new Records(byId("records-list"), options);
    byId("records-close").addEventListener("click", () => this.#dialog.close());
    this.#whom.querySelector("button").addEventListener("click", () => this.#show(null));
  }

  /** Opens the log of acts; of those on `person` only, if one is given. */
  open(person = null) {
    this.#show(person);
    if (this.#dialog.open) return;
    this.#dialog.showModal();
    byId("records-title").focus();
  }

  #show(person) {
    this.#whom.hidden = person === null;
    if (person) setText(this.#whom.querySelector("span"), t("record.of", { name: person.name }));
    this.#records.show({ person: person?.id });
  }
}
