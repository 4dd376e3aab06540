/*
 * The dialog that shares a room: as a link, as a QR code, through the system.
 *
 * The link of a closed room lets nobody in; who may make an invitation can share that.
 */

import { copyText } from "./clipboard.js";
import { byId, setText } from "./dom.js";
import { pathOf, sharedAddress, sharedLinkTo } from "./links.js";
import { isClosed, shownName } from "./roomname.js";
import { span, t } from "./words.js";

const INVITE = { seconds: 7 * 24 * 3600, uses: 10 };
const LOOPBACK = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

export class Sharing {
  #dialog = byId("sharing");
  #link = byId("sharing-link");
  #code = byId("sharing-code");
  #copy = byId("sharing-copy");
  #send = byId("sharing-send");
  #invite = byId("sharing-invite");
  #room = "";
  #page;

  /** `page.visit` makes the invitations. */
  constructor(page) {
    this.#page = page;
    this.#copy.hidden = false;
    this.#send.hidden = !navigator.share; // none on plain http, nor on most desktops
    this.#link.addEventListener("focus", () => this.#link.select());
    this.#copy.addEventListener("click", () => this.#onCopy());
    this.#send.addEventListener("click", () => this.#onSend());
    this.#invite.addEventListener("click", () => this.#onInvite());
    this.#code.addEventListener("error", () => { this.#code.hidden = true; });
  }

  // Actions

  open(room) {
    this.#room = room;
    const mayInvite = isClosed(room) && this.#page.visit.order.rank > 0;
    this.#show(sharedLinkTo(room), isClosed(room) ? closedSentence(mayInvite) : leadSentence());
    this.#code.hidden = isClosed(room);
    if (!isClosed(room)) this.#code.src = codeOf(room);
    this.#offerInvite(mayInvite);
    this.#dialog.showModal();
    this.#dialog.scrollTop = 0; // on a low screen the focus would scroll the code out of sight
    (mayInvite ? this.#invite : this.#copy).focus({ preventScroll: true });
  }

  // Internal

  #show(link, lead) {
    this.#link.value = link;
    setText(byId("sharing-lead"), lead);
    setText(byId("sharing-problem"), "");
    setText(this.#copy, t("sharing.copy"));
  }

  async #onInvite() {
    const room = this.#room;
    this.#invite.disabled = true;
    const answer = await this.#page.visit.act({ type: "invite", ...INVITE }).catch((error) => error);
    this.#invite.disabled = false;
    if (room !== this.#room) return;
    if (answer.path) this.#showInvitation(answer.path);
    else setText(byId("sharing-problem"), answer.message);
  }

  #showInvitation(path) {
    this.#show(sharedAddress(path), t("sharing.invitation", { n: INVITE.uses, time: span(INVITE.seconds) }));
    this.#offerInvite(false);
    this.#copy.focus();
  }

  // What lets somebody in goes before what does not.
  #offerInvite(isOffered) {
    this.#invite.hidden = !isOffered;
    this.#copy.classList.toggle("primary", !isOffered);
  }

  async #onCopy() {
    const isCopied = await copyText(this.#link.value);
    setText(this.#copy, t(isCopied ? "sharing.copied" : "sharing.copy_by_hand"));
    if (!isCopied) this.#link.focus();
  }

  // Whoever changes his mind in the system's own dialog has not made a mistake.
  #onSend() {
    navigator.share({ title: shownName(this.#room), url: this.#link.value }).catch(() => {});
  }
}

function codeOf(room) {
  const url = new URL(pathOf("/qr.svg"), location);
  url.searchParams.set("room", room);
  if (document.body.dataset.share) url.searchParams.set("share", "1");
  return url.href;
}

const closedSentence = (mayInvite) => t(mayInvite ? "sharing.closed_invite" : "sharing.closed");

function leadSentence() {
  const isOnlyHere = !document.body.dataset.share && LOOPBACK.test(location.hostname);
  return isOnlyHere ? t("sharing.only_here", { host: location.hostname }) : t("sharing.lead");
}
