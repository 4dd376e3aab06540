/*
 * The two charts of a run, drawn as SVG as wide as the place they stand in.
 *
 * drawCurves: percentile curves over 1/(1-p) on a logarithmic axis, so that 99 % and 99.99 % have as much room as 90 %.
 * drawTimeLine: one panel for each thing that was measured each second, all over the same axis of time.
 * Both say under the pointer, or with the arrow keys, what they show there; colours come from the style sheet.
 */

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 52;
const RIGHT = 10;
const number = new Intl.NumberFormat("en", {maximumSignificantDigits: 3});
const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0});

function add(parent, tag, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  parent.append(node);
  return node;
}

function milliseconds(ms) {
  if (ms == null) return "–";
  if (ms >= 10000) return `${number.format(ms / 1000)} s`;
  return `${ms >= 1000 ? whole.format(ms) : number.format(ms)} ms`;
}

// Scales

function linear(low, high, from, to) {
  return value => from + (value - low) / (high - low || 1) * (to - from);
}

function logarithmic(low, high, from, to) {
  const scale = linear(Math.log10(low), Math.log10(high), from, to);
  return value => scale(Math.log10(Math.max(value, low)));
}

function roundStep(span, count) {
  const step = 10 ** Math.floor(Math.log10(span / count));
  return [1, 2, 5, 10].map(factor => factor * step).find(step => Math.floor(span / step) <= count);
}

/* A scale for values of 0 and more, with its marks: logarithmic where the most is far above what is usual. */
function upright(values, usual, bottom, top, count) {
  const most = Math.max(...values, 0) || 1;
  const least = Math.min(...values.filter(value => value > 0));
  if (usual > 0 && most / usual > 40) {
    const decade = 10 ** Math.floor(Math.log10(least));
    const low = [5, 2, 1].map(factor => factor * decade).find(start => start <= least);
    const high = most * 1.15;
    const marks = [];
    for (let mark = decade; mark <= high; mark *= 10) if (mark >= low) marks.push(mark);
    while (marks.length > count + 1) marks.splice(0, marks.length, ...marks.filter((_, n) => n % 2 === 0));
    return {at: logarithmic(low, high, bottom, top), marks, isLogarithmic: true};
  }
  const step = roundStep(most * 1.05, count);
  const marks = [];
  for (let n = 0; n * step <= most * 1.05; n++) marks.push(n * step);
  return {at: linear(0, most * 1.05, bottom, top), marks, isLogarithmic: false};
}

// Frame

/* Empty the place and return an SVG of its width; what it shows is read out in the line above it. */
function canvas(place, height, label) {
  const width = Math.max(place.clientWidth, 280);
  const svg = document.createElementNS(SVG, "svg");
  const attributes = {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, tabindex: 0};
  for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
  place.replaceChildren(svg);
  return {svg, width, right: width - RIGHT};
}

function drawMarks(group, scale, right, format) {
  for (const mark of scale.marks) {
    const y = scale.at(mark);
    add(group, "line", {class: "grid", x1: LEFT, x2: right, y1: y, y2: y});
    add(group, "text", {class: "tick", x: LEFT - 7, y: y + 4, "text-anchor": "end"}, format(mark));
  }
}

/* Names of lines, side by side from x on; each has a piece of its line before it. */
function drawLegend(group, lines, x, y, right) {
  for (const {name, series} of lines) {
    const entry = add(group, "g");
    add(entry, "line", {class: `line series-${series}`, x1: x, x2: x + 14, y1: y - 4, y2: y - 4});
    const text = add(entry, "text", {class: "legend", x: x + 19, y}, name);
    const end = x + 19 + text.getComputedTextLength();
    if (end > right && x > LEFT) {
      entry.remove();
      y = drawLegend(group, lines.slice(lines.findIndex(line => line.name === name)), LEFT, y + 17, right);
      return y;
    }
    x = end + 16;
  }
  return y;
}

/*
 * Call `show(index)` with the one of `spots` (x, in pixels) nearest to the pointer, or moved to by the arrow keys, and
 * `show(null)` after. A chart that is drawn again under the pointer goes on showing what is there.
 */
