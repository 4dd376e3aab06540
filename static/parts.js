/*
 * What the moderators' dialogs are made of: lines of a list, buttons in a row of which one is chosen, a link to copy.
 *
 * Knows no room: whatever happens is told to who made the part.
 */

import { copyText } from "./clipboard.js";
import { fromTemplate, part, setText } from "./dom.js";
import { exactTime, hueOf, initial, moment, t } from "./words.js";

const ARMED_MS = 5000;

export function element(name, className, ...content) {
  const node = document.createElement(name);
  node.className = className;
  node.append(...content);
  return node;
}

export function button(text, onClick, className = "button") {
  const node = element("button", className, text);
  node.type = "button";
  node.addEventListener("click", onClick);
  return node;
}

/** A button for what cannot be undone, where it is done too often to ask each time: it acts when pressed twice. */
export function armedButton(text, onClick) {
  const node = button(text, () => (node.dataset.armed ? onClick() : arm()), "button small grave-soft");
  const disarm = () => {
    delete node.dataset.armed;
    setText(node, text);
  };
  const arm = () => {
    node.dataset.armed = "yes";
    setText(node, t("sure.again", { act: text }));
    setTimeout(disarm, ARMED_MS);
  };
  node.addEventListener("blur", disarm);
  return node;
}

/** Somebody in his colour, as a button that leads to his card. */
export function personButton({ id, name }, onClick) {
  const avatar = element("span", "avatar", initial(name));
  avatar.ariaHidden = "true";
  const node = button("", onClick, "person-button");
  node.style.setProperty("--hue", hueOf(id));
  node.append(avatar, element("bdi", "name", name));
  return node;
}

/** A line of a list: `what` it says, `acts` that can be done with it, each of which is heard with what it is about. */
export function lineOf(what, acts = []) {
  const node = fromTemplate("order-line");
  part(node, "what").append(...what);
  part(node, "acts").append(...acts);
  part(node, "acts").hidden = acts.length === 0;
  asMade.set(node, node.cloneNode(true));
  lines += 1;
  part(node, "what").id = `line-${lines}`;
  for (const act of acts) act.setAttribute("aria-describedby", `line-${lines}`);
  return node;
}

let lines = 0;
const asMade = new WeakMap(); // how a line looked before anything in it was pressed

export const note = (...content) => element("p", "muted", ...content);

export function timeOf(at) {
  const node = element("time", "muted", moment(at));
  node.dateTime = new Date(at).toISOString();
  node.title = exactTime(at);
  return node;
}

/**
 * Paints `lines` into `list`. Those that say the same are left alone, and so is the focus in them; who had it in one that
 * is gone has it in the one that stands there.
 */
export function replaceLines(list, lines) {
  const shown = [...list.children];
  const place = shown.findIndex((line) => line.contains(document.activeElement));
  const kept = lines.map((line) => shown.find((each) => asMade.get(each).isEqualNode(asMade.get(line))) ?? line);
  for (const line of shown) if (!kept.includes(line)) line.remove();
  for (const [at, line] of kept.entries()) {
    if (list.children[at] !== line) list.insertBefore(line, list.children[at] ?? null);
  }
  if (place >= 0 && !list.contains(document.activeElement)) focusLine(list, place);
}

/** Brings the focus into the line at `place`, or into the last; into what labels the list if there is none. */
export function focusLine(list, place) {
  const line = list.children[Math.min(place, list.children.length - 1)];
  const target = line?.querySelector(".acts button:not(:disabled)") ?? line?.querySelector("button");
  (target ?? list.closest("dialog").querySelector("h2")).focus();
}

/** Buttons in a row, one of which is chosen; pressing another one only tells `onPick(value)`. */
export class Segments {
  #group;
  #choices;
  #textOf;
  #onPick;
  #shown = null;

  constructor(group, { label, choices, textOf, onPick }) {
    this.#group = group;
    this.#choices = choices;
    this.#textOf = textOf;
    this.#onPick = onPick;
    group.ariaLabel = label;
    const heading = element("span", "segments-label", label);
    heading.ariaHidden = "true";
    group.append(heading);
  }

  /** A value that is none of the choices stands among them as long as it holds. */
  show(value) {
    const isKnown = this.#choices.includes(value);
    const choices = isKnown ? this.#choices : [...this.#choices, value];
    if (String(choices) !== this.#shown) this.#draw(choices);
    for (const [at, node] of this.#buttons.entries()) node.ariaPressed = String(choices[at] === value);
  }

  get #buttons() {
    return [...this.#group.querySelectorAll("button")];
  }

  #draw(choices) {
    this.#shown = String(choices);
    for (const node of this.#buttons) node.remove();
    this.#group.style.setProperty("--choices", choices.length);
    this.#group.style.setProperty("--half", choices.length > 3 ? Math.ceil(choices.length / 2) : choices.length);
    this.#group.append(...choices.map((value) => button(this.#textOf(value), () => this.#onPick(value), "segment")));
  }
}

/** Shows in `place` a link that is seen only once. */
export function offerLink(place, link, label) {
  const node = fromTemplate("order-link");
  const field = part(node, "link");
  field.value = link;
  setText(part(node, "label"), label);
  field.addEventListener("focus", () => field.select());
  part(node, "copy").addEventListener("click", () => copyLink(field, part(node, "copy")));
  place.replaceChildren(node);
  part(node, "copy").focus();
}

async function copyLink(field, copy) {
  const isCopied = await copyText(field.value);
  setText(copy, t(isCopied ? "sharing.copied" : "sharing.copy_by_hand"));
  if (!isCopied) field.focus();
}
