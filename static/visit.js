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
import { Deletion } from "./deletion.js";
import { byId, setText } from "./dom.js";
import { History } from "./history.js";
import { plainOf } from "./markdown.js";
import { Order } from "./order.js";
import { Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { CROWD, Roster, Writers } from "./people.js";
import { Pinned } from "./pinned.js";
import { doorOf, pathOf, sharedLinkTo } from "./links.js";
import { shownName } from "./roomname.js";
import { Cheers, Reactions } from "./reactions.js";
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
const REMOVALS = new Set(["delete", "purge", "trim"]);

export class Visit {
  #room;
  #target;
  #naming;
  #leaving = new AbortController();
  #timeline = new Timeline();
  #surge = new Surge();
  #roster = new Roster();
  #writers = new Writers();
  #order = new Order({ signal: this.#leaving.signal });
  #announcer;
  #signs;
  #connection;
  #outbox;
  #history;
  #reactions;
  #cheers;
  #deletion;
  #composer;
  #panel;
  #pinned;
  #view;
  #isOut = false;
  #toldName = null;
  #rosterTimer = null;
  #readTimer = null;
  #unkept = null;
  #held = 0;
  keeper = null; // who shows moderators people and what waits, once a moderator is here: static/moderation.js
  #frames = {
    __proto__: null, // a frame may be of any type
    welcome: (frame) => this.#onWelcome(frame),
    presence: (frame) => this.#onPresence(frame),
    you: (frame) => this.#onYou(frame),
    ack: (frame) => this.#onAck(frame),
    typing: (frame) => this.#onTyping(frame),
    status: (frame) => this.#onStatus(frame),
    error: (frame) => this.#onError(frame),
    waiting: (frame) => this.#onWaiting(frame),
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
    this.#order.onChange(() => this.#onOrder());
    rememberRoom(room);
    this.#connection.open();
    // Where fingers type, the field would bring up a keyboard over the room.
    if (window.matchMedia("(hover: hover)").matches) this.#composer.focus();
  }

  // Lifecycle

  #makeLine(signal) {
    const room = this.#room;
    this.#announcer = new Announcer(byId("announcer"), { signal });
    this.#signs = new Signs({ room, announcer: this.#announcer, onRetry: () => this.#connection.insist(), signal });
    this.#connection = new Connection({
      address: () => this.#address(),
      onFrame: (frame) => this.#onFrame(frame),
      onState: (state) => this.#onState(state),
      whyRefused: () => askWhyRefused(room),
      now: () => this.#order.now(),
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
      onChange: () => this.#view.schedule(),
      onTrouble: (error) => this.#sayWhy(error),
    });
    this.#reactions = new Reactions({
      you: () => this.#timeline.you,
      send: (frame) => this.act(frame),
      onChange: () => this.#view.schedule(),
    });
    this.#cheers = new Cheers({ say: (sentence) => this.#announcer.note(sentence), signal });
    this.#deletion = new Deletion({
      send: (seq) => this.#do({ type: "delete", message: seq }),
      onChange: () => this.#view.schedule(),
      signal,
    });
  }

  #makePage(signal) {
    this.#composer = new Composer({
      draft: draftOf(this.#room),
      onSay: (said) => this.#say(said),
      onEdit: ({ seq, text }) => this.act({ type: "edit", message: seq, text }),
      onEditNewest: () => this.#editNewest(),
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
      onChoose: (person, choice) => this.keeper?.choose(person, choice) ?? false,
      roleOf: (id) => this.#order.roleOf(id),
      signal,
    });
    this.#pinned = new Pinned({
      room: this.#room, announcer: this.#announcer, onCopy: (text) => this.#copy(text), signal,
    });
    this.#view = new View({
      timeline: this.#timeline, outbox: this.#outbox, surge: this.#surge, order: this.#order, reactions: this.#reactions,
      actions: this.#viewActions(), signal,
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
      react: (message, kind) => this.#reactions.toggle(message, kind).catch((error) => this.#note(error.message)),
      isLeaving: (seq) => this.#deletion.isLeaving(seq),
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
    this.#deletion.settle();
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
    this.#announcer.note(t("announce.room", { room: shownName(this.#room) }));
  }

  togglePeople() {
    this.#panel.toggle();
  }

  /** The room's order, as far as this page was told. */
  get order() {
    return this.#order;
  }

  /** Does what a frame asks: promises the `done` (or `invite`) that answers it; the error's `message` says why not. */
  act(frame) {
    return this.#connection.ask(frame);
  }

  /** Promises the answer to a moderators' question. */
  ask(question) {
    return this.#connection.ask(question);
  }

  /** How many messages wait for review. */
  get held() {
    return this.#held;
  }

  /** Keeps the log still, or lets it go on; `isMoved`: the reader moved it meanwhile. */
  hold(isHeld, isMoved) {
    this.#view.hold(isHeld, isMoved);
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
    const url = new URL(pathOf("/ws"), location);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const { wish } = this.#naming;
    const question = { room: this.#room, ...(wish && { name: wish }), ...this.#timeline.cursor };
    for (const [key, value] of Object.entries(question)) url.searchParams.set(key, value);
    return url.href;
  }

  #onState(state) {
    this.#signs.onState(state);
    if (state.phase !== "open") this.#outbox.lineLost();
    this.#isOut = state.phase === "out";
    this.#showSilence();
    // The way back leads past this room, which does not open.
    if (state.why === "closed") location.replace(doorOf(this.#room));
  }

  // What the server says

  #onFrame(frame) {
    if (hasPlace(frame)) this.#onEvent(frame);
    else this.#frames[frame.type]?.(frame);
    this.#view.schedule();
  }

  #onWelcome(welcome) {
    if (welcome.resumed === "gap") this.#history.distrustHeld();
    const isReplaced = this.#timeline.enter(welcome);
    if (isReplaced) this.#timeline.notice("note", [t("log.replaced")]);
    if (!welcome.resumed || welcome.resumed === "reset") this.#begin(welcome, isReplaced);
    this.#order.enter(welcome);
    this.#onWaiting({ held: 0 }); // if any do, that is told next
    this.#composer.limit = welcome.limits.text;
    this.#signs.storing = true;
    this.#history.lineOpened();
    this.#outbox.lineOpened();
    this.#view.lineOpened();
    this.#roster.enter(welcome.present);
    this.#showMe(welcome.you);
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
    this.#order.onEvent(event);
    const isMessage = event.type === "message";
    if (isMessage && this.#timeline.isMine(event)) event.client_id = this.#outbox.claim(event);
    if (event.type === "reactions") this.#cheers.onReactions(event, this.#timeline);
    this.#timeline.merge([event]);
    // By this page's own clock: the server's may be set back, and then stands still.
    if (this.#timeline.isLive(event) && isMessage) this.#surge.heard({ seq: event.seq, at: performance.now() });
    else if (this.#timeline.isLive(event)) this.#surge.passed(event.seq);
    this.keeper?.onEvent(event);
    if (REMOVALS.has(event.type)) this.#onRemoved();
    if (!isMessage) return;
    if (this.#writers.stopped(event.by.id)) this.#showWriters();
    const isNews = event.seq > this.#timeline.enteredHead && !this.#timeline.isMine(event);
    if (isNews) this.#announce(event);
  }

  #onRemoved() {
    if (this.#composer.forget((seq) => this.#timeline.isGone(seq))) this.#note(t("message.gone"));
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

  #onStatus({ storing, epoch }) {
    this.#timeline.goOnIn(epoch);
    this.#signs.storing = storing;
    if (storing) this.#outbox.tryHeld("not_stored");
  }

  #onError(error) {
    if (error.client_id) this.#onSayRefused(error);
    else if (error.code === "bad_name") this.#onBadName(error);
    else this.#signs.note(sentenceOf(error));
  }

  #onSayRefused(error) {
    this.#outbox.onError(error);
    this.#order.onError(error);
    if (error.code === "held") this.#announcer.note(t("message.review"));
  }

  // The room's order

  #onOrder() {
    const { rules, slowUntil } = this.#order;
    this.#showSilence();
    this.#composer.waitsUntil = slowUntil && slowUntil - this.#order.now() + Date.now();
    if (!slowUntil) this.#outbox.tryHeld("slow_mode");
    this.#signs.order(this.#order);
    this.#pinned.show(rules.announcement);
    this.#panel.refresh();
    this.#view.schedule();
  }

  #showSilence() {
    this.#composer.silence = this.#isOut ? { code: "out" } : this.#order.silence;
  }

  #onWaiting({ held }) {
    if (held > this.#held) this.#announcer.note(t("order.menu_held", { n: held }));
    this.#held = held;
    this.keeper?.onWaiting(held);
  }

  // What another tab did

  #onWrittenElsewhere(key) {
    if (key === `draft:${this.#room}`) this.#composer.takeDraft(draftOf(this.#room));
    else if (key === `read:${this.#room}`) this.#view.readElsewhere(readMark(this.#room));
    else if (key === `pinned:${this.#room}`) this.#pinned.refresh();
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

  #onYou(you) {
    this.#order.onYou(you);
    this.#showMe(you);
  }

  #showMe(you) {
    const { id, name } = you;
    this.#timeline.you = you;
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
    edit: ({ seq, text }) => this.#composer.edit({ seq, text }),
    delete: (message) => this.#delete(message),
    person: ({ by }) => this.keeper?.card(by),
  };

  // Asked once more, one's own message stays.
  #delete(message) {
    const { seq } = message;
    if (this.#deletion.isLeaving(seq)) this.#keepAfterAll(seq);
    else if (this.#timeline.isMine(message)) this.#deletion.ask(seq);
    else this.#do({ type: "delete", message: seq });
    if (this.#deletion.pending === seq) this.#announcer.note(t("message.deleted_note"));
  }

  #keepAfterAll(seq) {
    if (this.#deletion.pending !== seq) return;
    this.#deletion.undo();
    this.#announcer.note(t("message.kept"));
  }

  // What fails is said: nothing of it goes out later by itself. Resolves to whether it was done.
  #do(act) {
    return this.act(act).then(() => true, (error) => this.#note(error.message));
  }

  #editNewest() {
    const newest = this.#timeline.events.findLast((event) => event.type === "message" && this.#timeline.isMine(event));
    const mayEdit = newest !== undefined && this.#order.mayEdit(newest);
    if (mayEdit) this.#composer.edit(newest);
    return mayEdit;
  }

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