function onPointing(place, svg, spots, show) {
  const move = index => {
    place.pointed = index === null ? null : spots[index];
    show(index);
  };
  const nearest = x => spots.reduce((best, spot, n) => Math.abs(spot - x) < Math.abs(spots[best] - x) ? n : best, 0);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    move(nearest((event.clientX - box.left) * svg.viewBox.baseVal.width / box.width));
  });
  svg.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step) return;
    event.preventDefault();
    const index = place.pointed == null ? 0 : nearest(place.pointed) + step;
    move(Math.min(Math.max(index, 0), spots.length - 1));
  });
  for (const end of ["pointerleave", "blur"]) svg.addEventListener(end, () => move(null));
  if (place.pointed != null) move(nearest(place.pointed));
}

function readOutOf(place) {
  const line = place.parentElement.querySelector(".read-out");
  line.dataset.hint ??= line.textContent;
  return text => {
    line.textContent = text ?? line.dataset.hint;
    line.classList.toggle("pointed", text !== null);
  };
}

// Percentile curves

const PERCENTILES = [50, 90, 99, 99.9, 99.99, 99.999, 99.9999, 99.99999];

function valueAt(curve, x) {
  if (curve.never_from && x > curve.never_from) return Infinity;
  return curve.steps.find(step => step[0] >= x)?.[1] ?? null;
}

const spoken = ms => ms === Infinity ? "never" : milliseconds(ms);

function percent(x) {
  const behind = Math.max(0, Math.ceil(Math.log10(x) - 1.3));
  return `${(100 - 100 / x).toFixed(Math.min(behind, 6))} %`;
}

function curvesLabel(curves) {
  const said = curves.filter(curve => !curve.is_thin).map(curve => {
    const values = [[2, "50 %"], [100, "99 %"]].map(([x, name]) => `${name} within ${spoken(valueAt(curve, x))}`);
    return `${curve.name}: ${values.join(", ")}`;
  });
  return `Percentile curve. ${said.join("; ")}`;
}

function drawCurves(place, curves, goals = []) {
  const drawn = curves.filter(curve => curve.steps.length);
  if (!drawn.length) {
    place.replaceChildren(curves.some(curve => curve.never) ? "Nothing ever came." : "Nothing was timed.");
    return;
  }
  const height = place.clientWidth < 560 ? 300 : 380;
  const {svg, width, right} = canvas(place, height, curvesLabel(drawn));
  const named = drawn.filter(curve => !curve.is_thin);
  const legend = named.map(({name, series}) => ({name, series}));
  const top = drawLegend(svg, legend, LEFT, 14, right) + 14;
  const bottom = height - 40;
  const last = Math.max(...drawn.map(curve => curve.never_from ? curve.never_from * 10 : curve.steps.at(-1)[0]), 10);
  const xOf = logarithmic(1, last, LEFT, right);
  const most = Math.max(...drawn.map(curve => curve.steps.at(-1)[1]));
  const near = goals.filter(goal => goal.ms <= most * 2.5 && goal.x <= last);
  const values = [...drawn.flatMap(curve => curve.steps.map(step => step[1])), ...near.map(goal => goal.ms)];
  const scale = upright(values, valueAt(named[0], 2), bottom, top, 6);
  const axis = add(svg, "g");
  drawMarks(axis, scale, right, mark => number.format(mark));
  add(axis, "text", {class: "tick", x: LEFT - 7, y: top - 8, "text-anchor": "end"}, "ms");
  drawPercentAxis(axis, xOf, last, top, bottom, right);
  for (const curve of drawn) drawCurve(svg, curve, xOf, scale.at);
  const isOverlay = "overlay" in place.dataset;
  for (const curve of named) if (curve.never_from) drawNever(svg, curve, xOf, scale.at, top, bottom, right, isOverlay);
  for (const goal of near) drawGoal(svg, goal, xOf, scale.at, right);
  const guide = add(svg, "line", {class: "guide", y1: top, y2: bottom, visibility: "hidden"});
  const say = readOutOf(place);
  const spots = [];
  for (let x = LEFT; x <= right; x += 2) spots.push(x);
  onPointing(place, svg, spots, index => {
    guide.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return say(null);
    const x = 10 ** ((spots[index] - LEFT) / (right - LEFT) * Math.log10(last));
    guide.setAttribute("x1", spots[index]);
    guide.setAttribute("x2", spots[index]);
    const said = named.map(curve => [curve.name, valueAt(curve, x)]).filter(([, ms]) => ms !== null);
    const left = whole.format(x);
    say(`${percent(x)} (all but one in ${left}): ${said.map(([name, ms]) => `${name} ${spoken(ms)}`).join(" · ")}`);
  });
}

