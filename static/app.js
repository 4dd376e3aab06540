/*
 * Joins the parts of the room's page.
 *
 * Each frame the server sends goes to the parts that care for it (FRAMES), each thing the person does becomes a frame.
 * Holds no state of its own but the wished name and who was told what about it.
 */

import { Announcer } from "./announcer.js";
import { Composer } from "./composer.js";
import { askWhyRefused, Connection } from "./connection.js";
import { byId, setText } from "./dom.js";
import { Naming } from "./naming.js";
import { newClientId, Outbox } from "./outbox.js";
import { Panel } from "./panel.js";
import { CROWD, Roster, Writers } from "./people.js";
import { renamedSentence } from "./rows.js";
import { setUpSharing } from "./sharing.js";
import { Signs } from "./signs.js";
import { keepWishedName, rememberRoom, wishedName } from "./storage.js";
import { Timeline } from "./timeline.js";
import { View } from "./view.js";
import { isolated } from "./words.js";

const GAP_PAGE = 200;
const WRITERS_LOOK_MS = 1000;
const ROSTER_PAUSE_MS = 2000;

const room = document.body.dataset.room;
let wish = wishedName();
let toldName = null;
let rosterTimer = null;

const timeline = new Timeline();
const roster = new Roster();
const writers = new Writers();
const announcer = new Announcer(byId("announcer"));
const naming = new Naming();
const signs = new Signs({ room, announcer, onRetry: () => connection.retryNow() });
const connection = new Connection({ address, onFrame, onState, whyRefused: () => askWhyRefused(room) });
const outbox = new Outbox({ send: (say) => connection.send(say), onFate });
const panel = new Panel(roster, (question) => connection.ask({ type: "people", ...question }));
const composer = new Composer({ onText: say, onTyping: () => connection.tell({ type: "typing" }) });
const view = new View(timeline, { older, fill, retry, discard, unseen: (n) => signs.unseen(n) });

// The line

/** The socket's address: the room, the wished name, and where to resume. */
function address() {
  const url = new URL("/ws", location);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const question = { room, ...(wish && { name: wish }), ...timeline.cursor };
  for (const [key, value] of Object.entries(question)) url.searchParams.set(key, value);
  return url.href;
}

function onState(state) {
  signs.onState(state);
  if (state.phase === "open") return;
  outbox.lineLost();
  timeline.lineLost();
}

// What the server says

const FRAMES = {
  welcome: onWelcome,
  presence: onPresence,
  you: onYou,
  ack: onAck,
  typing: onTyping,
  status: onStatus,
  error: onError,
};

function onFrame(frame) {
  // An event is known by its place in the log, whatever its type: later kinds must not make holes.
  if ("seq" in frame && "at" in frame) onEvent(frame);
  else FRAMES[frame.type]?.(frame);
  view.schedule();
}

function onWelcome(welcome) {
  if (timeline.enter(welcome)) timeline.notice("note", ["The server's log was replaced. What stood here before is gone."]);
  if (!welcome.resumed || welcome.resumed === "reset") view.seen(welcome.head);
  composer.limit = welcome.limits.text;
  signs.storing = true;
  outbox.lineOpened();
  view.lineOpened();
  roster.enter(welcome.present);
  onYou(welcome.you);
  learnRoster();
  panel.reload();
}

function onEvent(event) {
  timeline.merge([event]);
  if (event.type !== "message") return;
  writers.stopped(event.by.id);
  showWriters();
  if (event.seq > timeline.enteredHead && !timeline.isMine(event)) announcer.message(event);
}

function onTyping({ by }) {
  writers.onTyping(by);
  showWriters();
}

function onAck(ack) {
  timeline.onAck(ack);
  outbox.onAck(ack);
}

function onStatus({ storing }) {
  signs.storing = storing;
  if (storing) outbox.storingAgain();
}

