/*
 * Links to rooms and messages.
 *
 * On the machine the server runs on, the page's own address is of no use to others: then the one they can reach is
 * shared, if the server knows it.
 */

/** The address of a room, or of one message in it, for this browser. */
export const linkTo = (room, seq) => addressOf(location.origin, room, seq);

/** The same for others, who may not reach this machine by the name this browser uses. */
export const sharedLinkTo = (room, seq) => addressOf(document.body.dataset.share || location.origin, room, seq);

function addressOf(origin, room, seq) {
  const url = new URL("/", origin);
  url.searchParams.set("room", room);
  if (seq !== undefined) url.hash = seq;
  return url.href;
}
