/*
 * The rules of a room in words: how each is called, which values are offered, and how a value reads.
 *
 * Pure: knows no dialog and no connection.
 */

import { count, span, t } from "./words.js";

const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

/** For how long a raid, a mute and a ban may be declared with one press; null: for good. */
export const RAIDS_S = [10 * MINUTE_S, 30 * MINUTE_S, HOUR_S];
export const MUTES_S = [5 * MINUTE_S, HOUR_S, DAY_S];
export const BANS_S = [HOUR_S, DAY_S, 7 * DAY_S, null];
export const INVITES_S = [HOUR_S, DAY_S, 7 * DAY_S, 30 * DAY_S];
export const UNITS_S = [MINUTE_S, HOUR_S, DAY_S];

const onOrOff = (isOn) => t(isOn ? "rule.on" : "rule.off");
const spanOr = (key) => (seconds) => (seconds ? span(seconds, "short") : t(key));

/** By name: the values offered and `textOf(value)`; those without values are switched on and off, or written. */
const KINDS = {
  slow_s: { values: [0, 5, 10, 30, MINUTE_S, 5 * MINUTE_S], textOf: spanOr("rule.off") },
  links: { values: ["on", "held", "off"], textOf: (value) => t(`rule.links_${value}`) },
  read_only: { textOf: onOrOff },
  locked: { textOf: onOrOff },
  announcement: { textOf: (text) => text },
  edit_s: { values: [5 * MINUTE_S, HOUR_S, DAY_S, 30 * DAY_S, 0], textOf: spanOr("rule.always") },
  keep_s: { values: [0, DAY_S, 7 * DAY_S, 30 * DAY_S, 365 * DAY_S], textOf: spanOr("rule.all") },
  keep_events: { values: [0, 1000, 10_000, 100_000], textOf: (n) => (n ? count(n) : t("rule.all")) },
};

/** Each rule: `values` to choose from, `label()`, `textOf(value)`, and `told(value)`, a value of the log as a sentence. */
export const RULES = Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, ruleOf(name, kind)]));

function ruleOf(name, { values, textOf }) {
  const label = () => t(`rule.${name}`);
  const told = (value) => t("rule.is", { rule: label(), value: textOf(readFrom(value)) });
  return { values, textOf, label, told };
}

// In the log a value is a text.
function readFrom(value) {
  if (value === "true" || value === "false") return value === "true";
  return /^\d+$/.test(value) ? Number(value) : value;
}
