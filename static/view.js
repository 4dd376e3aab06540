/*
 * The log on the page.
 *
 * Paints the rows of a stretch of the timeline, at most once an animation frame, and owns the scroll position: it
 * follows the end if the reader is there, and never moves what he reads otherwise. Holds no message; speaks to no server.
 */

import { byId, fromTemplate, paintPerson, part, setText } from "./dom.js";
import { rowsOf } from "./rows.js";
import { Stretch } from "./stretch.js";
import { clockTime, counted, dayKey, dayName, exactTime } from "./words.js";

const NEAR_END_PX = 100;
const NEAR_EDGE_PX = 500; // so near to the top or bottom of the stretch, more is fetched before the reader gets there
const HIDDEN_PAINT_MS = 1000; // a hidden page gets no animation frames

export class View {
  #log = byId("log");
  #list = byId("rows");
  #toEnd = byId("to-end");
  #timeline;
  #stretch;
  #actions;
  #nodes = new Map();
  #isFollowing = true;
  #isScheduled = false;
  #isLoadingOlder = false;
  #isStuck = false;
  #filling = null;
  #seen = 0;

  /** `actions`: `older()` and `fill(gap)` fetch and resolve, `retry(client_id)`, `discard(client_id)`, `unseen(n)`. */
  constructor(timeline, actions) {
    this.#timeline = timeline;
    this.#stretch = new Stretch(timeline);
    this.#actions = actions;
    this.#listen();
  }

  // Lifecycle

  #listen() {
    this.#log.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#list.addEventListener("click", (event) => this.#onClick(event));
    this.#toEnd.addEventListener("click", () => this.follow());
    document.addEventListener("visibilitychange", () => this.schedule());
    // A keyboard that opens, a window that shrinks: whoever was at the end stays there.
    new ResizeObserver(() => this.#isFollowing && this.#scrollToEnd()).observe(this.#log);
  }

  // Actions

  /** Paints what the timeline holds, soon. */
  schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    if (document.hidden) setTimeout(() => this.#paint(), HIDDEN_PAINT_MS);
    else requestAnimationFrame(() => this.#paint());
  }

  /** Goes to the newest message and stays with it. */
  follow() {
    this.#isFollowing = true;
    this.schedule();
  }

  /** There is a line again: what could not be fetched may be tried once more. */
  lineOpened() {
    this.#isStuck = false;
  }

  /** What the room said up to `seq` is no news to the reader. */
  seen(seq) {
    this.#seen = seq;
  }

  // Internal: painting

  #paint() {
    this.#isScheduled = false;
    if (this.#isFollowing) this.#stretch.toEnd();
    else this.#stretch.stand();
    this.#keepingPlace(() => this.#reconcile(this.#rows()));
    if (this.#isFollowing) this.#scrollToEnd();
    this.#countUnseen();
    if (!this.#isFollowing || this.#hasRoomLeft) this.#fetchNearEdge();
  }

  #rows() {
    const { events, isAtEnd } = this.#stretch;
    return [this.#startRow(), ...rowsOf(this.#timeline, events, { isAtEnd, filling: this.#filling })];
  }

  #startRow() {
    const state = this.#startState();
    return { kind: "start", key: "start", stamp: state, state };
  }

  #startState() {
    if (this.#isLoadingOlder) return "loading";
    if (this.#timeline.hasOlder || this.#stretch.hasEarlierHeld) return "more";
    return this.#timeline.isEmpty ? "empty" : "begin";
  }

  // Rows above may come, go or change their height: the row being read keeps its place on the screen.
  #keepingPlace(change) {
    const anchor = this.#isFollowing ? null : this.#firstVisible();
    const before = anchor && this.#bottomOf(anchor);
    const focused = this.#list.contains(document.activeElement);
    change();
    if (anchor && this.#nodes.has(anchor)) this.#log.scrollTop += this.#bottomOf(anchor) - before;
    if (focused && document.activeElement === document.body) this.#log.focus({ preventScroll: true });
  }

  #firstVisible() {
    const top = this.#log.getBoundingClientRect().top;
    for (const [key, { node, row }] of this.#nodes) {
      if (row.kind === "message" && node.getBoundingClientRect().bottom > top) return key;
    }
    return null;
  }

  #bottomOf(key) {
    return this.#nodes.get(key).node.getBoundingClientRect().bottom;
  }

  #reconcile(rows) {
    const shown = this.#nodes;
    this.#nodes = new Map(rows.map((row) => [row.key, { row, node: nodeFor(row, shown.get(row.key)) }]));
    for (const [key, { node }] of shown) if (this.#nodes.get(key)?.node !== node) node.remove();
    let place = this.#list.firstElementChild;
    for (const { node } of this.#nodes.values()) {
      if (node === place) place = place.nextElementSibling;
      else this.#list.insertBefore(node, place);
    }
  }

  // Internal: reading

  get #toEnd_px() {
    return this.#log.scrollHeight - this.#log.clientHeight - this.#log.scrollTop;
  }

