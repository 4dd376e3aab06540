/*
 * The few signs to choose from: a small menu beside a message, over everything else.
 *
 * Arrow keys go from sign to sign, Escape and a click elsewhere close it. Knows no message: it is told where to stand.
 */

import { byId } from "./dom.js";
import { KINDS } from "./reactions.js";

const EDGE_PX = 8;
const STEPS = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: "row", ArrowUp: "-row", Home: -Infinity, End: Infinity };

export class Palette {
  #node = byId("palette");
  #items = [];
  #key = null;
  #onPick = null;
  #onClose = null;

  constructor({ signal }) {
    this.#items = KINDS.map(itemOf);
    this.#node.replaceChildren(...this.#items);
    const options = { signal };
    this.#node.addEventListener("click", ({ target }) => this.#onClick(target), options);
    this.#node.addEventListener("keydown", (event) => this.#onKey(event), options);
    this.#node.addEventListener("beforetoggle", ({ newState }) => newState === "closed" && this.#closed(), options);
    signal.addEventListener("abort", () => this.close());
  }

  // Reading

  /** For what it is open, or null. */
  get key() {
    return this.#key;
  }

  // Actions

  /**
   * Opens for `key` beside the box `beside`; `isOn(kind)` tells which are chosen, `onPick(kind)` hears of the next,
   * `onClose(hadFocus)` that it was closed.
   */
  open(key, beside, { isOn, onPick, onClose }) {
    this.close();
    this.#key = key;
    this.#onPick = onPick;
    this.#onClose = onClose;
    for (const item of this.#items) item.ariaChecked = String(isOn(item.dataset.kind));
    this.#node.showPopover();
    this.stand(beside);
    this.#items[0].focus();
  }

  close() {
    if (this.#key !== null) this.#node.hidePopover();
  }

  /** Stands under the box, or over it where there is more room, and never beyond the window. */
  stand({ top, bottom, right }) {
    const { offsetWidth: width, offsetHeight: height } = this.#node;
    const { clientWidth, clientHeight } = document.documentElement;
    const isUnder = bottom + height + EDGE_PX <= clientHeight || top < clientHeight - bottom;
    const y = isUnder ? bottom : top - height;
    this.#node.style.top = `${within(y, clientHeight - height)}px`;
    this.#node.style.left = `${within(right - width, clientWidth - width)}px`;
  }

  // Internal

  #onClick(target) {
    const kind = target.closest("[data-kind]")?.dataset.kind;
    if (!kind) return;
    this.#onPick(kind);
    this.close();
  }

  #onKey(event) {
    event.stopPropagation(); // the log has keys of its own
    if (event.key === "Escape" || event.key === "Tab") this.close();
    else if (event.key in STEPS) this.#step(STEPS[event.key]);
    else return;
    event.preventDefault();
  }

  #step(step) {
    const from = this.#items.indexOf(document.activeElement);
    const columns = this.#items.findIndex(({ offsetTop }) => offsetTop > this.#items[0].offsetTop);
    const inRow = columns === -1 ? 0 : columns;
    const to = from + ({ row: inRow, "-row": -inRow }[step] ?? step);
    this.#items[Math.min(Math.max(to, 0), this.#items.length - 1)].focus();
  }

  #closed() {
    const onClose = this.#onClose;
    this.#key = this.#onPick = this.#onClose = null;
    onClose(this.#node.contains(document.activeElement));
  }
}

const within = (at, most) => Math.max(EDGE_PX, Math.min(at, most - EDGE_PX));

function itemOf(kind) {
  const item = document.createElement("button");
  item.type = "button";
  item.role = "menuitemcheckbox";
  item.className = "palette-item";
  item.dataset.kind = kind;
  item.tabIndex = -1;
  item.textContent = kind;
  return item;
}
