/*
 * The button for when a room is overrun: with one press it becomes slow, without links, and nobody new can write.
 *
 * Shows until when that holds, and ends it. Knows no socket: `deeds` does the act.
 */

import { inverseOf } from "./deeds.js";
import { byId, part, setText } from "./dom.js";
import { button } from "./parts.js";
import { RAIDS_S } from "./rules.js";
import { moment, span, t } from "./words.js";

export class Raid {
  #place;
  #page;
  #deeds;

  /** Lives in `place`. */
  constructor(place, { page, deeds }) {
    this.#place = place;
    this.#page = page;
    this.#deeds = deeds;
    place.append(byId("raid").content.cloneNode(true));
  }

  show({ isRaid, rules }) {
    this.#place.classList.toggle("on", isRaid);
    const lead = isRaid ? t("raid.on", { time: moment(rules.raid_until) }) : t("raid.lead");
    setText(part(this.#place, "lead"), lead);
    const hadFocus = part(this.#place, "acts").contains(document.activeElement);
    const buttons = isRaid ? [this.#end()] : RAIDS_S.map((seconds) => this.#begin(seconds));
    part(this.#place, "acts").replaceChildren(...buttons);
    if (hadFocus) buttons[0].focus();
  }

  // Internal

  #begin(seconds) {
    const act = () => this.#do(seconds, t("deed.raid", { span: span(seconds) }));
    const node = button(span(seconds, "short"), act, "button grave");
    node.ariaLabel = t("raid.begin", { span: span(seconds) });
    return node;
  }

  #end() {
    return button(t("raid.end"), () => this.#do(0, t("deed.raid_end")), "button primary");
  }

  #do(seconds, said) {
    const { order } = this.#page.visit;
    const frame = { type: "raid", seconds };
    this.#deeds.do(frame, { said, inverse: inverseOf(frame, { rules: order.rules }, order.now()) });
  }
}