function drawPercentAxis(group, xOf, last, top, bottom, right) {
  let free = LEFT - 20;
  for (const share of PERCENTILES) {
    const x = xOf(100 / (100 - share));
    if (100 / (100 - share) > last * 1.001) break;
    add(group, "line", {class: "grid", x1: x, x2: x, y1: top, y2: bottom});
    const text = add(group, "text", {class: "tick", x, y: bottom + 18, "text-anchor": "middle"}, `${share} %`);
    const half = text.getComputedTextLength() / 2;
    if (x + half > right) text.setAttribute("x", right - half);
    if (x - half < free) text.remove(); else free = x + half + 4;
  }
  const at = {class: "tick", x: (LEFT + right) / 2, y: bottom + 35, "text-anchor": "middle"};
  const title = add(group, "text", at, "share of deliveries within this time, the rarest to the right");
  if (title.getComputedTextLength() > right - LEFT) title.textContent = "share of deliveries within this time";
}

function drawCurve(svg, curve, xOf, yOf) {
  const path = curve.steps.map(([x, ms]) => `V${yOf(ms).toFixed(1)}H${xOf(x).toFixed(1)}`).join("");
  const start = `M${LEFT} ${yOf(curve.steps[0][1]).toFixed(1)}`;
  add(svg, "path", {class: `line series-${curve.series}${curve.is_thin ? " thin" : ""}`, d: start + path});
}

/* Where a curve ends because the rest never came; in an overlay the room beyond belongs to the others, too. */
function drawNever(svg, curve, xOf, yOf, top, bottom, right, isOverlay) {
  const x = xOf(curve.never_from);
  if (!isOverlay) add(svg, "rect", {class: "never", x, y: top, width: right - x, height: bottom - top});
  add(svg, "line", {class: "line bad", x1: x, x2: x, y1: yOf(curve.steps.at(-1)[1]), y2: top});
  const who = isOverlay ? `${curve.name}: ` : "";
  const said = `${who}${whole.format(curve.never)} of ${whole.format(curve.total)} never came`;
  const isLeft = x > (LEFT + right) / 2;
  const at = {class: "legend bad", x: x + (isLeft ? -6 : 6), y: top + 14, "text-anchor": isLeft ? "end" : "start"};
  const text = add(svg, "text", at, said);
  if (isLeft && text.getComputedTextLength() > x - LEFT) {
    text.setAttribute("x", LEFT + 4);
    text.setAttribute("text-anchor", "start");
  }
}

function drawGoal(svg, goal, xOf, yOf, right) {
  const [x, y] = [xOf(goal.x), yOf(goal.ms)];
  const kind = goal.is_met ? "good" : "bad";
  add(svg, "path", {class: `goal ${kind}`, d: `M${x - 7} ${y}h14M${x} ${y}v-6m-4 0h8`});
  const isLeft = x > right - 110;
  const at = {class: `legend ${kind}`, x: x + (isLeft ? -11 : 11), y: y + 4, "text-anchor": isLeft ? "end" : "start"};
  add(svg, "text", at, goal.text);
}

// Time line

