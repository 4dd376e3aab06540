/*
 * What only owners may do: the password of a closed room, another owner, the room's log as a file.
 *
 * Knows no socket: what is done goes through the visit in the room.
 */

import { byId, setText } from "./dom.js";
import { makeLink } from "./invites.js";
import { pathOf } from "./links.js";
import { t } from "./words.js";

const LINK_S = 3600; // long enough to open it in another browser

export class Owners {
  #panel = byId("order-owners");
  #password = byId("password");
  #page;
  #deeds;

  constructor({ page, deeds }) {
    this.#page = page;
    this.#deeds = deeds;
    byId("password-form").addEventListener("submit", (event) => this.#onPassword(event));
    byId("password-none").addEventListener("click", () => this.#set(""));
    byId("hand-over").addEventListener("click", () => this.#handOver());
  }

  // Actions

  begin() {
    this.#place.replaceChildren();
    this.#password.value = "";
    for (const format of ["jsonl", "html"]) {
      byId(`export-${format}`).href = pathOf(`/api/rooms/${encodeURIComponent(this.#page.room)}/export?format=${format}`);
    }
  }

  show({ closed, has_password }) {
    byId("password-form").hidden = !closed;
    byId("password-none").hidden = !has_password;
    setText(byId("password-state"), t(has_password ? "password.is_set" : "password.is_none"));
  }

  // Internal

  get #place() {
    return this.#panel.querySelector("[data-link]");
  }

  #onPassword(event) {
    event.preventDefault();
    if (this.#password.value) this.#set(this.#password.value);
    else this.#password.focus();
  }

  async #set(password) {
    const said = t(password ? "password.done" : "password.taken_away");
    if (await this.#deeds.do({ type: "password", password }, { said })) this.#password.value = "";
  }

  #handOver() {
    makeLink({ deeds: this.#deeds, place: this.#place, label: t("hand_over.link"), seconds: LINK_S, uses: 1, role: "owner" });
  }
}
