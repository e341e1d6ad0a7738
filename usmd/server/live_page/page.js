"use strict";
// The live page of usmd. It asks for a reading each second, and shows it; rates are differences of two readings.
// Text of other programs, such as names, is only ever set as text.

const EVERY = 1000; // ms between an answer and the next request
const PATIENCE = 10000; // ms after which a request without an answer has failed
const RETRIES = [1000, 2000, 4000]; // ms before each new try; the last one from then on
const SPAN = 120; // seconds that charts show
const GAP = 5; // seconds between two readings from which on a chart has a gap
const SVG = "http://www.w3.org/2000/svg";
const OWNER_COLOURS = 8;
const DEFAULT_WEIGHT = 100; // of a process
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const byId = (id) => document.getElementById(id);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function make(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// Numbers

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

function unitOf(bytes) {
  let power = 0;
  while (power < UNITS.length - 1 && bytes >= 10 * 1024 ** power * 1024) power += 1;
  return { name: UNITS[power], bytes: 1024 ** power };
}
const inUnit = (bytes, unit) => (unit.bytes === 1 ? whole : tenths).format(bytes / unit.bytes);
function size(bytes) {
  const power = bytes ? Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1) : 0;
  const unit = { name: UNITS[power], bytes: 1024 ** power };
  return `${inUnit(bytes, unit)} ${unit.name}`;
}
const rate = (value) => (value === null ? "–" : value > 0 && value < 9.95 ? tenths.format(value) : whole.format(value));
const share = (value) => (value === null || value === undefined ? "–" : `${tenths.format(100 * value)} %`);

function lasting(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

// Tables: the same cells stay and get new text, so that a selection or a screen reader's place stays too.

class Table {
  constructor(id, columns, sorted = null) {
    this.table = byId(id);
    this.columns = columns;
    this.sorted = sorted;
    this.rows = [];
    this.head = make("tr");
    this.body = make("tbody");
    this.titles = columns.map((column) => {
      const cell = make("th", { scope: "col", class: column.class ?? "" });
      if (sorted && column.by) {
        const button = make("button", { type: "button" });
        button.addEventListener("click", () => { this.sorted = column.key; this.show(this.items); });
        cell.append(button);
      }
      this.head.append(cell);
      return cell;
    });
    this.table.append(make("thead", {}, this.head), this.body);
  }

  show(items) {
    this.items = items;
    this.table.hidden = items.length === 0;
    this.columns.forEach((column, place) => {
      const cell = this.titles[place];
      put(cell.firstElementChild ?? cell, typeof column.title === "function" ? column.title() : column.title);
      if (this.sorted === column.key && column.by) cell.setAttribute("aria-sort", "descending");
      else cell.removeAttribute("aria-sort");
    });
    const chosen = this.columns.find((column) => column.by && column.key === this.sorted);
    const shown = chosen ? [...items].sort((a, b) => (chosen.by(b) ?? -1) - (chosen.by(a) ?? -1)) : items;
    while (this.rows.length > shown.length) this.rows.pop().remove();
    while (this.rows.length < shown.length) {
      const row = make("tr", {}, ...this.columns.map((column) => make("td", { class: column.class ?? "" })));
      this.rows.push(row);
      this.body.append(row);
    }
    shown.forEach((item, number) => this.columns.forEach((column, place) => {
      const cell = this.rows[number].children[place];
      if (column.fill) column.fill(cell, item);
      else put(cell, column.text(item));
      cell.classList.toggle("zero", !column.names && ["0", "0.0", "–"].includes(cell.textContent));
      if (column.bad) cell.classList.toggle("bad", column.bad(item));
    }));
  }
}

// What is known from one reading to the next

let last = null; // the last reading
let before = null; // the one before, of the same daemon
let points = []; // points of the charts
let failures = 0;
let lastAt = 0; // when the last reading came
let stopped = false; // by the button
let timer = 0;
const slots = new Map(); // process → its letter, as long as it lives

function differences(counters, earlier, seconds) {
  const found = {};
  last.counted.forEach((name, place) => {
    found[name] = earlier === null ? null : Math.max(counters[place] - (earlier ? earlier[place] : 0), 0) / seconds;
  });
  return found;
}

function rates() {
  const seconds = before ? last.uptime - before.uptime : 0;
  if (!seconds) {
    const none = differences(last.counters, null, 1);
    last.rates = none;
    for (const process of last.processes) process.rates = none;
    return;
  }
  last.rates = differences(last.counters, before.counters, seconds);
  const known = new Map(before.processes.map((process) => [process.id, process.counters]));
  for (const process of last.processes) {
    // One that was not in the reading before may be old: nothing is known of its rates yet.
    process.rates = differences(process.counters, known.get(process.id) ?? null, seconds);
  }
}

function assignLetters() {
  const alive = new Set(last.processes.map((process) => process.id));
  for (const id of slots.keys()) if (!alive.has(id)) slots.delete(id);
  const taken = new Set(slots.values());
  for (const { id } of [...last.processes].sort((a, b) => a.nth - b.nth)) {
    if (slots.has(id)) continue;
    let slot = 0;
    while (taken.has(slot)) slot += 1;
    slots.set(id, slot);
    taken.add(slot);
  }
}
const letterOf = (slot) => LETTERS[slot] ?? "+";
const colourOf = (slot) => (slot < LETTERS.length ? `--owner${slot % OWNER_COLOURS}` : "--owner-rest");

// Charts

const CHARTS = [
  { id: "fault-chart", names: ["faults", "major_faults"], text: rate, least: 10, of: "Faults a second" },
  { id: "pressure-chart", names: ["some", "full"], text: (v) => (v === null ? "–" : `${whole.format(100 * v)} %`), least: 0.1, limit: 1, of: "Pressure" },
  { id: "traffic-chart", names: ["swap_outs", "swap_ins"], text: rate, least: 10, of: "Pages a second to swap and from swap" },
];

function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((each) => each * power >= value) * power;
}

