/*
 * The dialog that shares a room: as a link, as a QR code, through the system.
 */

import { copyText } from "./clipboard.js";
import { byId, setText } from "./dom.js";
import { sharedLinkTo } from "./links.js";
import { t } from "./words.js";

const LOOPBACK = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

export class Sharing {
  #dialog = byId("sharing");
  #link = byId("sharing-link");
  #code = byId("sharing-code");
  #copy = byId("sharing-copy");
  #send = byId("sharing-send");
  #room = "";

  constructor() {
    this.#copy.hidden = false;
    this.#send.hidden = !navigator.share; // none on plain http, nor on most desktops
    this.#link.addEventListener("focus", () => this.#link.select());
    this.#copy.addEventListener("click", () => this.#onCopy());
    this.#send.addEventListener("click", () => this.#onSend());
    this.#code.addEventListener("error", () => { this.#code.hidden = true; });
  }

  // Actions

  open(room) {
    this.#room = room;
    this.#link.value = sharedLinkTo(room);
    this.#code.hidden = false;
    this.#code.src = codeOf(room);
    setText(byId("sharing-lead"), leadSentence());
    setText(this.#copy, t("sharing.copy"));
    this.#dialog.showModal();
    this.#dialog.scrollTop = 0; // on a low screen the focus would scroll the code out of sight
    this.#copy.focus({ preventScroll: true });
  }

  // Internal

  async #onCopy() {
    const isCopied = await copyText(this.#link.value);
    setText(this.#copy, t(isCopied ? "sharing.copied" : "sharing.copy_by_hand"));
    if (!isCopied) this.#link.focus();
  }

  // Whoever changes his mind in the system's own dialog has not made a mistake.
  #onSend() {
    navigator.share({ title: this.#room, url: this.#link.value }).catch(() => {});
  }
}

function codeOf(room) {
  const url = new URL("/qr.svg", location);
  url.searchParams.set("room", room);
  if (document.body.dataset.share) url.searchParams.set("share", "1");
  return url.href;
}

function leadSentence() {
  const isOnlyHere = !document.body.dataset.share && LOOPBACK.test(location.hostname);
  return isOnlyHere ? t("sharing.only_here", { host: location.hostname }) : t("sharing.lead");
}
