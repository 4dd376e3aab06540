/*
 * Rows of the log into nodes: what each kind looks like.
 *
 * A node is painted once and thrown away when its row's stamp has changed. Knows no timeline and no scrolling.
 */

import { fromTemplate, paintPerson, part } from "./dom.js";
import { plainOf } from "./markdown.js";
import { paint as paintProse } from "./prose.js";
import { clockTime, dayName, exactTime, hueOf, isoDay, sentenceOf, t } from "./words.js";

const QUOTE_LENGTH = 200; // more of the quoted text does not fit on its line

const PAINTERS = {
  message: messageNode, gap: gapNode, sum: sumNode, start: startNode, day: dayNode, unread: lineNode, notice: lineNode,
};

/** The node that shows `row`; `onCopy(text)` hears of a code block's button. */
export function nodeOf(row, onCopy) {
  const node = PAINTERS[row.kind](row, onCopy);
  node.dataset.key = row.key;
  return node;
}

function messageNode(row, onCopy) {
  const { message, state, isMine, isContinued } = row;
  const node = fromTemplate("message-row");
  node.classList.toggle("mine", isMine);
  node.classList.toggle("continued", isContinued);
  node.classList.toggle("for-me", Boolean(message.isForMe));
  node.classList.add(state);
  paintPerson(node, message.by);
  if (isMine) part(node, "name").title = message.by.name;
  paintTime(part(node, "time"), message.at);
  part(node, "bubble").title = exactTime(message.at);
  paintProse(part(node, "text"), message.text, { me: isMine ? "" : row.me, onCopy });
  if (message.reply_to) paintQuote(node, row.source);
  if (row.fold !== "none") paintFold(node, row.fold);
  paintFate(node, message, row);
  return node;
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

function paintFate(node, { detail }, { state, waits_s: n }) {
  const isFailed = state === "failed";
  part(node, "fate").hidden = !isFailed && state !== "held";
  if (isFailed) part(node, "fate-text").textContent = t("message.not_sent", { why: whyFailed(detail) });
  else if (state === "held") part(node, "fate-text").textContent = heldText(detail, n);
  for (const button of part(node, "fate").querySelectorAll("[data-action]")) button.hidden = !isFailed;
}

const whyFailed = (detail) => (detail.code === "unsure" ? t("message.unsure") : sentenceOf(detail));

const heldText = ({ code }, n) => (code === "rate_limited" ? t("message.too_fast", { n }) : t("message.not_stored"));

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
