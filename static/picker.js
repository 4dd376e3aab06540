/*
 * Choosing one message of the log: by keys, by tap, by hovering; and what can be done with it.
 *
 * Owns which message is picked and the one toolbar, which stands inside it and offers what may be done with it. A message
 * picked by keys or tap holds the log still until it is let go. Knows no timeline: `eventOf(key)` gives what a row shows.
 */

import { fromTemplate, part } from "./dom.js";

const TOOLS = { "+": "react", r: "reply", c: "copy", l: "link", p: "person", e: "edit", delete: "delete" };
const WRITING = new Set(["reply", "edit"]); // one goes on in the field
const STEPS = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
const hovers = window.matchMedia("(hover: hover)");

export class Picker {
  #log;
  #list;
  #tools = fromTemplate("message-tools");
  #picked = null;
  #eventOf;
  #may;
  #act;
  #onHold;
  #onLeave;

  /**
   * `act(tool, event, node)`: what is to be done with the message that `node` shows: "react", "reply", "copy", "link",
   * "edit", "delete", "person"; `may(tool, event)` tells whether it may be. `onHold(isHeld)` when reading begins or ends;
   * `onLeave()` for Escape.
   */
  constructor({ log, list, eventOf, may, act, onHold, onLeave, signal }) {
    this.#log = log;
    this.#list = list;
    this.#eventOf = eventOf;
    this.#may = may;
    this.#act = act;
    this.#onHold = onHold;
    this.#onLeave = onLeave;
    const options = { signal };
    log.addEventListener("keydown", (event) => this.#onKey(event), options);
    log.addEventListener("focusin", ({ target }) => this.#onFocus(target), options);
    list.addEventListener("click", (event) => this.#onClick(event), options);
    list.addEventListener("pointerover", (event) => this.#onHover(event), options);
    log.addEventListener("pointerleave", () => this.#picked || this.#tools.remove(), options);
    document.addEventListener("pointerdown", ({ target }) => log.contains(target) || this.letGo(), options);
    signal.addEventListener("abort", () => this.letGo());
  }

  // Actions

  /** Nothing is picked any more. */
  letGo() {
    this.#tools.remove();
    if (!this.#picked) return;
    mark(this.#picked, false);
    this.#picked = null;
    this.#onHold(false);
  }

  /** Picks the message that `node` shows, and brings it into sight. */
  pick(node) {
    if (this.#picked === node) return;
    const wasHeld = this.#picked !== null;
    if (this.#picked) mark(this.#picked, false);
    this.#picked = node;
    mark(node, true);
    this.#offerTools(node);
    if (!wasHeld) this.#onHold(true);
  }

  /** Rows were painted anew: `nodeOf(key)` shows now what was picked. */
  repainted(nodeOf) {
    if (!this.#picked || this.#picked.isConnected) return;
    const node = nodeOf(this.#picked.dataset.key);
    if (node) this.pick(node);
    else this.letGo();
  }

  // Internal

  #offerTools(node) {
    const event = this.#eventOf(node.dataset.key);
    if (!event?.seq) return this.#tools.remove();
    for (const button of this.#tools.children) button.hidden = !this.#may(button.dataset.tool, event);
    this.#tools.style.setProperty("--beside", `${part(node, "bubble").offsetWidth}px`);
    node.append(this.#tools);
  }

  #onFocus(target) {
    const node = target.closest(".message");
    if (node?.matches(":focus-visible, :has(:focus-visible)")) this.pick(node);
  }

  #onHover({ target, pointerType }) {
    if (pointerType !== "mouse" || this.#picked) return;
    const node = target.closest(".message");
    if (node && this.#tools.parentElement !== node) this.#offerTools(node);
  }

  #onClick({ target }) {
    const node = target.closest(".message");
    const tool = target.closest("[data-tool]");
    if (tool) this.#useByClick(tool.dataset.tool, node);
    else if (node && !hovers.matches && !isBusy(target)) this.#toggle(node);
  }

  #toggle(node) {
    if (this.#picked === node) return this.letGo();
    this.pick(node);
    node.scrollIntoView({ block: "nearest" }); // with its tools
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.#leave(event);
    else if (event.key in STEPS) this.#step(event);
    else if (event.key.toLowerCase() in TOOLS && this.#picked) this.#useByKey(event);
  }

  #leave(event) {
    event.preventDefault();
    this.letGo();
    this.#onLeave();
  }

  #step(event) {
    const nodes = [...this.#list.querySelectorAll(".message")];
    if (nodes.length === 0) return;
    const from = this.#picked?.isConnected ? nodes.indexOf(this.#picked) : this.#firstInSight(nodes, STEPS[event.key]);
    const to = Math.min(Math.max(from + STEPS[event.key], 0), nodes.length - 1);
    event.preventDefault();
    nodes[to].focus({ preventScroll: true });
    nodes[to].scrollIntoView({ block: "nearest" });
  }

  // From nowhere the first step is onto the lowest message in sight, or onto the highest.
  #firstInSight(nodes, step) {
    const { top, bottom } = this.#log.getBoundingClientRect();
    const isAbove = (node) => node.getBoundingClientRect().top < bottom;
    if (step < 0) return nodes.findLastIndex(isAbove) + 1;
    return nodes.findIndex((node) => node.getBoundingClientRect().bottom > top) - 1;
  }

  #useByKey(event) {
    event.preventDefault();
    this.#use(TOOLS[event.key.toLowerCase()], this.#picked);
  }

  // Who works by keys goes on from the message as long as it is there.
  #useByClick(tool, node) {
    if (tool === "delete") this.letGo();
    this.#use(tool, node);
  }

  #use(tool, node) {
    const message = this.#eventOf(node.dataset.key);
    if (!message?.seq || !this.#may(tool, message)) return;
    if (WRITING.has(tool)) this.letGo();
    this.#act(tool, message, node);
  }
}

/** Among a log's hundreds of buttons the Tab key reaches only those of the message that is picked. */
function mark(node, isPicked) {
  node.classList.toggle("picked", isPicked);
  for (const button of node.querySelectorAll(".reaction")) button.tabIndex = isPicked ? 0 : -1;
}

/** True where a click means something else: a button, a link, text that is being selected. */
function isBusy(target) {
  return Boolean(target.closest("a, button, .tools")) || !document.getSelection().isCollapsed;
}
