/*
 * The rooms this browser visited lately, with what is unread in each: on the start page and in the sheet of rooms.
 *
 * Rows are links, so that a room opens in another tab as any link does; a plain click is handed to `onPick` if there is one.
 * Other tabs that visit, read or forget a room show here at once.
 */

import { byId, fromTemplate, part, setText } from "./dom.js";
import { linkTo } from "./links.js";
import { isClosed, shownName } from "./roomname.js";
import { forgetRoom, onWrittenElsewhere, recentRooms, saysOf } from "./storage.js";
import { Unread } from "./unread.js";
import { clockTime, dayKey, exactTime, hueOf, initial, shortDate, t } from "./words.js";

const DAY_MS = 24 * 60 * 60 * 1000;

export class RoomList {
  #list = byId("recent-rooms");
  #rows = new Map(); // room → its row, newest visit first
  #unread = new Unread({ rooms: () => this.#others(), onChange: (room) => this.#paintUnread(room) });
  #isShown = false;
  #filter = "";
  #current;
  #onPick;
  #onUp;

  /** `current()`: the room one is in, or null; `onPick(room)`: a plain click; `onUp()`: arrow up from the first row. */
  constructor({ current = () => null, onPick = null, onUp }) {
    this.#current = current;
    this.#onPick = onPick;
    this.#onUp = onUp;
    this.#list.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("visibilitychange", () => this.#look());
    window.addEventListener("pageshow", () => this.#isShown && this.#paint());
    onWrittenElsewhere((key) => this.#isShown && /^(rooms$|read:)/.test(key) && this.#paint());
  }

  // Lifecycle

  /** The list comes into sight: it is painted, and from now on counts are asked for. */
  show() {
    this.#isShown = true;
    this.#paint();
    this.#look();
  }

  hide() {
    this.#isShown = false;
    this.#look();
  }

  // Actions

  /** Shows only the rooms that have `text` in their name. */
  filter(text) {
    this.#filter = folded(text);
    for (const [room, row] of this.#rows) row.hidden = !folded(room).includes(this.#filter);
    byId("recent").hidden = this.#links().length === 0;
  }

  focus() {
    this.#links()[0]?.focus();
  }

  // Internal

  #look() {
    if (this.#isShown && !document.hidden) this.#unread.start();
    else this.#unread.stop();
  }

  #others() {
    return [...this.#rows.keys()].filter((room) => room !== this.#current());
  }

  #paint() {
    const before = [...this.#rows.keys()];
    const visits = recentRooms();
    this.#rows = new Map(visits.map(({ room }) => [room, this.#rows.get(room) ?? this.#newRow(room)]));
    // Rows that stay where they are keep the focus.
    if (visits.some(({ room }, place) => room !== before[place]) || visits.length !== before.length) {
      this.#list.replaceChildren(...this.#rows.values());
    }
    for (const visit of visits) this.#paintRow(visit);
    this.filter(this.#filter);
  }

  #newRow(room) {
    const row = fromTemplate("recent-room");
    row.style.setProperty("--hue", hueOf(room));
    setText(part(row, "mark"), initial(shownName(room)));
    setText(part(row, "name"), shownName(room));
    part(row, "name").title = room; // long ones are cut
    part(row, "lock").toggleAttribute("hidden", !isClosed(room));
    this.#equipLink(part(row, "link"), room);
    this.#equipForget(part(row, "forget"), room);
    return row;
  }

  #equipLink(link, room) {
    link.href = linkTo(room);
    link.addEventListener("click", (event) => {
      if (!this.#onPick || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      this.#onPick(room);
    });
  }

  #equipForget(button, room) {
    button.setAttribute("aria-label", t("rooms.forget", { room: shownName(room) }));
    button.addEventListener("click", () => this.#forget(room));
  }

  #paintRow({ room, at }) {
    const row = this.#rows.get(room);
    const isCurrent = room === this.#current();
    part(row, "link").ariaCurrent = isCurrent ? "page" : null;
    part(row, "forget").hidden = isCurrent;
    paintTime(part(row, "time"), at);
    const n = isCurrent ? 0 : saysOf(room).length;
    if (n > 0) setText(part(row, "time"), t("rooms.unsent", { n }));
    this.#paintUnread(room);
  }

  #paintUnread(room) {
    const row = this.#rows.get(room);
    if (!row) return;
    const n = room === this.#current() ? 0 : this.#unread.count(room);
    const sign = part(row, "unread");
    sign.hidden = n === 0;
    setText(sign, n === 0 ? "" : t("rooms.unread", { n }));
    row.classList.toggle("has-unread", n > 0);
  }

  // The focus goes to the row that takes this one's place.
  #forget(room) {
    const row = this.#rows.get(room);
    const heir = row.nextElementSibling ?? row.previousElementSibling;
    forgetRoom(room);
    this.#paint();
    if (heir) part(heir, "forget").focus();
    else this.#onUp();
  }

  #onKey(event) {
    const links = this.#links();
    const place = links.indexOf(document.activeElement);
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: links.length - 1 }[event.key];
    if (place < 0 || to === undefined) return;
    event.preventDefault();
    if (to < 0) this.#onUp();
    else links[to]?.focus();
  }

  #links() {
    return [...this.#list.querySelectorAll("li:not([hidden]) > a")];
  }
}

const folded = (text) => text.trim().normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

function paintTime(node, at) {
  if (!Number.isFinite(at)) return;
  node.dateTime = new Date(at).toISOString();
  node.title = exactTime(at);
  setText(node, dayOrTime(at, Date.now()));
}

function dayOrTime(at, now) {
  if (dayKey(at) === dayKey(now)) return clockTime(at);
  return dayKey(at) === dayKey(now - DAY_MS) ? t("day.yesterday") : shortDate(at);
}
