/*
 * One stay in one room: joins the parts that belong to it.
 *
 * Each frame the server sends goes to the parts that care for it (#frames), each thing the person does becomes a frame.
 * Holds no state of its own but what was told about the name and what waits to be kept or asked. Leaving is one signal
 * that ends every part.
 */

import { Announcer } from "./announcer.js";
import { copyText } from "./clipboard.js";
import { Composer } from "./composer.js";
import { askWhyRefused, Connection } from "./connection.js";
import { byId, setText } from "./dom.js";
import { History } from "./history.js";
import { plainOf } from "./markdown.js";
import { Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { CROWD, Roster, Writers } from "./people.js";
import { sharedLinkTo } from "./links.js";
import { Signs } from "./signs.js";
import { draftOf, keepDraft, keepReadMark, onWrittenElsewhere, readMark, rememberRoom } from "./storage.js";
import { Surge } from "./surge.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import { hasPlace } from "./wire.js";
import { sentenceOf, t } from "./words.js";

const WRITERS_LOOK_MS = 1000;
const ROSTER_PAUSE_MS = 2000;
const READ_PAUSE_MS = 1000; // how far was read is kept at most so often
const FOUND_IN_CROWD = 50;
const SPOKE_LATELY = 100; // messages

export class Visit {
  #room;
  #target;
  #naming;
  #leaving = new AbortController();
  #timeline = new Timeline();
  #surge = new Surge();
  #roster = new Roster();
  #writers = new Writers();
  #announcer;
  #signs;
  #connection;
  #outbox;
  #history;
  #composer;
  #panel;
  #view;
  #toldName = null;
  #rosterTimer = null;
  #readTimer = null;
  #unkept = null;
  #frames = {
    __proto__: null, // a frame may be of any type
    welcome: (frame) => this.#onWelcome(frame),
    presence: (frame) => this.#onPresence(frame),
    you: (frame) => this.#onYou(frame),
    ack: (frame) => this.#onAck(frame),
    typing: (frame) => this.#onTyping(frame),
    status: (frame) => this.#onStatus(frame),
    error: (frame) => this.#onError(frame),
  };

  /** Enters `room`; `target` is the seq of a message to go to, or null; `naming` knows the wished name. */
  constructor({ room, target, naming }) {
    this.#room = room;
    this.#target = target;
    this.#naming = naming;
    const { signal } = this.#leaving;
    this.#makeLine(signal);
    this.#makePage(signal);
    this.#listen(signal);
    rememberRoom(room);
    this.#connection.open();
    // Where fingers type, the field would bring up a keyboard over the room.
    if (window.matchMedia("(hover: hover)").matches) this.#composer.focus();
  }

  // Lifecycle

  #makeLine(signal) {
    const room = this.#room;
    this.#announcer = new Announcer(byId("announcer"), { signal });
    this.#signs = new Signs({ room, announcer: this.#announcer, onRetry: () => this.#connection.retryNow(), signal });
    this.#connection = new Connection({
      address: () => this.#address(),
      onFrame: (frame) => this.#onFrame(frame),
      onState: (state) => this.#onState(state),
      whyRefused: () => askWhyRefused(room),
      signal,
    });
    this.#outbox = new Outbox({
      room,
      send: (say) => this.#connection.send(say),
      onChange: () => this.#view?.schedule(),
      onFailed: () => this.#announcer.note(t("message.failed_note")),
      signal,
    });
    this.#history = new History({
      timeline: this.#timeline,
      ask: (question) => this.#connection.ask(question),
      onSource: () => this.#view.schedule(),
      onTrouble: (error) => this.#sayWhy(error),
    });
  }

  #makePage(signal) {
    this.#composer = new Composer({
      draft: draftOf(this.#room),
      onSay: (said) => this.#say(said),
      onTyping: () => this.#connection.tell({ type: "typing" }),
      onDraft: (draft) => keepDraft(this.#room, draft),
      findPeople: (query) => this.#findPeople(query),
      onSource: (seq) => this.goTo(seq),
      signal,
    });
    this.#panel = new Panel({
      roster: this.#roster,
      ask: (question) => this.#connection.ask({ type: "people", ...question }),
      onPick: ({ name }) => this.#composer.insertMention(name),
      signal,
    });
    this.#view = new View({
      timeline: this.#timeline, outbox: this.#outbox, surge: this.#surge, actions: this.#viewActions(), signal,
    });
  }

  #viewActions() {
    return {
      older: (seq) => this.#history.older(seq),
      around: (seq) => this.#history.around(seq),
      fill: (gap) => this.#history.fill(gap),
      source: (seq) => this.#history.source(seq),
      jump: (seq) => this.goTo(seq),
      retry: (client_id) => this.#outbox.retry(client_id),
      discard: (client_id) => this.#outbox.discard(client_id),
      use: (tool, message) => this.#tools[tool](message),
      copy: (text) => this.#copy(text),
      leave: () => this.#composer.focus(),
      unseen: (n) => this.#signs.unseen(n),
      read: (mark) => this.#keepRead(mark),
    };
  }

  #listen(signal) {
    const looking = setInterval(() => this.#showWriters(), WRITERS_LOOK_MS);
    signal.addEventListener("abort", () => { clearInterval(looking); clearTimeout(this.#rosterTimer); });
    signal.addEventListener("abort", () => this.#keepReadNow());
    window.addEventListener("pagehide", () => this.#keepReadNow(), { signal });
    window.addEventListener("online", () => this.#connection.probe(), { signal });
    // A socket does not say that the network is gone: the sooner one asks, the sooner it is known.
    window.addEventListener("offline", () => this.#connection.isOpen && this.#connection.probe(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.#connection.probe(), { signal });
    onWrittenElsewhere((key) => this.#onWrittenElsewhere(key), signal);
  }

  /** Leaves the room: nothing of it is heard or shown any more. */
  leave() {
    this.#leaving.abort();
  }

  // Actions

  /** Goes to the message `seq`; says so if there is none. */
  async goTo(seq) {
    if ((await this.#view.goTo(seq)) === false) this.#note(t("message.not_here"));
  }

  /** Goes to the first message at or after a moment (ms). */
  async goToMoment(at) {
    const seq = await this.#history.since(at);
    if (seq === null) this.#note(t("jump.nothing"));
    else if (seq !== undefined) this.#view.goTo(seq);
  }

  toNewest() {
    this.#view.follow();
  }

  write() {
    this.#composer.focus();
  }

  /** For those who do not see that the page shows another room. */
  announceRoom() {
    this.#announcer.note(t("announce.room", { room: this.#room }));
  }

  togglePeople() {
    this.#panel.toggle();
  }

  async changeName(problem) {
    const name = await this.#naming.askAnother(this.#timeline.you.name, problem);
    if (name === null) return;
    this.#want(name);
    this.#connection.send({ type: "rename", name });
  }

  // The line

  /** The socket's address: the room, the wished name, and where to resume. */
  #address() {
    const url = new URL("/ws", location);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const { wish } = this.#naming;
    const question = { room: this.#room, ...(wish && { name: wish }), ...this.#timeline.cursor };
    for (const [key, value] of Object.entries(question)) url.searchParams.set(key, value);
    return url.href;
  }

  #onState(state) {
    this.#signs.onState(state);
    if (state.phase !== "open") this.#outbox.lineLost();
  }

  // What the server says

  #onFrame(frame) {
    if (hasPlace(frame)) this.#onEvent(frame);
    else this.#frames[frame.type]?.(frame);
    this.#view.schedule();
  }

  #onWelcome(welcome) {
    const isReplaced = this.#timeline.enter(welcome);
    if (isReplaced) this.#timeline.notice("note", [t("log.replaced")]);
    if (!welcome.resumed || welcome.resumed === "reset") this.#begin(welcome, isReplaced);
    this.#composer.limit = welcome.limits.text;
    this.#signs.storing = true;
    this.#history.lineOpened();
    this.#outbox.lineOpened();
    this.#view.lineOpened();
    this.#roster.enter(welcome.present);
    this.#onYou(welcome.you);
    this.#learnRoster();
    this.#panel.reload();
  }

  #begin({ head }, isReplaced) {
    this.#surge.clear();
    this.#view.enter(head, isReplaced ? null : readMark(this.#room));
    if (this.#target === null) return;
    this.goTo(this.#target);
    this.#target = null;
  }

  #onEvent(event) {
    if (this.#timeline.isMine(event)) event.client_id = this.#outbox.claim(event);
    this.#timeline.merge([event]);
    // By this page's own clock: the server's may be set back, and then stands still.
    if (this.#timeline.isLive(event)) this.#surge.heard({ seq: event.seq, at: performance.now() });
    if (event.type !== "message") return;
    if (this.#writers.stopped(event.by.id)) this.#showWriters();
    const isNews = event.seq > this.#timeline.enteredHead && !this.#timeline.isMine(event);
    if (isNews) this.#announce(event);
  }

  // Whether a reply is for me is known once its source is; in a surge that would ask too much.
  #announce(event) {
    const say = () => this.#announcer.message(event, event.isForMe);
    const isKnown = !event.reply_to || this.#timeline.source(event.reply_to) !== undefined;
    if (isKnown || this.#surge.isOn) say();
    else this.#history.source(event.reply_to).then(say);
  }

  #onTyping({ by }) {
    this.#writers.onTyping(by);
    this.#showWriters();
  }

  #onAck(ack) {
    this.#outbox.onAck(ack, this.#timeline.newest);
  }

  #onStatus({ storing }) {
    this.#signs.storing = storing;
    if (storing) this.#outbox.storingAgain();
  }

  #onError(error) {
    if (error.client_id) this.#outbox.onError(error);
    else if (error.code === "bad_name") this.#onBadName(error);
    else this.#signs.note(sentenceOf(error));
  }

  // What another tab did

  #onWrittenElsewhere(key) {
    if (key === `draft:${this.#room}`) this.#composer.takeDraft(draftOf(this.#room));
    else if (key === `read:${this.#room}`) this.#view.readElsewhere(readMark(this.#room));
    else if (key === "name") this.#onNamedElsewhere();
    else if (key.startsWith("say:")) this.#outbox.onWrittenElsewhere(key.slice("say:".length));
  }

  // At once, and then for a while only in mind: in a busy room it changes with every frame.
  #keepRead(mark) {
    this.#unkept = mark;
    if (this.#readTimer !== null) return;
    this.#keepReadNow();
    this.#readTimer = setTimeout(() => this.#keepReadNow(), READ_PAUSE_MS);
  }

  #keepReadNow() {
    clearTimeout(this.#readTimer);
    this.#readTimer = null;
    const kept = readMark(this.#room);
    const isFurther = kept && kept.seq <= this.#timeline.head && kept.seq >= this.#unkept?.seq;
    if (this.#unkept && !isFurther) keepReadMark(this.#room, this.#unkept);
    this.#unkept = null;
  }

  // Who is here

  #onPresence(presence) {
    const { came, went, renamed } = this.#roster.change(presence);
    const isOther = ({ id }) => id !== this.#timeline.you.id;
    const changes = [...came.map(as(true)), ...went.map(as(false))].filter(isOther);
    if (changes.length) this.#timeline.notice("presence", changes);
    const others = renamed.filter(isOther);
    if (others.length) this.#timeline.notice("note", others.map((change) => t("notice.renamed", change)));
    went.forEach(({ id }) => this.#writers.stopped(id));
    if (!this.#roster.isWhole && !this.#roster.isCrowd) this.#learnRosterSoon();
    this.#panel.refresh();
  }

  async #learnRoster() {
    if (this.#roster.isCrowd) return;
    const answer = await this.#connection.ask({ type: "people", limit: CROWD }).catch(() => null);
    if (this.#leaving.signal.aborted) return;
    if (answer) this.#roster.replace(answer);
    this.#panel.refresh();
  }

  #learnRosterSoon() {
    this.#rosterTimer ??= setTimeout(() => {
      this.#rosterTimer = null;
      this.#learnRoster();
    }, ROSTER_PAUSE_MS);
  }

  #showWriters() {
    this.#signs.writing(this.#writers.names());
  }

  /** People that `@` may be completed to: who spoke lately, and who is here. */
  async #findPeople(query) {
    const spoke = this.#timeline.events.slice(-SPOKE_LATELY).map(({ by }) => by);
    const here = this.#roster.isCrowd ? await this.#findInCrowd(query) : this.#roster.people;
    return [...spoke, ...here].filter((person) => person && person.id !== this.#timeline.you.id);
  }

  async #findInCrowd(query) {
    const question = { type: "people", query, limit: FOUND_IN_CROWD };
    const answer = await this.#connection.ask(question).catch(() => ({ people: [] }));
    return answer.people;
  }

  // My name

  #onYou({ id, name }) {
    this.#timeline.you = { id, name };
    this.#panel.you = id;
    setText(byId("my-name"), name);
    byId("me").disabled = false;
    this.#tellIfOther(name);
  }

  /** Says once that the name is not the wished one. */
  #tellIfOther(name) {
    const wish = this.#naming.wish?.normalize("NFKC");
    if (wish && wish !== name && this.#toldName !== name) {
      this.#signs.note(t(name.startsWith(wish) ? "naming.taken" : "naming.unfit", { wish, name }));
    }
    this.#toldName = name;
  }

  /** A tab in another room asked for another name: it is mine here, too. */
  #onNamedElsewhere() {
    const { wish } = this.#naming;
    if (wish && wish !== this.#timeline.you.name) this.#connection.send({ type: "rename", name: wish });
  }

  #onBadName(error) {
    this.#want(this.#timeline.you.name);
    this.changeName(sentenceOf(error));
  }

  #want(name) {
    this.#naming.wish = name;
    this.#toldName = null;
  }

  // What I say and do with what others say

  #say({ text, reply_to }) {
    this.#outbox.say(text, reply_to);
    this.#view.said();
  }

  #tools = {
    reply: ({ seq, by, text }) => this.#composer.replyTo({ seq, by, text: plainOf(text) }),
    copy: ({ text }) => this.#copy(text),
    link: ({ seq }) => this.#copyLink(seq),
  };

  async #copy(text) {
    const isCopied = await copyText(text);
    this.#signs.note(t(isCopied ? "message.copied" : "message.copy_failed"));
  }

  async #copyLink(seq) {
    const isCopied = await copyText(sharedLinkTo(this.#room, seq));
    if (!isCopied) history.replaceState(history.state, "", `#${seq}`);
    this.#signs.note(t(isCopied ? "message.copied" : "message.copy_by_hand"));
  }

  // That the line is gone is the banner's to say, and only after a while.
  #sayWhy(error) {
    if (error.code !== "no_line") this.#note(error.message);
  }

  #note(sentence) {
    if (!this.#leaving.signal.aborted) this.#signs.note(sentence);
  }
}

const as = (came) => ({ id, name }) => ({ id, name, came });
