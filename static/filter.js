/*
 * The room's filter as a list: each line is a word or a pattern and what becomes of a message in which it is found.
 *
 * What the server says about a line stands at that line. Knows no socket: `change` does an act.
 */

import { byId, setText } from "./dom.js";
import { button, element, lineOf, note, replaceLines } from "./parts.js";
import { t } from "./words.js";

const OTHER = { refuse: "hold", hold: "refuse" };

export class Filter {
  #list = byId("filter-lines");
  #field = byId("filter-pattern");
  #isRegex = byId("filter-regex");
  #problem = byId("filter-problem");
  #change;
  #patterns = [];

  /** `change(frame, {said, onRefused})` does an act; resolves to its answer, or null. */
  constructor({ change }) {
    this.#change = change;
    byId("filter-form").addEventListener("submit", (event) => this.#onSubmit(event));
    this.#field.addEventListener("input", () => this.#say(""));
  }

  // Actions

  begin() {
    this.#field.value = "";
    this.#isRegex.checked = false;
    this.#say("");
  }

  show({ patterns }) {
    this.#patterns = patterns.map((pattern) => ({ is_regex: false, action: "refuse", ...pattern }));
    replaceLines(this.#list, this.#patterns.map((pattern) => this.#line(pattern)));
  }

  // Internal

  #line(pattern) {
    const { action, is_regex } = pattern;
    const text = element("code", "order-pattern", pattern.pattern);
    text.dir = "auto";
    return lineOf(
      [text, note([is_regex && t("filter.regex_line"), t(`filter.${action}`)].filter(Boolean).join(" · "))],
      [
        button(t(`filter.to_${OTHER[action]}`), () => this.#turn(pattern), "button small"),
        button(t("filter.remove"), () => this.#remove(pattern), "button small"),
      ],
    );
  }

  #turn(pattern) {
    const turned = { ...pattern, action: OTHER[pattern.action] };
    this.#set(this.#patterns.map((each) => (isSame(each, pattern) ? turned : each)));
  }

  #remove(pattern) {
    this.#set(this.#patterns.filter((each) => !isSame(each, pattern)));
  }

  #set(patterns, options) {
    return this.#change({ type: "filter", patterns }, { said: t("deed.filter"), ...options });
  }

  async #onSubmit(event) {
    event.preventDefault();
    const pattern = this.#field.value.trim();
    if (!pattern) return this.#say(t("filter.empty"));
    const action = event.submitter?.value ?? "refuse";
    const added = { pattern, is_regex: this.#isRegex.checked, action };
    const onRefused = ({ message, said }) => this.#say(said ?? message);
    if (await this.#set([...this.#patterns, added], { onRefused })) this.begin();
    this.#field.focus();
  }

  #say(sentence) {
    setText(this.#problem, sentence);
    this.#field.ariaInvalid = String(sentence !== "");
  }
}

const isSame = (one, other) => one.pattern === other.pattern && one.is_regex === other.is_regex;
