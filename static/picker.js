/*
 * Choosing one message of the log: by keys, by tap, by hovering; and what can be done with it.
 *
 * Owns which message is picked and the one toolbar, which stands inside it. A message picked by keys or tap holds the
 * log still until it is let go. Knows no timeline: `eventOf(key)` gives what a row shows.
 */

import { fromTemplate } from "./dom.js";

const TOOLS = { r: "reply", c: "copy", l: "link" };
const STEPS = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
const hovers = window.matchMedia("(hover: hover)");

export class Picker {
  #log;
  #list;
  #tools = fromTemplate("message-tools");
  #picked = null;
  #eventOf;
  #act;
  #onHold;
  #onLeave;

  /** `act(tool, event)`: tool is "reply", "copy" or "link"; `onHold(isHeld)` when reading begins or ends; `onLeave()` for Escape. */
  constructor({ log, list, eventOf, act, onHold, onLeave, signal }) {
    this.#log = log;
    this.#list = list;
    this.#eventOf = eventOf;
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
    this.#picked.classList.remove("picked");
    this.#picked = null;
    this.#onHold(false);
  }

  /** Picks the message that `node` shows, and brings it into sight. */
  pick(node) {
    if (this.#picked === node) return;
    const wasHeld = this.#picked !== null;
    this.#picked?.classList.remove("picked");
    this.#picked = node;
    node.classList.add("picked");
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
    if (event?.seq) node.append(this.#tools);
    else this.#tools.remove();
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
    if (tool) this.#use(tool.dataset.tool, node);
    else if (node && !hovers.matches && !isBusy(target)) this.#toggle(node);
  }

  #toggle(node) {
    if (this.#picked === node) this.letGo();
    else this.pick(node);
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

  #use(tool, node) {
    const message = this.#eventOf(node.dataset.key);
    if (!message?.seq) return;
    if (tool === "reply") this.letGo();
    this.#act(tool, message);
  }
}

/** True where a click means something else: a button, a link, text that is being selected. */
function isBusy(target) {
  return Boolean(target.closest("a, button, .tools")) || !document.getSelection().isCollapsed;
}
