/*
 * The unread count where it is seen from other tabs: in the title, in the tab's icon, on the installed app.
 *
 * The icon is the page's own with a sign drawn over it, as a data: address, since nothing but an image can go there.
 */

import { byId } from "./dom.js";
import { count } from "./words.js";

const MOST_IN_ICON = 9;
const SIGN = '<circle cx="42" cy="42" r="22" fill="#d3261b" stroke="#fff" stroke-width="3"/>'
  + '<text x="42" y="53" fill="#fff" font-family="system-ui,sans-serif" font-weight="700" text-anchor="middle"';

let drawing = null; // the icon's own source, fetched once it is needed
let shown = 0;

/** Shows `n` unread messages of `room`; 0 leaves its name alone. */
export function showUnread(room, n) {
  document.title = `${n > 0 ? `(${count(n)}) ` : ""}${room} · Chatroom`;
  if (n === shown) return;
  shown = n;
  showInIcon(n);
  showOnApp(n);
}

async function showInIcon(n) {
  const icon = byId("icon");
  icon.dataset.plain ??= icon.href;
  const address = n > 0 ? await withSign(icon.dataset.plain, n) : icon.dataset.plain;
  if (n === shown && icon.href !== address) icon.href = address;
}

/** The icon with a sign, as a data: address; the plain one if it cannot be had. */
async function withSign(plain, n) {
  drawing ??= fetch(plain).then((answer) => answer.text());
  const source = await drawing.catch(() => { drawing = null; });
  if (!source) return plain;
  const label = n > MOST_IN_ICON ? ` font-size="24">${MOST_IN_ICON}+` : ` font-size="32">${n}`;
  return `data:image/svg+xml,${encodeURIComponent(source.replace("</svg>", `${SIGN}${label}</text></svg>`))}`;
}

// Only an installed page on https has one; where it is refused nothing is lost.
function showOnApp(n) {
  navigator.setAppBadge?.(n).catch(() => {});
}