const PANELS = [
  {title: "latency, ms", height: 150, lines: [
    ["latency_p50_ms", "p50", 1], ["latency_p99_ms", "p99", 2], ["latency_max_ms", "max", 3]]},
  {title: "deliveries a second", height: 80, isMarked: true, lines: [["deliveries_per_s", "", 1]]},
  {title: "members", height: 60, lines: [["members", "", 1]]},
  {title: "a second", height: 60, isRare: true, lines: [["joins", "joins", 1], ["resumed", "resumed", 2]]},
  {title: "CPU, % of a core", height: 60, scale: 100, lines: [
    ["server_cpu", "server", 1, "server CPU"], ["generator_cpu", "generator", 2, "generator CPU"]]},
  {title: "server memory, MB", height: 60, scale: 1e-6, lines: [["server_memory_bytes", "", 1]]},
  {title: "lateness p99, ms", height: 60, lines: [
    ["lateness_p99_ms", "sending", 1, "send lateness"], ["read_lag_p99_ms", "reading", 2, "read lag"]]},
];
const WORST = /_p99_ms$|_max_ms$|^missing$/;

/* Join neighbouring seconds until there is room for each: of tails and of what is missing the worst is kept. */
function thinned(seconds, room) {
  const size = Math.ceil(seconds.length / room) || 1;
  if (size === 1) return seconds;
  const joined = [];
  for (let n = 0; n < seconds.length; n += size) joined.push(join(seconds.slice(n, n + size)));
  return joined;
}

function join(group) {
  const all = {...group[0], until: group.at(-1).t};
  for (const key of Object.keys(all)) {
    const values = group.map(second => second[key]).filter(value => typeof value === "number");
    if (key === "t" || key === "until" || !values.length) continue;
    const sum = values.reduce((a, b) => a + b, 0);
    all[key] = key === "doubled" ? sum : WORST.test(key) ? Math.max(...values) : sum / values.length;
  }
  return all;
}

function drawTimeLine(place, seconds) {
  if (!seconds.length) {
    place.replaceChildren("No second is over yet.");
    return;
  }
  const has = key => seconds.some(second => second[key] != null);
  const happens = key => seconds.filter(second => second[key] > 0).length > 1;
  const panels = PANELS.filter(({lines, isRare}) => lines.some(([key]) => isRare ? key === "resumed" && happens(key) : has(key)));
  const height = 40 + panels.reduce((sum, panel) => sum + panel.height + 30, 0) + 12;
  const {svg, width, right} = canvas(place, height, `Time line of ${seconds.length} seconds`);
  const shown = thinned(seconds, Math.floor((right - LEFT) / 2));
  const [from, to] = [shown[0].t, seconds.at(-1).t + 1];
  const xOf = linear(from, to, LEFT, right);
  const middles = shown.map(second => xOf(((second.until ?? second.t) + second.t + 1) / 2));
  drawPhases(svg, seconds, xOf, height - 18);
  let top = 40;
  for (const panel of panels) {
    drawPanel(svg, panel, shown, middles, top + 20, right);
    top += panel.height + 30;
  }
  drawTimeAxis(svg, from, to, xOf, height - 4, right);
  const guide = add(svg, "line", {class: "guide", y1: 22, y2: height - 18, visibility: "hidden"});
  const say = readOutOf(place);
  onPointing(place, svg, middles, index => {
    guide.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return say(null);
    guide.setAttribute("x1", middles[index]);
    guide.setAttribute("x2", middles[index]);
    say(secondInWords(shown[index], panels));
  });
}

/* Shade what is not measured, and name each phase where its name has room. */
function drawPhases(svg, seconds, xOf, bottom) {
  for (let n = 0; n < seconds.length;) {
    const {phase, t} = seconds[n];
    while (n < seconds.length && seconds[n].phase === phase) n++;
    const [x, end] = [xOf(t), xOf((seconds[n] ?? {t: seconds[n - 1].t + 1}).t)];
    const isMeasured = phase === "measured";
    add(svg, "rect", {class: isMeasured ? "phase measured" : "phase", x, y: 4, width: end - x, height: bottom - 4});
    const text = add(svg, "text", {class: "phase-name", x: (x + end) / 2, y: 19, "text-anchor": "middle"}, phase);
    if (text.getComputedTextLength() > end - x - 2) text.remove();
  }
}