  get #hasRoomLeft() {
    return this.#timeline.isCaughtUp && this.#log.scrollHeight <= this.#log.clientHeight;
  }

  #scrollToEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #onScroll() {
    const wasFollowing = this.#isFollowing;
    this.#isFollowing = this.#stretch.isAtEnd && this.#toEnd_px <= NEAR_END_PX;
    if (wasFollowing !== this.#isFollowing) this.schedule();
    if (!this.#isFollowing) this.#fetchNearEdge();
  }

  #countUnseen() {
    if (this.#isFollowing && !document.hidden) this.#seen = this.#timeline.newest;
    const unseen = this.#timeline.countAfter(this.#seen);
    this.#toEnd.hidden = this.#isFollowing;
    setText(byId("to-end-text"), unseen ? counted(unseen, "new message") : "To the newest");
    this.#actions.unseen(document.hidden ? unseen : 0);
  }

  #fetchNearEdge() {
    if (this.#toEnd_px < NEAR_EDGE_PX && !this.#stretch.isAtEnd) this.#move(() => this.#stretch.later());
    else if (this.#log.scrollTop < NEAR_EDGE_PX) this.#goEarlier();
  }

  #goEarlier() {
    if (this.#stretch.hasEarlierHeld) this.#move(() => this.#stretch.earlier());
    else if (this.#timeline.hasOlder && !this.#isLoadingOlder && !this.#isStuck) this.#loadOlder();
  }

  #move(step) {
    step();
    this.schedule();
  }

  // What failed is not tried again by itself, since every paint would; the reader may.
  #insist() {
    this.#isStuck = false;
    this.#goEarlier();
  }

  async #loadOlder() {
    this.#isLoadingOlder = true;
    this.schedule();
    const isLoaded = await this.#actions.older();
    this.#isLoadingOlder = false;
    this.#isStuck = !isLoaded;
    if (isLoaded) this.#stretch.earlier();
    this.schedule();
  }

  async #fill(gap) {
    this.#filling = gap.after;
    this.schedule();
    await this.#actions.fill(gap);
    this.#filling = null;
    this.schedule();
  }

  #onClick({ target }) {
    const action = target.closest("[data-action]")?.dataset.action;
    if (!action) return;
    const { row } = this.#nodes.get(target.closest("li").dataset.key);
    if (action === "older") this.#insist();
    else if (action === "fill") this.#fill(row);
    else this.#actions[action](row.message.client_id);
  }
}

// Rows into nodes

const PAINTERS = { message: messageNode, gap: gapNode, start: startNode, day: dayNode, notice: lineNode };

/** The node that shows `row`: the one shown before, if nothing about it changed. */
function nodeFor(row, shown) {
  if (shown?.row.stamp === row.stamp) return shown.node;
  const node = PAINTERS[row.kind](row);
  node.dataset.key = row.key;
  return node;
}

function messageNode({ message, state, isMine, isContinued }) {
  const node = fromTemplate("message-row");
  node.classList.toggle("mine", isMine);
  node.classList.toggle("continued", isContinued);
  node.classList.add(state);
  paintPerson(node, message.by);
  if (isMine) part(node, "name").title = message.by.name;
  paintTime(part(node, "time"), message.at, clockTime(message.at));
  part(node, "text").textContent = message.text;
  part(node, "text").title = exactTime(message.at);
  paintFate(node, message, state);
  return node;
}

function paintFate(node, { detail }, state) {
  const isFailed = state === "failed";
  part(node, "fate").hidden = !isFailed && state !== "held";
  part(node, "fate-text").textContent = isFailed ? `Not sent. ${detail?.message ?? ""}` : HELD[detail?.code] ?? "";
  for (const button of node.querySelectorAll("[data-action]")) button.hidden = !isFailed;
}

const HELD = {
  rate_limited: "Goes out in a moment: you write faster than this room allows.",
  not_stored: "Cannot be stored right now. It is tried again by itself.",
};

function paintTime(node, at, text) {
  node.dateTime = new Date(at).toISOString();
  node.title = exactTime(at);
  node.textContent = text;
}

function gapNode({ text, isFilling }) {
  const node = fromTemplate("gap-row");
  part(node, "text").textContent = text;
  part(node, "button").textContent = isFilling ? "Loading…" : "Load";
  part(node, "button").disabled = isFilling;
  return node;
}

const STARTS = {
  loading: "Loading earlier messages…",
  more: "",
  begin: "This is where the room begins.",
  empty: "Nothing has been said here yet. Say hello, or share the link so that others come in.",
};

function startNode({ state }) {
  const node = fromTemplate("start-row");
  part(node, "text").textContent = STARTS[state];
  node.querySelector("[data-action]").hidden = state !== "more";
  return node;
}

function dayNode({ at }) {
  const node = fromTemplate("line-row");
  node.className = "day";
  const time = document.createElement("time");
  time.dateTime = dayKey(at);
  time.textContent = dayName(at);
  part(node, "text").append(time);
  return node;
}

function lineNode({ text }) {
  const node = fromTemplate("line-row");
  node.className = "notice";
  part(node, "text").textContent = text;
  return node;
}