function onError(error) {
  if (error.client_id) outbox.onError(error);
  else if (error.code === "bad_name") onBadName(error);
  else signs.note(error.message);
}

// Who is here

function onPresence(presence) {
  const { came, went, renamed } = roster.change(presence);
  const changes = [...came.map(as(true)), ...went.map(as(false))].filter(({ id }) => id !== timeline.you.id);
  if (changes.length) timeline.notice("presence", changes);
  const others = renamed.filter(({ id }) => id !== timeline.you.id);
  if (others.length) timeline.notice("note", others.map(({ before, after }) => renamedSentence(before, after)));
  went.forEach(({ id }) => writers.stopped(id));
  if (!roster.isWhole && !roster.isCrowd) learnRosterSoon();
  panel.refresh();
}

const as = (came) => ({ id, name }) => ({ id, name, came });

async function learnRoster() {
  if (roster.isCrowd) return;
  const answer = await connection.ask({ type: "people", limit: CROWD }).catch(() => null);
  if (answer) roster.replace(answer);
  panel.refresh();
}

function learnRosterSoon() {
  rosterTimer ??= setTimeout(() => {
    rosterTimer = null;
    learnRoster();
  }, ROSTER_PAUSE_MS);
}

function showWriters() {
  signs.writing(writers.names());
}

// My name

function onYou({ id, name }) {
  // Another tab of the same person may have asked for this name.
  wish = wishedName() ?? wish;
  timeline.you = { id, name };
  panel.you = id;
  setText(byId("my-name"), name);
  byId("me").disabled = false;
  tellIfOther(name);
}

/** Says once that the name is not the wished one. */
function tellIfOther(name) {
  const asked = wish?.normalize("NFKC");
  if (asked && asked !== name && toldName !== name) {
    const why = name.startsWith(asked) ? "was taken here" : "cannot be used here";
    signs.note(`${isolated(asked)} ${why}, you are ${isolated(name)}.`);
  }
  toldName = name;
}

function onBadName({ message }) {
  want(timeline.you.name);
  changeName(message);
}

function want(name) {
  wish = name;
  toldName = null;
  keepWishedName(name);
}

async function changeName(problem) {
  const name = await naming.askAnother(timeline.you.name, problem);
  if (name === null) return;
  want(name);
  connection.send({ type: "rename", name });
}

// What I do

function say(text) {
  const client_id = newClientId();
  timeline.say(client_id, text);
  outbox.say(client_id, text);
  view.follow();
}

function onFate(client_id, state, detail) {
  timeline.settle(client_id, state, detail);
  if (state === "failed") announcer.note("A message was not sent.");
  view.schedule();
}

function retry(client_id) {
  const { text } = timeline.find(client_id);
  discard(client_id);
  say(text);
}

function discard(client_id) {
  timeline.discard(client_id);
  outbox.discard(client_id);
  view.schedule();
}

/** Fetches the messages before the oldest held; false if that did not work. */
async function older() {
  const page = await connection.ask({ type: "history", before: timeline.oldest }).catch(sayWhy);
  if (page) timeline.mergeOlder(page);
  return Boolean(page);
}

/** Fetches what follows the near side of a gap, so that one reads on where one stopped. */
async function fill({ after, before }) {
  const limit = Math.min(GAP_PAGE, before - after - 1);
  const page = await connection.ask({ type: "history", after, limit }).catch(sayWhy);
  if (page) timeline.merge(page.events);
}

function sayWhy(error) {
  signs.note(error.message);
}

// Beginning

async function begin() {
  rememberRoom(room);
  if (wish === null) {
    wish = await naming.askNewcomer();
    keepWishedName(wish);
  }
  connection.open();
  composer.focus();
}

setUpSharing(room);
byId("me").addEventListener("click", () => changeName());
setInterval(showWriters, WRITERS_LOOK_MS);
window.addEventListener("online", () => connection.probe());
document.addEventListener("visibilitychange", () => document.hidden || connection.probe());
begin();
