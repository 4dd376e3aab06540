/*
 * What was done in a room with its order, each act as one sentence: who did what.
 *
 * Pure functions of events. Knows no DOM and no room.
 */

import { plainOf } from "./markdown.js";
import { moment, span, t } from "./words.js";

const PLAIN = { slow_s: 0, read_only: false, locked: false, links: "on", announcement: null, raid_until: 0 };

const SENTENCES = {
  role: ({ by, whom, role }) => t(`act.role_${role || "none"}`, { by: by.name, whom: whom.name }),
  rules: rulesSentence,
  act: ({ act, by, whom, until }) => t(actKey(act, until), { by: by.name, whom: whom.name, time: until && moment(until) }),
};

// Each rule that concerns everybody, and how its change reads. How long things are kept is for those who keep them.
const CHANGES = {
  slow_s: (seconds, by) => (seconds ? t("act.slow", { by, span: span(seconds) }) : t("act.slow_off", { by })),
  read_only: (isOn, by) => t(isOn ? "act.read_only" : "act.read_only_off", { by }),
  locked: (isOn, by) => t(isOn ? "act.locked" : "act.unlocked", { by }),
  links: (links, by) => t(`act.links_${links}`, { by }),
  announcement: (announcement, by) =>
    announcement ? t("act.announcement", { by, text: plainOf(announcement.text) }) : t("act.announcement_off", { by }),
  raid_until: (until, by) => (until ? t("act.raid", { by, time: moment(until) }) : t("act.raid_off", { by })),
};

/** What an event `role`, `rules` or `act` says; "" if nothing. `rulesBefore`: the rules an event `rules` replaced, or null. */
export function actSentence(event, rulesBefore) {
  return SENTENCES[event.type]?.(event, rulesBefore) ?? "";
}

// Internal

function rulesSentence({ by, rules }, before) {
  if (before === null) return t("act.rules", { by: by.name });
  const [was, is] = [before, rules].map((each) => ({ ...PLAIN, ...each }));
  const changed = Object.keys(CHANGES).filter((name) => mark(was[name]) !== mark(is[name]));
  return changed.map((name) => CHANGES[name](is[name], by.name)).join(" ");
}

// The same announcement may be put up once more.
const mark = (value) => (typeof value === "object" ? value?.at : value);

function actKey(act, until) {
  if (until === 0) return `act.un${act}`;
  return until ? `act.${act}_until` : `act.${act}`;
}
