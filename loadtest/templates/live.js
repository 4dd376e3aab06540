/*
 * The live page: asks each second what is new, replaces what has changed, and draws the charts again.
 *
 * Only seconds that the page does not have yet are sent: the process that answers is the one that measures.
 */

const EACH_MS = 1000;
let run = null;
let seconds = [];

function replaceChanged(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  for (const id of ["head", "tables"]) {
    const [old, changed] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old.isEqualNode(changed)) old.replaceWith(changed);
  }
}

function show(news) {
  if (news.run === null) return;
  if (news.run !== run) [run, seconds] = [news.run, []];
  seconds.push(...news.seconds);
  document.getElementById("charts").hidden = false;
  document.title = news.title;
  replaceChanged(news.html);
  drawPage({...news.drawn, seconds});
}

async function ask() {
  try {
    const known = run === null ? "" : `?run=${encodeURIComponent(run)}&after=${seconds.length}`;
    const answer = await fetch(`fanout.json${known}`);
    if (answer.ok) show(await answer.json());
  } catch {
    document.title = "Fan-out · the load generator is gone";
  }
  setTimeout(ask, EACH_MS);
}

ask();
