/*
 * The dialog that asks for a name, at the first visit and whenever somebody wants another one.
 *
 * Knows what was typed and nothing else: whether a name is free or fit is the server's to say.
 */

import { byId, setText } from "./dom.js";
import { codePoints, trimmed } from "./words.js";

const MAX_NAME = 32;

export class Naming {
  #dialog = byId("naming");
  #field = byId("naming-name");
  #problem = byId("naming-problem");
  #answer = null;

  constructor() {
    byId("naming-form").addEventListener("submit", (event) => this.#onSubmit(event));
    byId("naming-guest").addEventListener("click", () => this.#finish(""));
    byId("naming-cancel").addEventListener("click", () => this.#finish(null));
    this.#dialog.addEventListener("close", () => this.#finish(null));
  }

  /** Asks a newcomer; resolves to the name, "" for a guest. */
  async askNewcomer() {
    this.#dress("What should people call you?", "Come in", { isNewcomer: true });
    return (await this.#ask("")) ?? "";
  }

  /** Asks for another name; resolves to it, or null if it shall stay. `problem` says what was wrong with the last one. */
  askAnother(name, problem = "") {
    this.#dress("Change your name", "Change it", { isNewcomer: false });
    return this.#ask(name, problem);
  }

  // Internal

  #dress(title, submit, { isNewcomer }) {
    setText(byId("naming-title"), title);
    setText(byId("naming-submit"), submit);
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
    if (!name) setText(this.#problem, "Please write a name.");
    else if (codePoints(name) > MAX_NAME) setText(this.#problem, `A name has at most ${MAX_NAME} characters.`);
    else this.#finish(name);
  }

  #finish(answer) {
    const resolve = this.#answer;
    this.#answer = null;
    this.#dialog.close();
    resolve?.(answer);
  }
}
