/*
 * The dialog that shows the link to the room.
 *
 * On plain http a browser offers no clipboard: the link is then shown to be copied by hand, without a dead button.
 */

import { byId, setText } from "./dom.js";

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

export function setUpSharing(room) {
  const field = byId("sharing-link");
  field.value = linkTo(room);
  field.addEventListener("focus", () => field.select());
  if (LOOPBACK.test(location.hostname)) setText(byId("sharing-lead"), ONLY_HERE);
  byId("share").addEventListener("click", () => byId("sharing").showModal());
  setUpCopying(field);
}

const ONLY_HERE = "This link works on this computer only. For others, put the computer's name or address in the place of "
  + `${location.hostname}.`;

export function linkTo(room) {
  const url = new URL("/", location);
  url.searchParams.set("room", room);
  return url.href;
}

function setUpCopying(field) {
  if (!window.isSecureContext || !navigator.clipboard) return;
  const button = byId("sharing-copy");
  button.hidden = false;
  button.addEventListener("click", async () => {
    const isCopied = await navigator.clipboard.writeText(field.value).then(() => true, () => false);
    setText(button, isCopied ? "Copied" : "Copy it by hand, please");
    if (!isCopied) field.select();
  });
}
