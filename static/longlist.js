/*
 * A list of any length of which only the rows in sight are in the page.
 *
 * All rows have one height, so that a row's place is its number; the styles make it of --rows and --row. Owns the
 * scroll position, which stays with whom one looks at when others come and go, and the one row that Tab reaches, from
 * where the arrows lead on. Knows nothing of what the rows are, but that each item has an `id`.
 * Browsers end a box at some 17 million pixels; that is 400,000 rows.
 */

const SPARE = 8; // rows drawn beyond each edge: what a turn of the wheel uncovers until the next frame

export class LongList {
  #scroll;
  #list;
  #paint;
  #onSight;
  #onPick;
  #source = null;
  #total = 0; // of the source when it was shown: it may have changed since
  #rows = new Map(); // key -> {node, index, item}, in the order of the list
  #active = 0;
  #frame = null;

  /**
   * `scroll` is the box that scrolls, `list` the list inside it; `paint(node, item)` makes or repaints a row, whose first
   * button is the one to press, without an item while that is not known yet; `onSight(first, last)`, `onPick(item, node)`.
   */
  constructor({ scroll, list, paint, onSight, onPick, signal }) {
    this.#scroll = scroll;
    this.#list = list;
    this.#paint = paint;
    this.#onSight = onSight;
    this.#onPick = onPick;
    list.replaceChildren();
    this.#listen(signal);
  }

  // Lifecycle

  #listen(signal) {
    const resized = new ResizeObserver(() => this.#schedule());
    resized.observe(this.#scroll);
    this.#scroll.addEventListener("scroll", () => this.#schedule(), { passive: true, signal });
    this.#list.addEventListener("click", ({ target }) => this.#onClick(target), { signal });
    this.#list.addEventListener("focusin", ({ target }) => this.#onFocus(target), { signal });
    this.#list.addEventListener("keydown", (event) => this.#onKey(event), { signal });
    signal.addEventListener("abort", () => {
      resized.disconnect();
      cancelAnimationFrame(this.#frame);
    });
  }

  // Actions

  /** Shows `source`: its `total`, `at(index)` (an item, or undefined if not known yet) and `indexOf(id)`. */
  show(source) {
    this.#keepingPlace(() => this.#take(source));
    this.#draw();
  }

  /** Goes to the first row: it is another list now. */
  toTop() {
    this.#active = 0;
    this.#scroll.scrollTop = 0;
  }

  /** Brings the focus into the list, to the row where it was. */
  focus() {
    if (this.#total) this.#go(this.#active);
  }

  // Internal: drawing

  #take(source) {
    this.#source = source;
    this.#total = source.total;
    this.#list.style.setProperty("--rows", source.total);
  }

  #schedule() {
    this.#frame ??= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const sight = this.#sight();
    const isFocused = this.#list.contains(document.activeElement);
    if (!isFocused) this.#active = within(this.#active, sight.first, sight.last);
    this.#reconcile(this.#wanted(sight, isFocused));
    if (isFocused && !this.#list.contains(document.activeElement)) this.#focusRow(this.#active);
    this.#onSight(sight.first, sight.last);
  }

  /** The first and the last row of which something is in the box; the last is -1 if there is none at all. */
  #sight() {
    const last = this.#total - 1;
    const { scrollTop, clientHeight } = this.#scroll;
    const height = this.#rowHeight;
    const at = (y) => within(Math.floor(y / height), 0, last);
    return height ? { first: at(scrollTop), last: at(scrollTop + clientHeight - 1) } : { first: 0, last: -1 };
  }

  get #rowHeight() {
    return this.#total && this.#list.getBoundingClientRect().height / this.#total;
  }

  // The row that has the focus stays in the page, wherever one scrolls to: the next key leads on from there.
  #wanted({ first, last }, isFocused) {
    const from = Math.max(0, first - SPARE);
    const to = last < 0 ? -1 : Math.min(this.#total - 1, last + SPARE);
    const wanted = Array.from({ length: to - from + 1 }, (_, place) => from + place);
    if (!isFocused || to < 0) return wanted;
    if (this.#active < from) wanted.unshift(this.#active);
    else if (this.#active > to) wanted.push(this.#active);
    return wanted;
  }

  #reconcile(wanted) {
    const shown = this.#rows;
    this.#rows = new Map();
    for (const index of wanted) {
      const item = this.#source.at(index);
      const key = this.#keyOf(item, index);
      this.#rows.set(key, { node: shown.get(key)?.node, index, item });
    }
    for (const [key, { node }] of shown) if (!this.#rows.has(key)) node.remove();
    this.#place();
  }

  // While pages overlap somebody may stand in two places.
  #keyOf(item, index) {
    return item && !this.#rows.has(item.id) ? item.id : index;
  }

  #place() {
    let next = this.#list.firstElementChild;
    for (const row of this.#rows.values()) {
      row.node = this.#paint(row.node, row.item);
      this.#number(row);
      if (row.node === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row.node, next);
    }
  }

  #number({ node, index }) {
    node.style.setProperty("--row", index);
    node.setAttribute("aria-posinset", index + 1);
    node.setAttribute("aria-setsize", this.#total);
    button(node).tabIndex = index === this.#active ? 0 : -1;
  }

  // Internal: the place

  // Who is at the top wants to see the top; everybody else wants to go on seeing whom he sees.
  #keepingPlace(change) {
    const height = this.#rowHeight;
    const top = this.#scroll.scrollTop;
    const anchor = top > 0 && this.#find(({ index, item }) => item && (index + 1) * height > top);
    const focused = this.#find(({ index, item }) => item && index === this.#active);
    change();
    if (anchor) this.#scroll.scrollTop = top + this.#moved(anchor) * height;
    if (focused) this.#active += this.#moved(focused);
    this.#active = within(this.#active, 0, this.#total - 1);
  }

  #moved({ index, item }) {
    const now = this.#source.indexOf(item.id);
    return now < 0 ? 0 : now - index;
  }

  #find(isIt) {
    for (const row of this.#rows.values()) if (isIt(row)) return row;
    return null;
  }

  // Internal: pointer and keys

  #rowOf(target) {
    return this.#find(({ node }) => node.contains(target));
  }

  #onClick(target) {
    const { item, node } = (target.closest("button") && this.#rowOf(target)) || {};
    if (item) this.#onPick(item, node);
  }

  #onFocus(target) {
    const row = this.#rowOf(target);
    if (!row || row.index === this.#active) return;
    this.#active = row.index;
    this.#schedule();
  }

  #onKey(event) {
    const step = this.#steps()[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    this.#go(this.#active + step);
  }

  #steps() {
    const page = Math.max(1, Math.floor(this.#scroll.clientHeight / this.#rowHeight) - 1);
    return { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  }

  #go(index) {
    this.#active = within(index, 0, this.#total - 1);
    this.#bringIntoSight(this.#active);
    this.#draw();
    this.#focusRow(this.#active);
  }

  #bringIntoSight(index) {
    const { scrollTop, clientHeight } = this.#scroll;
    const start = index * this.#rowHeight;
    const end = start + this.#rowHeight;
    if (start < scrollTop) this.#scroll.scrollTop = start;
    else if (end > scrollTop + clientHeight) this.#scroll.scrollTop = end - clientHeight;
  }

  #focusRow(index) {
    const row = this.#find((row) => row.index === index);
    if (row) button(row.node).focus({ preventScroll: true });
  }
}

const button = (node) => node.querySelector("button");

const within = (value, low, high) => Math.max(low, Math.min(value, high));
