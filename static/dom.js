/*
 * The few things every painter needs from the DOM.
 *
 * Text reaches the page as text nodes only: whatever people write, nothing of it is ever parsed as HTML.
 */

import { hueOf, initial } from "./words.js";

export const byId = (id) => document.getElementById(id);

export const part = (node, name) => node.querySelector(`[data-part="${name}"]`);

/** A fresh copy of the one element inside the template `id`. */
export const fromTemplate = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Writes only what changed, so that selections and screen readers are left alone. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Gives the avatar and the name inside `node` to `person`, in his colour. */
export function paintPerson(node, { id, name }) {
  node.style.setProperty("--hue", hueOf(id));
  setText(part(node, "avatar"), initial(name));
  setText(part(node, "name"), name);
}
