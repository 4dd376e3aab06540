/*
 * Links to rooms and messages, and what they lead to.
 *
 * On the machine the server runs on, the page's own address is of no use to others: then the one they can reach is
 * shared, if the server knows it. Everything of this server lies under the path that the page tells, if it tells one.
 */

import { oneSpelling, problemWith } from "./roomname.js";

/** The path at which a browser finds what the server itself knows by `path`, which begins with "/". */
export const pathOf = (path) => (document.documentElement.dataset.base ?? "") + path;

/** The address of a room, or of one message in it, for this browser. */
export const linkTo = (room, seq) => addressOf(location.origin, room, seq);

/** The same for others, who may not reach this machine by the name this browser uses. */
export const sharedLinkTo = (room, seq) => addressOf(sharedOrigin(), room, seq);

/** The same for another page of this server: `path` is to be put behind its origin. */
export const sharedAddress = (path) => new URL(path, sharedOrigin()).href;

/** Where one is let into a closed room. */
export function doorOf(room) {
  const url = new URL(pathOf("/door"), location.origin);
  url.searchParams.set("room", room);
  return url.href;
}

/** The room and the message that an address of this page names; null for any other address, and for a bad room. */
export function placeAt(address) {
  const url = oursAt(address);
  if (url?.pathname !== pathOf("/")) return null;
  // The last one counts, as on the server.
  const room = oneSpelling(url.searchParams.getAll("room").at(-1) ?? "default");
  return problemWith(room) ? null : { room, target: targetOf(url) };
}

/** True for the address of a door: with an invitation in it, it lets people in. */
export const isDoor = (address) => oursAt(address)?.pathname === pathOf("/door");

/** The seq of the message that an address points to, or null. */
export function targetOf({ hash }) {
  const seq = Number(/^#([1-9]\d{0,15})$/.exec(hash)?.[1]);
  return Number.isSafeInteger(seq) ? seq : null;
}

function oursAt(address) {
  const url = URL.canParse(address, location) ? new URL(address, location) : null;
  return url?.origin === location.origin ? url : null;
}

const sharedOrigin = () => document.body.dataset.share || location.origin;

function addressOf(origin, room, seq) {
  const url = new URL(pathOf("/"), origin);
  url.searchParams.set("room", room);
  if (seq !== undefined) url.hash = seq;
  return url.href;
}