function drawChart(chart) {
  const box = byId(chart.id);
  if (!chart.svg) {
    chart.svg = document.createElementNS(SVG, "svg");
    chart.svg.setAttribute("role", "img");
    chart.parts = ["grid", "area", "line1", "line2"].map((name) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      chart.svg.append(path);
      return path;
    });
    chart.most = make("span", { class: "most", "aria-hidden": "true" });
    box.append(chart.svg, chart.most, make("span", { class: "then", "aria-hidden": "true" }, "2 min ago"), make("span", { class: "now", "aria-hidden": "true" }, "now"));
  }
  const { width, height } = { width: box.clientWidth, height: box.clientHeight };
  const end = points.length ? points.at(-1).at : 0;
  const highest = Math.max(chart.least, ...points.flatMap((point) => chart.names.map((name) => point[name] ?? 0)));
  const most = Math.min(rounded(highest), chart.limit ?? Infinity);
  const place = (point, name) => `${(width * (1 - (end - point.at) / SPAN)).toFixed(1)} ${(height * (1 - point[name] / most)).toFixed(1)}`;
  const runs = (name) => {
    const found = [];
    let run = null;
    for (const point of points) {
      if (point[name] === null || point[name] === undefined) { run = null; continue; }
      if (!run || point.gap) found.push(run = []);
      run.push(place(point, name));
    }
    return found;
  };
  const [grid, area, ...lines] = chart.parts;
  grid.setAttribute("d", `M0 .5H${width}M0 ${height / 2}H${width}`);
  area.setAttribute("d", runs(chart.names[0]).map((run) => `M${run[0].split(" ")[0]} ${height}L${run.join("L")}V${height}Z`).join(""));
  chart.names.forEach((name, number) => lines[number].setAttribute("d", runs(name).map((run) => `M${run.join("L")}`).join("")));
  put(chart.most, chart.text(most));
  const peak = (name) => chart.text(points.reduce((most, point) => Math.max(most, point[name] ?? 0), 0));
  chart.svg.setAttribute("aria-label", `${chart.of}, last two minutes. Highest: ${chart.names.map((name) => `${name.replaceAll("_", " ")} ${peak(name)}`).join(", ")}`);
}

// Figures: a list of a name, a large number and a unit, made once

function figures(id, parts) {
  const list = byId(id);
  if (!list.children.length) {
    for (const part of parts) {
      const name = make("dt", {}, ...(part.key ? [make("span", { class: `key ${part.key}`, "aria-hidden": "true" })] : []), part.name);
      list.append(make("div", {}, name, make("dd", {}, make("b"), " ", part.unit)));
    }
  }
  parts.forEach((part, place) => put(list.children[place].querySelector("b"), part.value));
}

// Memory

