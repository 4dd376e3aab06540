/*
 * Rows of the log into nodes: what each kind looks like.
 *
 * A node is painted once and thrown away when its row's stamp has changed. Knows no timeline and no scrolling.
 */

import { fromTemplate, paintPerson, part, setText } from "./dom.js";
import { plainOf } from "./markdown.js";
import { paint as paintProse } from "./prose.js";
import { clockTime, count, dayName, exactTime, hueOf, isoDay, remaining, sentenceOf, t } from "./words.js";

const QUOTE_LENGTH = 200; // more of the quoted text does not fit on its line

const PAINTERS = {
  message: messageNode, gap: gapNode, sum: sumNode, start: startNode, day: dayNode, unread: lineNode, notice: lineNode,
  removed: lineNode,
};

/** The node that shows `row`; `onCopy(text)` hears of a code block's button. */
export function nodeOf(row, onCopy) {
  const node = PAINTERS[row.kind](row, onCopy);
  node.dataset.key = row.key;
  return node;
}

/** Shows in the node of a message which reactions it has by now; whatever of it has the focus keeps it. */
export function paintReactions(node, { reactions }) {
  const group = node.querySelector(".reactions") ?? (reactions.length > 0 && newGroup(node));
  if (!group) return;
  const shown = new Map(Array.from(group.children, (button) => [button.dataset.kind, button]));
  const isReached = node.matches(".picked");
  const buttons = reactions.map((reaction) => reactionNode(shown.get(reaction.kind), reaction, isReached));
  for (const button of shown.values()) if (!buttons.includes(button)) button.remove();
  buttons.forEach((button, i) => group.children[i] === button || group.insertBefore(button, group.children[i]));
  if (buttons.length === 0) group.remove();
}

function newGroup(node) {
  const group = document.createElement("div");
  group.className = "reactions";
  group.role = "group";
  group.ariaLabel = t("reaction.group");
  part(node, "fate").before(group);
  return group;
}

// Of the log's many buttons the Tab key reaches those of the message that is picked.
function reactionNode(shown, { kind, n, isMine, who }, isReached) {
  const button = shown ?? fromTemplate("reaction");
  button.dataset.kind = kind;
  button.ariaPressed = String(isMine);
  button.ariaLabel = button.title = who;
  setText(part(button, "kind"), kind);
  setText(part(button, "n"), count(n));
  if (!shown) button.tabIndex = isReached ? 0 : -1;
  return button;
}

function messageNode(row, onCopy) {
  const { message, state, isMine, isContinued } = row;
  const node = fromTemplate("message-row");
  node.classList.toggle("mine", isMine);
  node.classList.toggle("continued", isContinued);
  node.classList.toggle("for-me", Boolean(message.isForMe));
  node.classList.toggle("leaving", row.isLeaving);
  node.classList.add(state);
  paintPerson(node, message.by);
  if (isMine) part(node, "name").title = message.by.name;
  if (row.role) paintRole(part(node, "name"), row.role);
  paintTime(part(node, "time"), message.at);
  part(node, "bubble").title = exactTime(message.at);
  paintProse(part(node, "text"), message.text, { me: isMine ? "" : row.me, onCopy });
  if (message.edit) paintEdited(part(node, "bubble"), message.edited);
  if (message.reply_to) paintQuote(node, row.source);
  if (row.fold !== "none") paintFold(node, row.fold);
  paintFate(node, message, row);
  paintReactions(node, row);
  return node;
}

function paintRole(name, role) {
  const badge = document.createElement("span");
  badge.className = "role";
  badge.textContent = t(`role.${role}`);
  name.after(" ", badge);
}

function paintEdited(bubble, at) {
  const mark = document.createElement("span");
  mark.className = "edited";
  mark.textContent = t("message.edited");
  mark.title = t("message.edited_at", { time: exactTime(at) });
  bubble.append(mark);
}

/** `source`: the event that is answered, null if it is gone, undefined if it has yet to come. */
function paintQuote(node, source) {
  const quote = part(node, "quote");
  quote.hidden = false;
  quote.disabled = !source;
  quote.style.setProperty("--hue", hueOf(source?.by?.id ?? ""));
  part(node, "quote-name").textContent = source?.by?.name ?? "";
  part(node, "quote-text").textContent = quotedText(source);
}

function quotedText(source) {
  if (source) return snippetOf(source.text ?? "");
  return t(source === null ? "message.quote_gone" : "message.quote_loading");
}

/** A text on one line, as long as a line may get. */
const snippetOf = (text) => [...plainOf(text.slice(0, 2 * QUOTE_LENGTH))].slice(0, QUOTE_LENGTH).join("");

function paintFold(node, fold) {
  node.classList.toggle("folded", fold === "folded");
  const button = part(node, "unfold");
  button.hidden = false;
  button.textContent = t(fold === "folded" ? "message.unfold" : "message.fold");
  button.setAttribute("aria-expanded", String(fold !== "folded"));
}

const FATES = {
  failed: ({ detail }) => t("message.not_sent", { why: detail.code === "unsure" ? t("message.unsure") : sentenceOf(detail) }),
  held: ({ detail }, n) => t(HELD_FOR[detail.code], { n, time: remaining(n * 1000) }),
  review: () => t("message.review"),
};
const HELD_FOR = { rate_limited: "message.too_fast", slow_mode: "message.slow_mode", not_stored: "message.not_stored" };

function paintFate(node, message, { state, waits_s: n }) {
  const fate = part(node, "fate");
  fate.hidden = !(state in FATES);
  if (fate.hidden) return;
  part(node, "fate-text").textContent = FATES[state](message, n);
  fate.querySelector("[data-action=retry]").hidden = state !== "failed";
  const discard = fate.querySelector("[data-action=discard]");
  discard.hidden = state === "held";
  // What a moderator has is not taken back by that.
  discard.textContent = t(state === "review" ? "message.hide" : "message.discard");
}

function paintTime(node, at) {
  node.dateTime = new Date(at).toISOString();
  node.title = exactTime(at);
  node.textContent = clockTime(at);
}

function gapNode({ text, isFilling }) {
  const node = fromTemplate("gap-row");
  part(node, "text").textContent = text;
  part(node, "button").textContent = t(isFilling ? "gap.loading" : "gap.load");
  part(node, "button").disabled = isFilling;
  return node;
}

function sumNode({ text }) {
  const node = fromTemplate("sum-row");
  part(node, "text").textContent = text;
  return node;
}

function startNode({ state }) {
  const node = fromTemplate("start-row");
  part(node, "text").textContent = state === "more" ? "" : t(`log.${state}`);
  node.querySelector("[data-action]").hidden = state !== "more";
  return node;
}

function dayNode({ at }) {
  const node = fromTemplate("line-row");
  node.className = "day";
  const time = document.createElement("time");
  time.dateTime = isoDay(at);
  time.textContent = dayName(at);
  part(node, "text").append(time);
  return node;
}

function lineNode({ kind, text }) {
  const node = fromTemplate("line-row");
  node.className = kind;
  part(node, "text").textContent = text;
  return node;
}
