/*
 * The start page: a room by its name, and the rooms this browser visited lately.
 */

import { byId } from "./dom.js";
import { RoomForm } from "./roomform.js";
import { RoomList } from "./roomlist.js";
import { speak } from "./words.js";

speak(document.documentElement.lang, JSON.parse(byId("words").textContent));

const form = new RoomForm({ onInput: (text) => list.filter(text), onDown: () => list.focus() });
const list = new RoomList({ onUp: () => form.focus() });
list.show();
