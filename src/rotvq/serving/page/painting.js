// The tokens, painted with a pointer or the keyboard.
import { $, emit, model, on, sheet, state } from "./state.js";
import { refresh } from "./decoding.js";
import { modified, moved, pick, tile } from "./palette.js";
import { covered, line } from "./stroke.js";

const SIDE = 768; // canvas pixels of the longer side, about
let side = 8, last = null, hovered = null, scheduled = false;

const choice = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const size = () => Number($("size").value);

function changed() {
  emit("painted");
  refresh(state.active);
}

function draw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    if (sheet()) { drawTokens(); drawOverlay(); }
  });
}

function drawTokens() {
  const { columns, rows, width, height, decoded } = sheet(), canvas = $("tokens");
  side = Math.max(8, Math.floor(SIDE / Math.max(columns, rows)));
  for (const each of [canvas, $("overlay")]) {
    if (each.width !== columns * side) each.width = columns * side;
    if (each.height !== rows * side) each.height = rows * side;
  }
  const context = canvas.getContext("2d"), scale = side / model().stride;
  context.imageSmoothingEnabled = false;
  if (choice("view") === "decoded" && decoded) {
    context.drawImage(decoded, 0, 0, width * scale, height * scale);
  } else {
    sheet().tokens.forEach((code, i) =>
      tile(context, code, i % columns * side, Math.floor(i / columns) * side, side));
  }
}

function drawOverlay() {
  const { columns, rows, painted, base } = sheet(), context = $("overlay").getContext("2d");
  context.clearRect(0, 0, $("overlay").width, $("overlay").height);
  outline(context, (i) => painted[i] >= 0 && painted[i] !== base[i], "#fffb", "#0009");
  if (hovered) {
    const under = covered([hovered], choice("tool") === "pick" ? 1 : size(), columns, rows);
    outline(context, (i) => under.has(i), "#fff", "#000");
  }
  if (document.activeElement === $("tokens")) outline(context, (i) => i === state.selected, "#fff", "#d55e00");
}

// The border of some tokens.
function outline(context, inside, light, dark) {
  const { columns, rows } = sheet();
  context.beginPath();
  for (let i = 0; i < columns * rows; i++) {
    if (!inside(i)) continue;
    const x = i % columns, y = Math.floor(i / columns);
    const edge = (free, x1, y1, x2, y2) => {
      if (!free) return;
      context.moveTo(x1 * side, y1 * side);
      context.lineTo(x2 * side, y2 * side);
    };
    edge(!y || !inside(i - columns), x, y, x + 1, y);
    edge(y === rows - 1 || !inside(i + columns), x, y + 1, x + 1, y + 1);
    edge(!x || !inside(i - 1), x, y, x, y + 1);
    edge(x === columns - 1 || !inside(i + 1), x + 1, y, x + 1, y + 1);
  }
  for (const [color, wide] of [[dark, 4], [light, 1.5]]) {
    context.strokeStyle = color;
    context.lineWidth = wide * devicePixelRatio;
    context.stroke();
  }
}

function tell() {
  const { columns, base } = sheet(), token = state.selected, code = sheet().at(token);
  $("token").textContent = `Row ${Math.floor(token / columns) + 1}, column ${token % columns + 1}: ` +
    `code ${code}` + (code === base[token] ? "" : ` (the encoder chose ${base[token]})`);
}

function cellAt(event) {
  const box = $("tokens").getBoundingClientRect(), { columns, rows } = sheet();
  const inside = (v, n) => Math.min(n - 1, Math.max(0, Math.floor(v * n)));
  return [inside((event.clientX - box.left) / box.width, columns),
    inside((event.clientY - box.top) / box.height, rows)];
}

function touch(cells) {
  const { columns, rows } = sheet(), [x, y] = cells[cells.length - 1];
  state.selected = y * columns + x;
  if (sheet().put(covered(cells, size(), columns, rows), choice("tool") === "erase" ? -1 : state.brush)) changed();
  tell();
}

