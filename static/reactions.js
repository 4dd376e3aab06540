/*
 * What people answer to a message with one sign.
 *
 * Owns which signs there are, which of them are mine, and what I asked for that has yet to come as an event: it is shown
 * at once. Owns what I am told about reactions to messages of mine. Knows no DOM and no connection.
 */

import { listed, t } from "./words.js";

export const KINDS = ["👍", "❤️", "😂", "🎉", "😮", "😢", "👀", "✅"];

const NONE = [];
const MAX_NAMES = 5; // of those who reacted, in one sentence
const MAX_REMEMBERED = 1000;
const PAUSE_MS = 3000;

export class Reactions {
  #wishes = new Map(); // message → kind → {on, upTo}: asked for, and told of by an event up to that seq
  #remembered = new Map(); // of whom so many reacted that not all are named, whether I did
  #drawn = new WeakMap();
  #you;
  #send;
  #onChange;

  /** `you()` is who I am; `send(frame)` promises the `done` that answers it; `onChange()` hears that something looks different. */
  constructor({ you, send, onChange }) {
    this.#you = you;
    this.#send = send;
    this.#onChange = onChange;
  }

  // Reading

  /** The reactions to a message as they are to be shown: `{kind, n, isMine, who}`, `who` being a sentence. */
  to(message) {
    const told = message.reactions ?? NONE;
    const wishes = this.#wishesFor(message);
    if (wishes) return this.#shown(message, told, wishes);
    if (told.length === 0) return NONE;
    // A list never changes: another one takes its place.
    if (!this.#drawn.has(told)) this.#drawn.set(told, this.#shown(message, told, new Map()));
    return this.#drawn.get(told);
  }

  // Actions

  /** Reacts to a message, or takes that back. */
  async toggle(message, kind) {
    const on = !this.to(message).find((reaction) => reaction.kind === kind)?.isMine;
    const wish = { on, upTo: Infinity };
    this.#wishes.set(message.seq, new Map(this.#wishes.get(message.seq)).set(kind, wish));
    this.#onChange();
    try {
      const { seq } = await this.#send({ type: "react", message: message.seq, kind, on });
      wish.upTo = seq ?? 0;
      this.#remember(message, kind, on);
    } finally {
      if (wish.upTo === Infinity) wish.upTo = 0; // refused
      this.#onChange();
    }
  }

  // Internal

  #wishesFor({ seq, asOf }) {
    const wishes = this.#wishes.get(seq);
    if (!wishes) return null;
    for (const [kind, { upTo }] of wishes) if (upTo <= asOf) wishes.delete(kind);
    if (wishes.size === 0) this.#wishes.delete(seq);
    return wishes.size ? wishes : null;
  }

  #shown(message, told, wishes) {
    const kinds = new Set([...told.map(({ kind }) => kind), ...wishes.keys()]);
    const shown = Array.from(kinds, (kind) => {
      const reaction = told.find((each) => each.kind === kind) ?? { kind, n: 0, by: NONE };
      return this.#asWished(reaction, this.#isMine(message, reaction), wishes.get(kind)?.on);
    });
    return shown.filter(({ n }) => n > 0);
  }

  #asWished({ kind, n: told, by }, isToldMine, isWished = isToldMine) {
    const n = told + Number(isWished) - Number(isToldMine);
    const others = by.filter(({ id }) => id !== this.#you().id).map(({ name }) => name);
    return { kind, n, isMine: isWished, who: t("reaction.who", { kind, n, people: people(others, n, isWished) }) };
  }

  #isMine(message, { kind, n, by }) {
    if (by.some(({ id }) => id === this.#you().id)) return true;
    return n > by.length && this.#remembered.get(`${message.seq} ${kind}`) === true;
  }

  #remember(message, kind, on) {
    this.#remembered.set(`${message.seq} ${kind}`, on);
    if (this.#remembered.size > MAX_REMEMBERED) this.#remembered.delete(this.#remembered.keys().next().value);
    this.#drawn = new WeakMap();
  }
}

/** "Ann, Bo and you"; whoever is not named is counted. */
function people(names, n, isMine) {
  const you = isMine ? [t("people.you")] : NONE;
  const known = n > MAX_NAMES ? [...you, ...names] : [...names, ...you];
  return listedOf(known, n);
}

function listedOf(known, n) {
  const unknown = Math.max(0, n - known.length);
  return listed([...known, ...Array(unknown).fill("")], Math.min(MAX_NAMES, known.length + Number(unknown > 0)));
}

/** Tells me once of each reaction to a message of mine, some seconds' worth in one sentence. */
export class Cheers {
  #say;
  #names = new Map();
  #unnamed = 0;
  #kinds = new Map();
  #messages = new Set();
  #told = new Set();
  #timer = null;

  constructor({ say, signal }) {
    this.#say = say;
    signal?.addEventListener("abort", () => clearTimeout(this.#timer));
  }

  /** Takes an event `reactions` while `timeline` still has what was before it. */
  onReactions({ seq, changes }, timeline) {
    for (const { message, reactions } of changes) {
      const mine = timeline.at(message);
      if (!mine || !timeline.isMine(mine) || seq <= mine.asOf) continue;
      for (const reaction of reactions) this.#add(mine, reaction, timeline.you.id);
    }
  }

  // Internal

  #add(message, { kind, n, by }, myId) {
    const before = message.reactions?.find((each) => each.kind === kind) ?? { n: 0, by: NONE };
    const added = by.filter(({ id }) => !before.by.some((other) => other.id === id));
    const unnamed = Math.max(0, n - before.n - added.length);
    const news = added.filter(({ id }) => id !== myId && this.#isFirst(`${message.seq} ${kind} ${id}`));
    if (n <= before.n || news.length + unnamed === 0) return;
    for (const { id, name } of news) this.#names.set(id, name);
    this.#unnamed += unnamed;
    this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + news.length + unnamed);
    this.#messages.add(message.seq);
    this.#timer ??= setTimeout(() => this.#tell(), PAUSE_MS);
  }

  // Whoever reacts, takes it back and reacts again is heard once.
  #isFirst(key) {
    if (this.#told.has(key)) return false;
    this.#told.add(key);
    if (this.#told.size > MAX_REMEMBERED) this.#told.delete(this.#told.values().next().value);
    return true;
  }

  #tell() {
    const names = [...this.#names.values()];
    const kinds = Array.from(this.#kinds, ([kind, n]) => (n > 1 ? `${kind} ${n}` : kind)).join(" ");
    const who = listedOf(names, names.length + this.#unnamed);
    this.#say(t("reaction.to_me", { n: this.#messages.size, people: who, kinds }));
    for (const known of [this.#names, this.#kinds, this.#messages]) known.clear();
    this.#unnamed = 0;
    this.#timer = null;
  }
}
