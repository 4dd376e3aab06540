/*
 * The dialog of what everyone chooses for himself: colours and language.
 *
 * Both are kept as cookies, because the server writes the page in them from its first byte on. The other tabs of this
 * browser follow. Knows no room; the dialog's ways to other dialogs are given.
 */

import { byId } from "./dom.js";
import { pathOf } from "./links.js";

const YEAR_AND_MORE_S = 400 * 24 * 60 * 60; // browsers keep no cookie for longer
const REOPEN = "chatroom.menu";

export class Looks {
  #dialog = byId("menu");
  #language = byId("language");
  #grounds = [...document.querySelectorAll("meta[name=theme-color]")].map((meta) => ({ meta, ground: meta.dataset.ground }));
  #channel = new BroadcastChannel("chatroom.looks");

  /** `onDate` and `onKeys` open the dialogs that this one leads to. */
  constructor({ onDate, onKeys }) {
    byId("menu-toggle").addEventListener("click", () => this.show());
    byId("theme").addEventListener("change", ({ target }) => this.#chooseTheme(target.value));
    this.#language.addEventListener("change", () => this.#chooseLanguage());
    this.#leadTo("menu-date", onDate);
    this.#leadTo("menu-keys", onKeys);
    this.#channel.addEventListener("message", ({ data }) => this.#follow(data));
    this.#paintGround();
    if (taken(REOPEN)) this.#reopen();
  }

  // Actions

  /** Opens the dialog. */
  show() {
    byId("theme").querySelector(`[value="${theme()}"]`).checked = true;
    this.#language.value = document.documentElement.lang;
    this.#dialog.showModal();
  }

  // Internal

  #leadTo(id, onClick) {
    byId(id).addEventListener("click", () => {
      this.#dialog.close();
      onClick();
    });
  }

  #chooseTheme(theme) {
    keepCookie("theme", theme);
    this.#paintTheme(theme);
    this.#channel.postMessage({ theme });
  }

  // The dialog comes back after the reload, so that whoever tries languages with the arrow keys stays where he is.
  #chooseLanguage() {
    keepCookie("language", this.#language.value);
    leave(REOPEN);
    this.#channel.postMessage({ language: this.#language.value });
    location.reload();
  }

  #reopen() {
    this.show();
    this.#language.focus();
  }

  #follow({ theme, language }) {
    if (language !== undefined) location.reload();
    else this.#paintTheme(theme);
  }

  #paintTheme(theme) {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    this.#paintGround();
  }

  // The browser's own frame: its two colours stand in the page for light and dark systems; a choice takes one for both.
  #paintGround() {
    const chosen = this.#grounds.find(({ meta }) => theme() && meta.media.includes(theme()));
    for (const { meta, ground } of this.#grounds) meta.content = chosen?.ground ?? ground;
  }
}

/** The chosen theme; "" for the system's. */
const theme = () => document.documentElement.dataset.theme ?? "";

function keepCookie(name, value) {
  document.cookie = `${name}=${value}; path=${pathOf("/")}; max-age=${value ? YEAR_AND_MORE_S : 0}; samesite=lax`;
}

function leave(note) {
  try {
    sessionStorage.setItem(note, "1");
  } catch {
    // Blocked: then the dialog stays closed.
  }
}

function taken(note) {
  try {
    const isThere = sessionStorage.getItem(note) !== null;
    sessionStorage.removeItem(note);
    return isThere;
  } catch {
    return false;
  }
}
