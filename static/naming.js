/*
 * The wished name, and the dialog that asks for it, at the first visit and whenever somebody wants another one.
 *
 * Knows what was typed and what the browser remembers: whether a name is free or fit is the server's to say.
 */

import { byId, setText } from "./dom.js";
import { keepWishedName, wishedName } from "./storage.js";
import { codePoints, t, trimmed } from "./words.js";

const MAX_NAME = 32;

export class Naming {
  #dialog = byId("naming");
  #field = byId("naming-name");
  #problem = byId("naming-problem");
  #answer = null;
  #wish = wishedName();

  constructor() {
    byId("naming-form").addEventListener("submit", (event) => this.#onSubmit(event));
    byId("naming-guest").addEventListener("click", () => this.#finish(""));
    byId("naming-cancel").addEventListener("click", () => this.#finish(null));
    // It is told a moment later: by then it may be open again, with another question.
    this.#dialog.addEventListener("close", () => this.#dialog.open || this.#finish(null));
  }

  // Actions

  /** The wished name, "" for a guest; another tab of the same person may have asked for it. */
  get wish() {
    return wishedName() ?? this.#wish;
  }

  set wish(name) {
    this.#wish = name;
    keepWishedName(name);
  }

  /** Resolves once there is a wish: a newcomer is asked; one who closes the dialog is a guest. */
  async known() {
    if (this.#wish !== null) return;
    this.#dress("naming.newcomer", "naming.come_in", { isNewcomer: true });
    this.wish = (await this.#ask("")) ?? "";
  }

  /** Asks for another name; resolves to it, or null if it shall stay. `problem` says what was wrong with the last one. */
  askAnother(name, problem = "") {
    this.#dress("naming.another", "naming.change", { isNewcomer: false });
    return this.#ask(name, problem);
  }

  // Internal

  #dress(title, submit, { isNewcomer }) {
    setText(byId("naming-title"), t(title));
    setText(byId("naming-submit"), t(submit));
    byId("naming-guest").hidden = !isNewcomer;
    byId("naming-cancel").hidden = isNewcomer;
    byId("naming-lead").hidden = !isNewcomer;
  }

  #ask(name, problem = "") {
    this.#field.value = name;
    setText(this.#problem, problem);
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#field.select();
    return new Promise((resolve) => { this.#answer = resolve; });
  }

  #onSubmit(event) {
    event.preventDefault();
    const name = trimmed(this.#field.value);
    if (!name) setText(this.#problem, t("naming.empty"));
    else if (codePoints(name) > MAX_NAME) setText(this.#problem, t("naming.too_long", { n: MAX_NAME }));
    else this.#finish(name);
  }

  #finish(answer) {
    const resolve = this.#answer;
    this.#answer = null;
    this.#dialog.close();
    resolve?.(answer);
  }
}
