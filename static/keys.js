/*
 * The keys of the whole page, and their overview.
 *
 * One table says which keys act, what they do in words, and in which order the overview (the dialog #keys) shows them.
 * Parts that handle keys of their own (the log, the composer) are in the table for the overview only.
 * Knows no room: what a key does is given.
 */

import { byId } from "./dom.js";
import { areSignsWished, keepSignsWished } from "./storage.js";
import { t } from "./words.js";

const IS_MAC = /mac|iphone|ipad/i.test(navigator.userAgentData?.platform ?? navigator.platform);
const SIGNS = { ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", Mod: "Ctrl" };
const MAC_SIGNS = { ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", Mod: "⌘", Alt: "⌥", Shift: "⇧" };

export class Keys {
  #shortcuts;
  #areSignsOn = areSignsWished();
  #dialog = byId("keys");

  /**
   * `shortcuts` are `{keys, what, act}` in the order of the overview: `keys` like "Mod+Shift+K", modifiers in this order
   * (Mod, Alt, Shift; Mod is ⌘ on a Mac, else Ctrl) and letters in capitals; `what` is the key of a sentence; without
   * `act` it is only shown; where `isFor()` is false it is not there.
   */
  constructor(shortcuts) {
    this.#shortcuts = [...shortcuts, { keys: "?", what: "keys.overview", act: () => this.show() }];
    document.addEventListener("keydown", (event) => this.#onKey(event));
    byId("keys-signs").addEventListener("change", ({ target }) => this.#switchSigns(target.checked));
  }

  // Actions

  /** Opens the overview. */
  show() {
    byId("keys-list").replaceChildren(...this.#shortcuts.filter(isThere).map(line));
    byId("keys-signs").checked = this.#areSignsOn;
    this.#dialog.showModal();
  }

  // Internal

  #onKey(event) {
    const keys = pressed(event);
    const shortcut = this.#shortcuts.find((candidate) => candidate.act && candidate.keys === keys && isThere(candidate));
    if (!shortcut || isTaken(event) || (isSign(keys) && !this.#maySign(event))) return;
    event.preventDefault();
    shortcut.act();
  }

  #maySign({ target }) {
    return this.#areSignsOn && !target.closest("input, textarea, select, [contenteditable]");
  }

  // Who speaks to his computer types signs without meaning to (WCAG 2.1.4).
  #switchSigns(areOn) {
    this.#areSignsOn = areOn;
    keepSignsWished(areOn);
  }
}

/** What was pressed, spelled as in the table. */
function pressed(event) {
  const isMod = IS_MAC ? event.metaKey : event.ctrlKey;
  const isForeign = IS_MAC ? event.ctrlKey : event.metaKey;
  const key = isMod || event.altKey ? letter(event) : event.key;
  // A sign is where the layout has it, with Shift or without.
  const isShift = event.shiftKey && (isMod || event.altKey || !isSign(key));
  return [isMod && "Mod", event.altKey && "Alt", isShift && "Shift", isForeign && "Foreign", key].filter(Boolean).join("+");
}

// With Alt a Mac types "π" by P, and some layouts have no Latin letters: then the place of the key decides.
function letter({ key, code }) {
  const isLatin = /^[a-z]$/i.test(key);
  return !isLatin && /^Key[A-Z]$/.test(code) ? code.slice(3) : isLatin ? key.toUpperCase() : key;
}

// Safari reports an input method's keys only by their keyCode; autofill fires some without any key.
function isTaken(event) {
  const isComposing = event.isComposing || event.keyCode === 229;
  return event.defaultPrevented || event.repeat || isComposing || document.querySelector("dialog:modal") !== null;
}

const isThere = ({ isFor = () => true }) => isFor();

const isSign = (keys) => keys.length === 1;

function line({ keys, what }) {
  const row = document.createElement("div");
  row.append(element("dt", t(what)), element("dd", ...keys.split(/(?<=.)\+/).map((key) => element("kbd", signOf(key)))));
  return row;
}

const signOf = (key) => (IS_MAC ? MAC_SIGNS : SIGNS)[key] ?? key;

function element(name, ...content) {
  const node = document.createElement(name);
  node.append(...content);
  return node;
}
