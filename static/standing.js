/*
 * What the order of a room means for whoever sits at this page, in sentences.
 *
 * Pure functions. Knows no DOM and no connection.
 */

import { moment, span, t } from "./words.js";

/** Why nothing can be written: `{code, until?, reason?}`. */
export function silenceSentence({ code, until, reason }) {
  return t(reason ? "silence.muted_for" : `silence.${code}`, { time: until && moment(until), reason });
}

/** Why one is not in the room: `{why, until?, reason}`, as the line says it. */
export function outSentence({ why, until, reason }) {
  const sentence = t(why === "ban" && until ? "out.ban_until" : `out.${why}`, { time: until && moment(until) });
  return reason ? `${sentence} ${t("out.reason", { reason })}` : sentence;
}

/** What holds here at the moment besides what holds everywhere and what `silence` says, on one line; "" if nothing does. */
export function hintOf({ rules, isRaid, silence }) {
  const hints = [isRaid ? t("hint.raid", { time: moment(rules.raid_until) }) : slowSentence(rules)];
  if (rules.read_only && silence?.code !== "read_only") hints.push(t("hint.read_only"));
  if (rules.locked) hints.push(t("hint.locked"));
  if (rules.links !== "on" && !isRaid) hints.push(t(rules.links === "off" ? "hint.no_links" : "hint.links_held"));
  return hints.filter(Boolean).join(" · ");
}

const slowSentence = ({ slow_s }) => (slow_s > 0 ? t("hint.slow", { time: span(slow_s) }) : "");

/** What is new about how one stands, `{role, silence}` before and after; "" if nothing is. */
export function newsOf(before, after) {
  const news = [];
  if (before.role !== after.role) news.push(t(after.role ? `news.${after.role}` : "news.no_role"));
  if (said(before.silence) !== said(after.silence)) news.push(said(after.silence) || t("news.may_write"));
  return news.join(" ");
}

const said = (silence) => (silence ? silenceSentence(silence) : "");