const STATES = [
  ["c", "clean", "--clean"],
  ["d", "dirty", "--dirty"],
  ["x", "kept", "--kept"],
  ["f", "coming in", "--filling"],
  ["e", "going out", "--evicting"],
  [".", "free", "--free"],
];
const NAMES = Object.fromEntries(STATES.map(([letter, name]) => [letter, name]));

function showMemory() {
  const { memory, page_size: page } = last;
  const present = memory.frames - memory.free - memory.filling - memory.evicting;
  const kept = Math.min(Math.max(memory.unevictable, memory.pinned), present);
  const parts = [
    ["clean", present - memory.dirty, "clean"],
    ["dirty", memory.dirty, "dirty"],
    ["in flight", memory.filling + memory.evicting, "moving"],
    ["free", memory.free, "free"],
  ];
  put(byId("used"), size((memory.frames - memory.free) * page));
  put(byId("of"), `of ${size(memory.frames * page)}, ${share((memory.frames - memory.free) / memory.frames)}`);
  const bar = byId("bar");
  const pairs = byId("frames");
  if (!bar.children.length) {
    for (const [name, , look] of parts) {
      if (look !== "free") bar.append(make("i", { class: look }));
      pairs.append(make("div", {}, make("dt", {}, name), make("dd")));
    }
    pairs.append(make("div", {}, make("dt", {}, "kept"), make("dd")));
    pairs.append(make("div", {}, make("dt", {}, "regions"), make("dd")));
  }
  parts.forEach(([, frames, look], place) => {
    if (look !== "free") bar.children[place].style.width = `${(100 * Math.max(frames, 0)) / memory.frames}%`;
    put(pairs.children[place].lastChild, size(Math.max(frames, 0) * page));
  });
  put(pairs.children[4].lastChild, size(kept * page));
  put(pairs.children[5].lastChild, whole.format(last.regions));
  bar.setAttribute("aria-label", parts.map(([name, frames]) => `${name} ${share(frames / memory.frames)}`).join(", "));
  const reclaims = memory.free < memory.low ? "Reclaim is at work: less is free" : "Reclaim begins when less is free";
  put(byId("watermarks"), `${reclaims} than ${size(memory.low * page)}, and ends at ${size(memory.high * page)}.`);
}

// The memory map

const cells = { canvas: byId("cells"), columns: 64, side: 10, at: null };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
let palette = {};
function readPalette() {
  const names = [...STATES.map((state) => state[2]), "--ink", "--on", "--owner-rest"];
  for (let number = 0; number < OWNER_COLOURS; number += 1) names.push(`--owner${number}`);
  palette = Object.fromEntries(names.map((name) => [name, colour(name)]));
}