$("tokens").addEventListener("pointerdown", (event) => {
  if (!sheet() || event.button || last?.down) return;
  const cell = cellAt(event), tool = choice("tool");
  if (tool === "move") return;
  state.selected = cell[1] * sheet().columns + cell[0];
  if (tool === "pick") { pick(sheet().at(state.selected)); tell(); draw(); return; }
  $("tokens").setPointerCapture(event.pointerId);
  sheet().begin();
  // With Shift, a line from the last token.
  touch(event.shiftKey && last ? line(last.end, cell) : [cell]);
  last = { end: cell, down: true, pointer: event.pointerId };
});
$("tokens").addEventListener("pointermove", (event) => {
  if (!sheet()) return;
  hovered = choice("tool") === "move" ? null : cellAt(event);
  if (last?.down && event.pointerId === last.pointer) {
    touch(line(last.end, hovered));
    last.end = hovered;
  }
  draw();
});
$("tokens").addEventListener("pointerleave", () => { hovered = null; draw(); });
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, (event) => {
    if (!last?.down || event.pointerId !== last.pointer) return;
    last.down = false;
    // A browser that takes over, to zoom with two fingers, leaves no paint.
    if (end === "pointercancel") sheet().cancel();
    else sheet().end();
    changed();
  });
}

// Change tokens in one step of history.
function step(tokens, code) {
  sheet().begin();
  sheet().put(tokens, code);
  sheet().end();
  changed();
}

function around(token) {
  const { columns, rows } = sheet();
  return covered([[token % columns, Math.floor(token / columns)]], size(), columns, rows);
}

// Scroll a zoomed picture to the token under the keyboard.
function reveal() {
  const frame = $("tokens").closest(".frame"), { columns } = sheet(), cell = $("tokens").clientWidth / columns;
  const near = (at, from, length) => Math.min(at, Math.max(from, at + cell - length));
  frame.scrollTo(near(state.selected % columns * cell, frame.scrollLeft, frame.clientWidth),
    near(Math.floor(state.selected / columns) * cell, frame.scrollTop, frame.clientHeight));
}

const TOOLS = { b: "paint", e: "erase", i: "pick", m: "move" };

$("tokens").addEventListener("keydown", (event) => {
  if (!sheet() || modified(event)) return;
  const { columns, base } = sheet(), k = model().codebook_size, code = sheet().at(state.selected);
  const { key } = event, to = moved(state.selected, key, columns, base.length);
  if (to !== undefined) {
    state.selected = to;
    reveal();
  } else if (key === "Enter" || key === " ") step(around(state.selected), choice("tool") === "erase" ? -1 : state.brush);
  else if (key === "+" || key === "=") step([state.selected], (code + 1) % k);
  else if (key === "-") step([state.selected], (code + k - 1) % k);
  else if (key === "Delete" || key === "Backspace") step(around(state.selected), -1);
  else if (key === "p") pick(code);
  else if (key in TOOLS) document.querySelector(`input[value=${TOOLS[key]}]`).click();
  else if (key === "[" || key === "]") {
    const { length } = $("size").options, next = $("size").selectedIndex + (key === "]" ? 1 : -1);
    $("size").selectedIndex = Math.min(length - 1, Math.max(0, next));
  } else return;
  event.preventDefault();
  tell();
  draw();
});
for (const event of ["focus", "blur"]) $("tokens").addEventListener(event, draw);

function again(event) {
  const key = event.key.toLowerCase();
  return key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : null;
}

addEventListener("keydown", (event) => {
  const which = (event.ctrlKey || event.metaKey) && again(event);
  if (!which || !sheet()) return;
  event.preventDefault();
  sheet()[which]();
  changed();
});
$("undo").addEventListener("click", () => { sheet().undo(); changed(); });
$("redo").addEventListener("click", () => { sheet().redo(); changed(); });
$("reset").addEventListener("click", () => step(sheet().base.keys(), -1));
for (const input of document.querySelectorAll("input[name=tool], input[name=view]")) {
  input.addEventListener("change", () => {
    $("tokens").dataset.tool = choice("tool");
    draw();
  });
}

on("painted", () => {
  $("undo").disabled = !sheet().past.length && !sheet().stroke;
  $("redo").disabled = !sheet().future.length;
  $("reset").disabled = !sheet().changes;
  draw();
});
on("decoded", (number) => { if (number === state.active) draw(); });
for (const event of ["opened", "model"]) {
  on(event, () => { if (sheet()) { last = null; emit("painted"); tell(); } });
}
