/*
 * The sheet of rooms beside the room: opens or makes one, and goes to another without leaving the page.
 *
 * Which room is open and how another one is opened is the page's to know.
 */

import { byId } from "./dom.js";
import { RoomForm } from "./roomform.js";
import { RoomList } from "./roomlist.js";
import { recentRooms } from "./storage.js";

export class Switcher {
  #dialog = byId("switcher");
  #form;
  #list;
  #order = [];
  #current;
  #open;

  /** `current()`: the room that is open; `open(room)`: another one was picked. */
  constructor({ current, open }) {
    this.#current = current;
    this.#open = open;
    const onPick = (room) => this.#pick(room);
    this.#list = new RoomList({ current, onPick, onUp: () => this.#form.focus() });
    this.#form = new RoomForm({ onOpen: onPick, onInput: (text) => this.#list.filter(text), onDown: () => this.#list.focus() });
    byId("switcher-close").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("click", (event) => this.#onClick(event));
    this.#dialog.addEventListener("close", () => this.#list.hide());
  }

  // Actions

  show() {
    if (this.#dialog.open) return;
    this.#form.clear();
    this.#list.filter("");
    this.#list.show();
    this.#dialog.showModal();
    // Where fingers type, the field would bring up a keyboard over the list.
    if (matchMedia("(hover: hover)").matches) this.#form.focus();
  }

  /** The room `step` places down the list (up, if negative), round its ends; null if there is no other. */
  neighbour(step) {
    this.#keepOrder();
    const { length } = this.#order;
    const place = this.#order.indexOf(this.#current());
    return length > 1 ? this.#order[(place + step + length) % length] : null;
  }

  // Internal

  // By the last visit, as it was when this page first looked: otherwise a step down and another one would only go back.
  #keepOrder() {
    const visited = recentRooms().map(({ room }) => room);
    const added = visited.filter((room) => !this.#order.includes(room));
    this.#order = [...added, ...this.#order.filter((room) => visited.includes(room))];
  }

  #pick(room) {
    this.#dialog.close();
    if (room !== this.#current()) this.#open(room);
  }

  // A click beside the sheet closes it; one on its own ground comes from the dialog element, too.
  #onClick({ target, clientX, clientY }) {
    const { left, right, top, bottom } = this.#dialog.getBoundingClientRect();
    const isInside = left <= clientX && clientX <= right && top <= clientY && clientY <= bottom;
    if (target === this.#dialog && !isInside) this.#dialog.close();
  }
}
