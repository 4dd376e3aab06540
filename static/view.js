/*
 * The log on the page.
 *
 * Paints the rows of a stretch of the timeline, at most once an animation frame, and owns the scroll position: it
 * follows the end if the reader is there, and never moves what he reads otherwise. Owns how far was read and where the
 * unread line stands. Holds no message; speaks to no server.
 */

import { byId, setText } from "./dom.js";
import { nodeOf, paintReactions } from "./painters.js";
import { Palette } from "./palette.js";
import { Picker } from "./picker.js";
import { rowsOf } from "./rows.js";
import { Stretch } from "./stretch.js";
import { clockTime, t } from "./words.js";

const NEAR_END_PX = 100;
const NEAR_EDGE_PX = 500; // so near to the top or bottom of the stretch, more is fetched before the reader gets there
const HIDDEN_PAINT_MS = 1000; // a hidden page gets no animation frames
const SURGE_PAINT_MS = 250; // what cannot be read need not be painted more often
const COUNTDOWN_MS = 1000;
const FLASH_MS = 2000;

export class View {
  #log = byId("log");
  #list = byId("rows");
  #toEnd = byId("to-end");
  #toUnread = byId("to-unread");
  #timeline;
  #outbox;
  #surge;
  #order;
  #reactions;
  #stretch;
  #picker;
  #palette;
  #actions;
  #signal;
  #nodes = new Map();
  #height_px = this.#log.clientHeight;
  #isFollowing = true;
  #isHeld = false;
  #isKept = false;
  #ranBefore = false; // with the end, when it was to keep still
  #isSelecting = false;
  #isScheduled = false;
  #round = 0;
  #jump = 0;
  #countdown = null;
  #unfolding = null;
  #isLoadingOlder = false;
  #isStuck = false;
  #filling = null;
  #target = null;
  #unfolded = new Set();
  #seen = 0;
  #unreadAfter = null;
  #unreadSince = null;
  #clicks = {
    older: () => this.#insist(),
    fill: (row) => this.#fill(row),
    read: (row) => this.#read(row),
    unfold: ({ key }) => this.#unfold(key),
    source: ({ message }) => this.#actions.jump(message.reply_to),
    retry: ({ message }) => this.#actions.retry(message.client_id),
    discard: ({ message }) => this.#actions.discard(message.client_id),
    react: ({ message }, { dataset }) => this.#actions.react(message, dataset.kind),
    person: ({ message }) => this.#may.person(message) && this.#actions.use("person", message),
  };
  #may = {
    react: (event) => this.#order.mayReact(event),
    edit: (event) => this.#order.mayEdit(event),
    delete: (event) => this.#order.mayDelete(event),
    person: (event) => this.#order.rank > 0 && !this.#timeline.isMine(event),
  };

  /**
   * `actions`: `older(seq)`, `around(seq)`, `fill(gap)` fetch and resolve to whether that worked; `source(seq)` asks for
   * what a reply answers; `jump(seq)`, `retry(client_id)`, `discard(client_id)`, `use(tool, event)`, `react(event, kind)`,
   * `copy(text)`, `leave()`; `isLeaving(seq)` tells whether a message is about to be deleted; `unseen(n)` and
   * `read({seq, at})` hear how far the reader is.
   */
  constructor({ timeline, outbox, surge, order, reactions, actions, signal }) {
    this.#timeline = timeline;
    this.#outbox = outbox;
    this.#surge = surge;
    this.#order = order;
    this.#reactions = reactions;
    this.#stretch = new Stretch(timeline, surge);
    this.#actions = actions;
    this.#signal = signal;
    this.#picker = this.#makePicker();
    this.#palette = new Palette({ signal });
    this.#listen();
  }

  // Lifecycle

  #makePicker() {
    return new Picker({
      log: this.#log,
      list: this.#list,
      eventOf: (key) => this.#nodes.get(key)?.row.message,
      may: (tool, event) => this.#may[tool]?.(event) ?? true,
      act: (tool, event, node) => (tool === "react" ? this.#offerReactions(event, node) : this.#actions.use(tool, event)),
      onHold: (isHeld) => this.#keepStill(() => { this.#isHeld = isHeld; }),
      onLeave: () => this.#actions.leave(),
      signal: this.#signal,
    });
  }

  #listen() {
    const options = { signal: this.#signal };
    this.#log.addEventListener("scroll", () => this.#onScroll(), { passive: true, ...options });
    this.#list.addEventListener("click", (event) => this.#onClick(event), options);
    this.#toEnd.addEventListener("click", () => this.follow(), options);
    this.#toUnread.addEventListener("click", () => this.#goToUnread(), options);
    document.addEventListener("visibilitychange", () => this.#onVisibility(), options);
    document.addEventListener("selectionchange", () => this.#onSelection(), options);
    // A keyboard that opens, a window that shrinks: whoever was at the end stays there.
    const resizing = new ResizeObserver(() => this.#onResize());
    resizing.observe(this.#log);
    this.#signal.addEventListener("abort", () => this.#leave(resizing));
  }

  #leave(resizing) {
    resizing.disconnect();
    this.#list.replaceChildren();
    this.#toEnd.hidden = this.#toUnread.hidden = true;
  }

  // Actions

  /** Paints what the timeline holds, soon. */
  schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const round = (this.#round += 1);
    const paint = () => round === this.#round && this.#paint();
    if (document.hidden) setTimeout(paint, HIDDEN_PAINT_MS);
    else if (this.#surge.isOn && this.#stays) setTimeout(paint, SURGE_PAINT_MS);
    else requestAnimationFrame(paint);
  }

  /** Goes to the newest message and stays with it. */
  follow() {
    this.#jump += 1;
    this.#picker.letGo();
    if (this.#isSelecting) document.getSelection().removeAllRanges();
    this.#isSelecting = false; // its event comes later
    this.#isFollowing = true;
    this.schedule();
  }

  /** What I said is the newest, and nothing above it is new to me any more. */
  said() {
    this.#unreadAfter = null;
    this.follow();
  }

  /** Goes to `seq`, held or not; resolves to false if it is not there, undefined if that could not be asked. */
  async goTo(seq) {
    const jump = (this.#jump += 1);
    const isThere = this.#timeline.at(seq) ? true : await this.#actions.around(seq);
    if (!isThere || jump !== this.#jump) return isThere; // the reader has gone elsewhere meanwhile
    this.#picker.letGo();
    this.#isFollowing = false;
    this.#stretch.around(seq);
    this.#target = seq;
    this.schedule();
    return true;
  }

  /** There is a line again: what could not be fetched may be tried once more. */
  lineOpened() {
    this.#isStuck = false;
  }

  /** The room was read up to `mark` ({seq, at}) when the reader left it; null for a first visit. */
  enter(head, mark) {
    const isOurs = mark !== null && mark.seq <= head;
    this.#seen = isOurs ? mark.seq : head;
    if (!isOurs) this.#actions.read({ seq: head, at: Date.now() });
    this.#drawUnreadLine(isOurs ? mark.at : null);
  }

  /** The log is to keep still, or goes on where it would be without that; `isMoved`: the reader moved it meanwhile. */
  hold(isHeld, isMoved = false) {
    if (isHeld && !this.#isKept) this.#ranBefore = this.#isFollowing;
    this.#keepStill(() => { this.#isKept = isHeld; });
    if (!isHeld && this.#ranBefore && !isMoved) this.#isFollowing = true;
  }

  /** Another tab has read further. */
  readElsewhere(mark) {
    this.#seen = Math.max(this.#seen, mark?.seq ?? 0);
    this.schedule();
  }

  // Internal: painting

  /** True if the page goes along with the room: the reader is at the end, and reads or marks nothing there. */
  get #stays() {
    return this.#isFollowing && !this.#isHeld && !this.#isKept && !this.#isSelecting;
  }

  #paint() {
    this.#isScheduled = false;
    if (this.#signal.aborted) return;
    if (this.#stays) this.#stretch.toEnd();
    else this.#stretch.stand();
    const rows = this.#rows();
    this.#keepingPlace(rows, () => this.#reconcile(rows));
    this.#placePalette();
    if (this.#target !== null) this.#showTarget();
    else if (this.#stays) this.#scrollToEnd();
    this.#countUnseen();
    this.#askForSources(rows);
    if (!this.#stays || this.#hasRoomLeft) this.#fetchNearEdge();
    if (rows.some((row) => row.waits_s > 0)) this.#countdown ??= setTimeout(() => this.#countDown(), COUNTDOWN_MS);
  }

  #countDown() {
    this.#countdown = null;
    this.schedule();
  }

  #rows() {
    const pending = this.#outbox.pending(this.#timeline.newest).map((say) => ({ ...say, by: this.#timeline.you }));
    const rows = rowsOf(this.#timeline, this.#stretch, pending, this.#marks);
    return [this.#startRow(pending.length > 0), ...rows];
  }

  get #marks() {
    return {
      unreadAfter: this.#unreadAfter,
      unfolded: this.#unfolded,
      filling: this.#filling,
      isLeaving: (seq) => this.#actions.isLeaving(seq),
      roleOf: (id) => this.#order.roleOf(id),
      reactionsTo: (message) => this.#reactions.to(message),
    };
  }

  #startRow(hasPending) {
    const state = this.#startState(hasPending);
    return { kind: "start", key: "start", stamp: state, state };
  }

  #startState(hasPending) {
    if (this.#isLoadingOlder) return "loading";
    if (this.#hasEarlier) return "more";
    return this.#timeline.isEmpty && !hasPending ? "empty" : "begin";
  }

  get #hasEarlier() {
    return this.#stretch.hasEarlierHeld || this.#timeline.hasBefore(this.#edge);
  }

  get #edge() {
    return Math.min(this.#stretch.first, this.#timeline.oldest);
  }

  // Rows above may come, go or change their height: the row being read keeps its place on the screen; if it goes, the
  // next one does.
  #keepingPlace(rows, change) {
    const staying = new Set(rows.map(({ key }) => key));
    const anchor = this.#stays ? null : (this.#unfolding ?? this.#firstVisible(staying));
    const before = anchor && this.#placeOf(anchor);
    const focusedKey = this.#next(document.activeElement?.closest?.("#rows > li"), staying);
    change();
    if (this.#nodes.has(anchor)) this.#log.scrollTop += this.#placeOf(anchor) - before;
    this.#unfolding = null;
    if (focusedKey !== undefined && document.activeElement === document.body) this.#refocus(focusedKey);
  }

  #refocus(key) {
    (this.#nodes.get(key)?.node ?? this.#log).focus({ preventScroll: true });
  }

  #firstVisible(staying) {
    const top = this.#log.getBoundingClientRect().top;
    for (const [key, { node, row }] of this.#nodes) {
      if (row.kind === "message" && staying.has(key) && node.getBoundingClientRect().bottom > top) return key;
    }
    return null;
  }

  /** The key of the row that `node` is or, if it goes, of the next message that stays. */
  #next(node, staying) {
    for (let next = node; next; next = next.nextElementSibling) {
      const isOne = next === node || next.matches(".message");
      if (isOne && staying.has(next.dataset.key)) return next.dataset.key;
    }
    return node?.dataset.key;
  }

  // What stands above the first row may change its height, and so may that row: its end is what is being read, unless
  // it is being folded.
  #placeOf(key) {
    const { top, bottom } = this.#nodes.get(key).node.getBoundingClientRect();
    return key === this.#unfolding ? top : bottom;
  }

  #reconcile(rows) {
    const shown = this.#nodes;
    this.#nodes = new Map(rows.map((row) => [row.key, { row, node: this.#nodeFor(row, shown.get(row.key)) }]));
    for (const [key, { node }] of shown) if (this.#nodes.get(key)?.node !== node) node.remove();
    let place = this.#list.firstElementChild;
    for (const { node } of this.#nodes.values()) {
      if (node === place) place = place.nextElementSibling;
      else this.#list.insertBefore(node, place);
    }
    this.#picker.repainted((key) => this.#nodes.get(key)?.node);
  }

  /** The node that shows `row`: the one shown before, if nothing about it changed. */
  #nodeFor(row, shown) {
    if (shown?.row.stamp !== row.stamp) return nodeOf(row, this.#actions.copy);
    if (shown.row.reacted !== row.reacted) paintReactions(shown.node, row);
    return shown.node;
  }

  #showTarget() {
    const entry = [...this.#nodes.values()].find(({ row }) => row.message?.seq >= this.#target);
    this.#target = null;
    if (!entry) return;
    const line = entry.node.previousElementSibling?.matches(".unread") ? entry.node.previousElementSibling : entry.node;
    line.scrollIntoView({ block: "center" });
    entry.node.classList.add("flash");
    setTimeout(() => entry.node.classList.remove("flash"), FLASH_MS);
  }

  #askForSources(rows) {
    for (const { message, source } of rows) if (message?.reply_to && source === undefined) this.#actions.source(message.reply_to);
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

  #keepStill(change) {
    if (this.#stays) this.#drawUnreadLine();
    change();
    this.#judgePlace();
    this.schedule();
  }

  #onResize() {
    this.#height_px = this.#log.clientHeight;
    if (this.#isFollowing) this.#scrollToEnd();
  }

  #onScroll() {
    this.#placePalette();
    if (this.#log.clientHeight !== this.#height_px) return; // not the reader's doing: #onResize follows
    this.#judgePlace();
  }

  #onSelection() {
    const { isCollapsed, anchorNode } = document.getSelection();
    const wasSelecting = this.#isSelecting;
    this.#isSelecting = !isCollapsed && this.#log.contains(anchorNode);
    if (wasSelecting && !this.#isSelecting) this.#judgePlace();
  }

  #judgePlace() {
    const wasFollowing = this.#isFollowing;
    this.#isFollowing = this.#stretch.isAtEnd && this.#toEnd_px <= NEAR_END_PX;
    if (wasFollowing !== this.#isFollowing) this.#onFollowing();
    if (!this.#stays) this.#fetchNearEdge();
  }

  #onFollowing() {
    if (!this.#isFollowing) this.#drawUnreadLine();
    this.schedule();
  }

  // A frame that was asked for does not come while the page is hidden.
  #onVisibility() {
    if (document.hidden && this.#stays) this.#drawUnreadLine();
    this.#isScheduled = false;
    this.schedule();
  }

  // The line stands where the reader was when he turned away, until he turns away the next time.
  #drawUnreadLine(since = Date.now()) {
    this.#unreadAfter = this.#seen;
    this.#unreadSince = since;
  }

  #countUnseen() {
    if (this.#stays && !document.hidden) this.#readAll();
    const unseen = this.#timeline.countAfter(this.#seen);
    this.#toEnd.hidden = this.#stays || (this.#isFollowing && unseen === 0 && !this.#isKept);
    setText(byId("to-end-text"), this.#toEndText(unseen));
    this.#actions.unseen(document.hidden ? unseen : 0);
    this.#offerUnread();
  }

  #toEndText(n) {
    if (this.#isKept && this.#isFollowing) return t("log.paused", { n });
    return n ? t("log.new_messages", { n }) : t("log.to_end");
  }

  #readAll() {
    const { newest, head } = this.#timeline;
    if (this.#unreadAfter >= head) this.#unreadAfter = null;
    if (newest <= this.#seen && this.#seen <= head) return;
    this.#seen = newest;
    this.#actions.read({ seq: newest, at: this.#timeline.at(newest)?.at ?? Date.now() });
  }

  // Only what lies above the screen has to be pointed at; once it was there, it is known.
  #offerUnread() {
    const line = this.#nodes.get("unread")?.node;
    const top = this.#log.getBoundingClientRect().top;
    if (line && line.getBoundingClientRect().bottom > top) this.#unreadSince = null;
    const n = this.#unreadAfter === null ? 0 : this.#timeline.countAfter(this.#unreadAfter);
    this.#toUnread.hidden = this.#unreadSince === null || !this.#isFollowing || n === 0;
    if (this.#toUnread.hidden) return;
    setText(byId("to-unread-text"), t("log.to_unread", { n, time: clockTime(this.#unreadSince) }));
  }

  async #goToUnread() {
    if (await this.#goToSeen(this.#unreadAfter + 1)) this.#unreadSince = null;
    this.schedule();
  }

  /** Goes to the first message from `seq` on: what is loaded for it may turn out to have been removed. */
  async #goToSeen(seq) {
    const first = this.#timeline.pastSilence(seq);
    const isThere = await this.goTo(first);
    return isThere === false && this.#timeline.pastSilence(first) > first ? this.#goToSeen(first) : isThere;
  }

  #fetchNearEdge() {
    if (this.#toEnd_px < NEAR_EDGE_PX && !this.#stretch.isAtEnd) this.#move(() => this.#stretch.later());
    else if (this.#log.scrollTop < NEAR_EDGE_PX) this.#goEarlier();
    if (!this.#stays) this.#fillNearGap();
  }

  // A gap the reader comes to is filled from the side he comes from.
  #fillNearGap() {
    if (this.#filling !== null || this.#isStuck) return;
    const { top, bottom } = this.#log.getBoundingClientRect();
    for (const { row, node } of this.#nodes.values()) {
      if (row.kind !== "gap") continue;
      const box = node.getBoundingClientRect();
      if (box.bottom < top - NEAR_EDGE_PX || box.top > bottom + NEAR_EDGE_PX) continue;
      this.#fill(row, { isFromBelow: box.top < (top + bottom) / 2 });
      return;
    }
  }

  #goEarlier() {
    if (this.#stretch.hasEarlierHeld) this.#move(() => this.#stretch.earlier());
    else if (this.#timeline.hasBefore(this.#edge) && !this.#isLoadingOlder && !this.#isStuck) this.#loadOlder();
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
    const isLoaded = await this.#actions.older(this.#edge);
    this.#isLoadingOlder = false;
    this.#isStuck = !isLoaded;
    if (isLoaded) this.#stretch.earlier();
    this.schedule();
  }

  async #fill({ after, before }, { isFromBelow = false } = {}) {
    this.#filling = before;
    this.schedule();
    this.#isStuck = !(await this.#actions.fill({ after, before, isFromBelow }));
    this.#filling = null;
    this.schedule();
  }

  /** Opens what was summed up and stays at its beginning. */
  async #read({ first, last }) {
    this.#stretch.open({ first, last });
    await this.#goToSeen(first);
  }

  #onClick({ target }) {
    const button = target.closest("[data-action]");
    if (!button) return;
    const { row } = this.#nodes.get(target.closest("#rows > li").dataset.key);
    this.#clicks[button.dataset.action](row, button);
  }

  // The log is held meanwhile, or the message would go away from under the palette. Who came by keys goes on from it.
  #offerReactions(message, node) {
    const { key } = node.dataset;
    const isByKey = node.matches(":focus-visible, :has(:focus-visible)");
    const mine = this.#reactions.to(message).filter(({ isMine }) => isMine).map(({ kind }) => kind);
    this.#picker.pick(node);
    this.#palette.open(key, placeBeside(node), {
      isOn: (kind) => mine.includes(kind),
      onPick: (kind) => this.#actions.react(message, kind),
      onClose: (hadFocus) => (isByKey ? hadFocus && this.#refocus(key) : this.#picker.letGo()),
    });
  }

  #placePalette() {
    if (this.#palette.key === null) return;
    const node = this.#nodes.get(this.#palette.key)?.node;
    if (node) this.#palette.stand(placeBeside(node));
    else this.#palette.close();
  }

  #unfold(key) {
    if (!this.#unfolded.delete(key)) this.#unfolded.add(key);
    this.#isFollowing = false;
    this.#unfolding = key;
    this.schedule();
  }
}

/** Where the palette of the message that `node` shows is to stand. */
const placeBeside = (node) => (node.querySelector(".tools") ?? node).getBoundingClientRect();