function drawPanel(svg, {title, height, scale = 1, isMarked, lines}, seconds, middles, top, right) {
  const group = add(svg, "g");
  const name = add(group, "text", {class: "panel-title", x: LEFT, y: top - 6}, title);
  const valuesOf = key => seconds.map(second => second[key] == null ? null : second[key] * scale);
  const drawn = lines.map(([key, label, series]) => ({values: valuesOf(key), label, series}));
  const all = drawn.flatMap(({values}) => values.filter(value => value !== null));
  const sorted = drawn[0].values.filter(value => value > 0).sort((a, b) => a - b);
  const axis = upright(all, sorted[Math.floor(sorted.length / 2)] ?? 0, top + height, top + 2, height > 100 ? 4 : 2);
  drawMarks(group, axis, right, mark => number.format(mark));
  const named = drawn.filter(({label}) => label).map(({label, series}) => ({name: label, series}));
  drawLegend(group, named, LEFT + name.getComputedTextLength() + 16, top - 6, Infinity);
  for (const {values, series} of drawn) drawValues(group, values, middles, axis.at, series);
  if (isMarked) drawFaults(group, seconds, middles, top);
}

/* A line with gaps where nothing was measured; a value alone is a dot. */
function drawValues(group, values, middles, yOf, series) {
  let path = "";
  values.forEach((value, n) => {
    if (value === null) return;
    const isFirst = n === 0 || values[n - 1] === null;
    path += `${isFirst ? "M" : "L"}${middles[n].toFixed(1)} ${yOf(value).toFixed(1)}`;
    if (isFirst && (n + 1 === values.length || values[n + 1] === null)) path += "h0.01";
  });
  add(group, "path", {class: `line series-${series}`, d: path});
}

function drawFaults(group, seconds, middles, top) {
  seconds.forEach((second, n) => {
    if (!(second.missing > 0 || second.doubled > 0)) return;
    add(group, "path", {class: "fault", d: `M${middles[n] - 4} ${top - 3}h8l-4 7z`});
  });
}

function drawTimeAxis(svg, from, to, xOf, y, right) {
  const steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400];
  const most = (right - LEFT) / 55;
  const step = steps.find(step => (to - from) / step <= most) ?? 86400;
  for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
    const text = add(svg, "text", {class: "tick", x: xOf(t), y, "text-anchor": "middle"}, clock(t));
    if (xOf(t) + text.getComputedTextLength() / 2 > right) text.setAttribute("text-anchor", "end");
  }
}

function clock(t) {
  if (Math.abs(t) < 120) return `${t} s`;
  const pad = part => String(part).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(t / 3600), Math.floor(t / 60) % 60, t % 60];
  return hours ? `${hours}:${pad(minutes)}:${pad(rest)}` : `${minutes}:${pad(rest)}`;
}

function secondInWords(second, panels) {
  const said = [];
  for (const {title, scale = 1, lines} of panels) {
    const [what, unit = ""] = title.split(", ");
    for (const [key, label, , spoken = label || what] of lines) {
      if (second[key] == null) continue;
      const value = second[key] * scale;
      const figure = value >= 1000 ? whole.format(value) : number.format(value);
      said.push(`${spoken} ${key.endsWith("_ms") ? milliseconds(value) : `${figure} ${unit.split(" ")[0]}`.trim()}`);
    }
  }
  for (const fault of ["missing", "doubled"]) if (second[fault] > 0) said.push(`${whole.format(second[fault])} ${fault}`);
  const when = second.until === undefined ? clock(second.t) : `${clock(second.t)} to ${clock(second.until)}`;
  return `${when}, ${second.phase}: ${said.join(" · ")}`;
}

// The page

/* Draw what the page has places for, now and whenever it changes its width. */
function drawPage({curves = [], goals = [], seconds = []}) {
  const charts = {curves: place => drawCurves(place, curves, goals), "time-line": place => drawTimeLine(place, seconds)};
  for (const place of document.querySelectorAll("[data-chart]")) {
    const draw = () => charts[place.dataset.chart](place);
    place.widthWatcher?.disconnect();
    let width = place.clientWidth;
    draw();
    place.widthWatcher = new ResizeObserver(() => {
      if (place.clientWidth === width) return;
      width = place.clientWidth;
      draw();
    });
    place.widthWatcher.observe(place);
  }
}

function inlined(id) {
  return JSON.parse(document.getElementById(id)?.textContent ?? "null");
}

drawPage({...inlined("drawn"), seconds: inlined("result")?.seconds ?? []});