// A cell is filled from below as far as it is used. The state has a mark as well as a colour.
function drawCell(pen, x, y, side, used, look, mark) {
  pen.fillStyle = palette["--free"];
  pen.fillRect(x, y, side, side);
  if (!used) return;
  const high = Math.max(Math.round((side * used) / 8), 2);
  pen.fillStyle = palette[look];
  pen.fillRect(x, y + side - high, side, high);
  pen.strokeStyle = palette["--ink"];
  pen.fillStyle = palette["--on"];
  pen.lineWidth = Math.max(side / 10, 1);
  const a = x + side * 0.22;
  const b = x + side * 0.78;
  const c = y + side * 0.22;
  const d = y + side * 0.78;
  pen.beginPath();
  if (mark === "d") { pen.moveTo(a, d); pen.lineTo(b, c); pen.stroke(); }
  else if (mark === "x") { pen.fillRect(x + side * 0.33, y + side * 0.33, side * 0.34, side * 0.34); }
  else if (mark === "e") { pen.moveTo(a, c); pen.lineTo(b, d); pen.moveTo(a, d); pen.lineTo(b, c); pen.stroke(); }
  else if (mark === "f") { pen.moveTo(a, c); pen.lineTo((a + b) / 2, d); pen.lineTo(b, c); pen.stroke(); }
  else if (mark && mark !== "c" && side >= 9) {
    pen.font = `600 ${Math.round(side * 0.72)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(mark.slice(1), x + side / 2, y + side / 2 + side * 0.05);
  }
}

function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

const byOwner = () => document.querySelector('#by input[value="owner"]').checked;
function lookOf(place) {
  if (!byOwner()) {
    const letter = last.map.states[place];
    return [STATES.find((state) => state[0] === letter)[2], letter];
  }
  const owner = last.map.owners[place];
  if (owner === -1) return ["--free", ""];
  const slot = owner < 0 ? LETTERS.length : slots.get(last.processes[owner].id);
  return [colourOf(slot), ` ${letterOf(slot)}`];
}

function drawMap() {
  if (!last) return;
  const count = last.map.states.length;
  const width = cells.canvas.parentElement.clientWidth - 28;
  cells.columns = Math.min(Math.floor(width / (width >= 560 ? 15 : 10)), count);
  cells.side = Math.min(Math.floor(width / cells.columns), 24);
  const rows = Math.ceil(count / cells.columns);
  const [wide, high] = [cells.columns * cells.side, rows * cells.side];
  cells.canvas.style.width = `${wide}px`;
  cells.canvas.style.height = `${high}px`;
  const pen = sharp(cells.canvas, wide, high);
  for (let place = 0; place < count; place += 1) {
    const [x, y] = [(place % cells.columns) * cells.side, Math.floor(place / cells.columns) * cells.side];
    drawCell(pen, x, y, cells.side - 1, Number(last.map.used[place]), ...lookOf(place));
  }
  if (cells.at !== null && cells.at < count) {
    pen.strokeStyle = colour("--text");
    pen.lineWidth = 2;
    pen.strokeRect((cells.at % cells.columns) * cells.side, Math.floor(cells.at / cells.columns) * cells.side, cells.side - 1, cells.side - 1);
  }
  cells.canvas.setAttribute("aria-label", `Memory map of ${whole.format(count)} cells; arrow keys go from cell to cell`);
  sayCell();
  showLegend();
}

function sayCell() {
  const { frames } = last.memory;
  const count = last.map.states.length;
  const edge = (place) => Math.floor((frames * place) / count);
  if (cells.at === null || cells.at >= count) {
    const largest = Math.ceil(frames / count);
    put(byId("cell"), `A cell is ${largest === 1 ? "a frame" : `${whole.format(largest)} frames`}, ${size(largest * last.page_size)}. Point at one, or go there by arrow keys.`);
    return;
  }
  const [first, end] = [edge(cells.at), edge(cells.at + 1)];
  const used = Number(last.map.used[cells.at]);
  const owner = last.map.owners[cells.at];
  const name = owner === -1 ? "" : owner < 0 ? ", mostly another process" : `, mostly ${last.processes[owner].name}`;
  const what = used ? `${used === 8 ? "full" : `up to ${used} eighths used`}, mostly ${NAMES[last.map.states[cells.at]]}${name}` : "free";
  const which = end - first > 1 ? `Frames ${whole.format(first)} to ${whole.format(end - 1)}` : `Frame ${whole.format(first)}`;
  put(byId("cell"), `${which}: ${what}.`);
}

function showLegend() {
  const entries = byOwner()
    ? [...last.processes].filter((_, place) => last.map.owners.includes(place)).sort((a, b) => a.nth - b.nth).map((process) => {
        const slot = slots.get(process.id);
        return [process.name, colourOf(slot), ` ${letterOf(slot)}`, 8];
      }).slice(0, 16)
    : STATES.map(([letter, name, look]) => [name, look, letter, letter === "." ? 0 : 8]);
  if (byOwner()) {
    if (last.map.owners.includes(-2)) entries.push(["other processes", "--owner-rest", " +", 8]);
    entries.push(["free", "--free", "", 0]);
  }
  const wanted = JSON.stringify([entries, palette]);
  if (cells.legend === wanted) return;
  cells.legend = wanted;
  byId("legend").replaceChildren(...entries.map(([name, look, mark, used]) => {
    const picture = make("canvas", { "aria-hidden": "true" });
    drawCell(sharp(picture, 14, 14), 0, 0, 14, used, look, mark);
    return make("li", {}, picture, make("span", {}, name));
  }));
}

function pointAt(place) {
  if (!last) return;
  cells.at = place === null ? null : Math.min(Math.max(place, 0), last.map.states.length - 1);
  drawMap();
}
cells.canvas.addEventListener("pointermove", (event) => {
  const box = cells.canvas.getBoundingClientRect();
  const [x, y] = [Math.floor((event.clientX - box.left) / cells.side), Math.floor((event.clientY - box.top) / cells.side)];
  const place = y * cells.columns + Math.min(x, cells.columns - 1);
  if (place !== cells.at) pointAt(place);
});
cells.canvas.addEventListener("pointerleave", () => pointAt(null));
cells.canvas.addEventListener("blur", () => pointAt(null));
cells.canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -cells.columns, ArrowDown: cells.columns }[event.key];
  if (!step || !last) return;
  event.preventDefault();
  const next = (cells.at ?? -step) + step;
  if (next >= 0 && next < last.map.states.length) pointAt(next);
});
byId("by").addEventListener("change", drawMap);

// Tables of the page

let unit = UNITS[2];
const bytesOf = (pages) => inUnit(pages * last.page_size, unit);
const number = (key, title, by, text, rank = "") => ({ key, title, by, text, class: `number ${rank}` });
const ofRate = (name) => (process) => process.rates[name];
const inTable = (value) => (value === null ? "–" : whole.format(value));

const LIMITS = { regions: "regions", hint_ranges: "hint ranges", faults: "faults", kept: "kept" };
function limitsOf({ limits, weight }) {
  const found = limits.map(({ name, used, most }) => {
    const [now, bound] = name === "kept" ? [bytesOf(used), `${bytesOf(most)} ${unit.name}`] : [whole.format(used), whole.format(most)];
    return `${LIMITS[name]} ${now} of ${bound}`;
  });
  if (weight !== DEFAULT_WEIGHT) found.push(`weight ${whole.format(weight)}`);
  return found.join(", ") || "–";
}

const processes = new Table("processes", [
  {
    key: "name", title: "Process", class: "name",
    fill: (cell, process) => {
      if (!cell.children.length) {
        cell.append(
          make("span", { class: "letter", "aria-hidden": "true" }), make("span"),
          make("span", { class: "badge" }, "frozen"), make("span", { class: "badge" }, "faults limited"),
        );
      }
      const slot = slots.get(process.id);
      put(cell.children[0], letterOf(slot));
      cell.children[0].style.background = `var(${colourOf(slot)})`;
      put(cell.children[1], process.name);
      cell.children[2].hidden = !process.frozen;
      cell.children[3].hidden = !process.faults_limited;
      cell.title = `${process.name}: process ${process.id}, number ${process.nth} to attach, pid ${process.pid ?? "unknown"}, uid ${process.uid ?? "unknown"}`;
    },
  },
  { title: "PID", class: "number second-rank", text: (process) => String(process.pid ?? "–") },
  number("resident", () => `Memory, ${unit.name}`, (process) => process.resident, (process) => bytesOf(process.resident)),
  number("swapped", () => `Swap only, ${unit.name}`, (process) => process.swapped, (process) => bytesOf(process.swapped), "second-rank"),
  number("mapped", () => `Mapped, ${unit.name}`, (process) => process.mapped, (process) => inUnit(process.mapped, unit), "second-rank third"),
  number("kept", () => `Kept, ${unit.name}`, (process) => process.kept, (process) => bytesOf(process.kept), "second-rank third"),
  number("min", () => `Min, ${unit.name}`, (process) => process.memory_min, (process) => (process.memory_min ? bytesOf(process.memory_min) : "–"), "second-rank third"),
  number("max", () => `Max, ${unit.name}`, (process) => process.memory_max, (process) => (process.memory_max === null ? "–" : bytesOf(process.memory_max)), "second-rank third"),
  number("faults", "Faults/s", ofRate("faults"), (process) => inTable(process.rates.faults)),
  number("major", "Major/s", ofRate("major_faults"), (process) => inTable(process.rates.major_faults), "second-rank"),
  number("evictions", "Evictions/s", ofRate("evictions"), (process) => inTable(process.rates.evictions), "second-rank"),
  number("ins", "From swap/s", ofRate("swap_ins"), (process) => inTable(process.rates.swap_ins), "second-rank third"),
  number("outs", "To swap/s", ofRate("swap_outs"), (process) => inTable(process.rates.swap_outs), "second-rank third"),
  number("some", "Pressure", (process) => process.pressure.some[0], (process) => share(process.pressure.some[0])),
  number("full", "Full", (process) => process.pressure.full?.[0], (process) => share(process.pressure.full?.[0]), "second-rank"),
  { title: "Evicted by", class: "second-rank third", text: (process) => process.evict },
  { title: "Limits", class: "words second-rank third", text: (process) => limitsOf(process) },
], "resident");

const moved = (device) => (device.retiring ? Math.max(1 - (device.slots - device.free) / device.retiring, 0) : 1);

const mirrorWords = (mirror) => [
  ...(mirror?.away ? ["far part away"] : []),
  ...(mirror?.to_repair ? [`${whole.format(mirror.to_repair)} pages to repair`] : []),
].join(", ");

const devices = new Table("devices", [
  {
    title: "Device", class: "name",
    fill: (cell, device) => {
      if (!cell.children.length) cell.append(make("span"), make("span", { class: "badge" }), make("span", { class: "badge" }));
      put(cell.children[0], `${device.number} ${device.name}`);
      put(cell.children[1], `retiring ${share(moved(device))}`);
      cell.children[1].hidden = device.retiring === null;
      put(cell.children[2], mirrorWords(device.mirror));
      cell.children[2].hidden = !mirrorWords(device.mirror);
    },
  },
  { title: () => `Used of ${unit.name}`, class: "number", text: (device) => `${bytesOf(device.slots - device.free)} / ${bytesOf(device.slots)}` },
  { title: "Used", class: "number", text: (device) => share(device.slots ? (device.slots - device.free) / device.slots : 0) },
  { title: () => `Holds, ${unit.name}`, class: "number second-rank", text: (device) => inUnit(device.held, unit) },
  { title: "Errors", class: "number", text: (device) => (device.hangs ? `hangs, ${whole.format(device.errors)}` : whole.format(device.errors)), bad: (device) => device.hangs || device.errors > 0 },
]);

const bounded = (used, most, text = whole.format) => (most === null ? text(used) : `${text(used)} / ${text(most)}`);
const ofUser = (name) => (user) => {
  const limit = user.limits.find((each) => each.name === name);
  return limit ? bounded(limit.used, limit.most) : "–";
};
const users = new Table("users", [
  { title: "User", class: "number", names: true, text: (user) => String(user.uid) },
  { title: "Sessions", class: "number", text: (user) => bounded(user.sessions, user.max_sessions) },
  { title: () => `Memory, ${unit.name}`, class: "number", text: (user) => bounded(user.resident, user.memory_max, bytesOf) },
  { title: () => `Min, ${unit.name}`, class: "number second-rank", text: (user) => (user.memory_min ? bytesOf(user.memory_min) : "–") },
  { title: () => `Stored, ${unit.name}`, class: "number second-rank", text: (user) => bounded(user.stored, user.swap_max, bytesOf) },
  { title: "Weight", class: "number second-rank", text: (user) => (user.weight === null ? "–" : whole.format(user.weight)) },
  { title: "Regions", class: "number second-rank third", text: ofUser("regions") },
  { title: "Hint ranges", class: "number second-rank third", text: ofUser("hint_ranges") },
  { title: "Faults that wait", class: "number second-rank third", text: ofUser("faults") },
  { title: "Refused", class: "number", text: (user) => whole.format(user.refused), bad: (user) => user.refused > 0 },
]);

const CAUSES = {
  low_watermark: "free memory is low",
  waiting_fault: "a fault waits for a frame",
  memory_max: "the process is at its limit",
  user_memory_max: "its user is at its limit",
  trim: "trimmed ahead of need",
  dontneed: "hint DONTNEED",
  given_up: "the policy gave it up",
};
const causes = new Table("causes", [
  { title: "Why", class: "words", text: (victims) => CAUSES[victims.reason] ?? victims.reason },
  { title: "Policy", class: "words", text: (victims) => victims.policy },
  { title: "Pages", class: "number", text: (victims) => whole.format(victims.count) },
]);

const evictions = new Table("evictions", [
  { title: "Ago, s", class: "number", text: (eviction) => eviction.seconds_ago.toFixed(2) },
  { title: "Process", class: "name", text: (eviction) => eviction.name },
  { title: "Region", class: "words short second-rank", text: (eviction) => eviction.region === null ? "(gone)" : eviction.region || "(no name)" },
  { title: "Page", class: "number", text: (eviction) => whole.format(eviction.page) },
  { title: "Result", class: "words short second-rank", text: (eviction) => eviction.result },
  { title: "Policy", class: "words short second-rank", text: (eviction) => eviction.policy },
  { title: "Why", class: "words", text: (eviction) => eviction.reason || "no reason given" },
]);

// One reading

function show() {
  const { pressure, rates: now } = last;
  unit = unitOf(last.memory.frames * last.page_size);
  put(byId("about"), `${last.version}, pid ${last.pid}, ${last.mechanism === "userfaultfd" ? "real memory" : "simulated memory"}, up ${lasting(last.uptime)}`);
  showMemory();
  figures("fault-rates", [
    { name: "all", key: "first", unit: "/s", value: rate(now.faults) },
    { name: "major, with I/O", key: "second", unit: "/s", value: rate(now.major_faults) },
  ]);
  figures("pressure-now", [
    { name: "some, last 10 s", key: "first", unit: "", value: share(pressure.some[0]) },
    { name: "full", key: "second", unit: "", value: share(pressure.full?.[0]) },
  ]);
  put(byId("pressure-windows"), `Some: ${share(pressure.some[1])} of 60 s, ${share(pressure.some[2])} of 300 s.`);
  figures("traffic-rates", [
    { name: "evicted", unit: "/s", value: rate(now.evictions) },
    { name: "to swap", key: "first", unit: "/s", value: rate(now.swap_outs) },
    { name: "from swap", key: "second", unit: "/s", value: rate(now.swap_ins) },
  ]);
  CHARTS.forEach(drawChart);
  assignLetters();
  drawMap();
  processes.show(last.processes);
  devices.show(last.devices);
  causes.show(last.victims);
  evictions.show(last.evictions);
  users.show(last.users);
  byId("users-card").hidden = last.users.length === 0;
  byId("no-causes").hidden = last.victims.length > 0;
  byId("no-evictions").hidden = last.evictions.length > 0;
  const { count, resident, frozen } = last.others;
  put(byId("no-processes"), last.processes.length === 0
    ? "No process is attached. A program attaches by lib_usm.connect(), or by usmctl run -- PROGRAM."
    : count > 0 ? `And ${whole.format(count)} more, with ${size(resident * last.page_size)} of memory${frozen ? `; ${whole.format(frozen)} of them frozen` : ""}.` : "");
  const notice = byId("notice");
  notice.hidden = !last.draining && last.seconds_left === null;
  put(notice, last.seconds_left === null
    ? "usmd drains: sessions end, and no new one is taken."
    : "usmd drains: it has told its sessions that they end soon, and takes no new one.");
}

function take(reading) {
  const again = last && (last.pid !== reading.pid || reading.uptime < last.uptime);
  if (last && !again && reading.uptime === last.uptime) return; // the same one
  if (again) points = [];
  before = again ? null : last;
  last = reading;
  rates();
  const gap = before !== null && last.uptime - before.uptime > GAP;
  points.push({ at: last.uptime, gap, ...last.rates, some: last.pressure.some[0], full: last.pressure.full?.[0] ?? null });
  points = points.filter((point) => last.uptime - point.at <= SPAN);
  show();
}

// Reading after reading

function say(state, words) {
  document.body.dataset.state = state;
  put(byId("said"), words);
}

function sayLeft() {
  const since = byId("since");
  if (failures && lastAt) put(since, `last reading ${lasting((Date.now() - lastAt) / 1000)} ago`);
  else if (last && last.seconds_left !== null) put(since, `sessions end in ${lasting(last.seconds_left)}`);
  else put(since, "");
}

async function read() {
  timer = 0;
  let wait = EVERY;
  try {
    const answer = await fetch("reading.json", { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status === 503 ? "too many viewers" : `status ${answer.status}`);
    const reading = await answer.json();
    if (stopped) return; // it was under way when the button was pressed
    failures = 0;
    lastAt = Date.now();
    take(reading);
    say("live", "live");
  } catch (error) {
    wait = RETRIES[Math.min(failures, RETRIES.length - 1)];
    failures += 1;
    const why = error instanceof Error && error.message.startsWith("too many") ? "has too many viewers" : "does not answer";
    if (!stopped) say("gone", `usmd ${why}; trying again`);
  }
  sayLeft();
  plan(wait);
}

function plan(wait) {
  if (!stopped && !document.hidden && !timer) timer = setTimeout(read, wait);
}

byId("pause").addEventListener("click", () => {
  stopped = !stopped;
  put(byId("pause"), stopped ? "Go on" : "Pause");
  if (stopped) {
    clearTimeout(timer);
    timer = 0;
    say("paused", "paused");
  } else {
    say("live", "live");
    plan(0);
  }
});
document.addEventListener("visibilitychange", () => plan(0));
function redraw() {
  readPalette();
  if (last) show();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", redraw);
readPalette();
read();
