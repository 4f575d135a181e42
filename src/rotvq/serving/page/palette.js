// The palette: all codes as the pixels that they decode to, and the one that is picked.
import { $, emit, model, on, state } from "./state.js";

const CELL = 12; // canvas pixels of a code
let place = 0; // the cell under the keyboard

// Draw a code as a square.
export function tile(context, code, x, y, side, { atlas, columns, stride } = model()) {
  context.drawImage(atlas, code % columns * stride, Math.floor(code / columns) * stride, stride,
    stride, x, y, side, side);
}

export function pick(code) {
  state.brush = code;
  place = model().order.indexOf(code);
  showPicked();
  draw();
  emit("picked");
}

// A code large, above the palette.
function show(code, note) {
  const context = $("swatch").getContext("2d");
  context.imageSmoothingEnabled = false;
  tile(context, code, 0, 0, 32);
  $("code").textContent = `Code ${code}${note}`;
}

function showPicked() {
  const use = model().use[state.brush];
  show(state.brush, use > 0.3 ? ", used often" : use > 0 ? "" : ", never used");
}

function draw() {
  const canvas = $("codes"), { order, columns } = model();
  canvas.width = columns * CELL;
  canvas.height = Math.ceil(order.length / columns) * CELL;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  order.forEach((code, i) => tile(context, code, i % columns * CELL, Math.floor(i / columns) * CELL, CELL));
  const cell = (i, inner, outer) => {
    const x = i % columns * CELL, y = Math.floor(i / columns) * CELL;
    for (const [color, wide] of [[outer, 5], [inner, 2]]) {
      context.strokeStyle = color;
      context.lineWidth = wide;
      context.strokeRect(x - 1, y - 1, CELL + 2, CELL + 2);
    }
  };
  if (document.activeElement === canvas) cell(place, "#000", "#fff");
  if (state.brush !== null) cell(order.indexOf(state.brush), "#fff", "#000");
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// The cell of a grid that an arrow key leads to; undefined for other keys.
export function moved(index, key, columns, count) {
  if (!(key in STEPS)) return undefined;
  const [dx, dy] = STEPS[key], x = index % columns + dx, to = index + dx + dy * columns;
  return x < 0 || x >= columns || to < 0 || to >= count ? index : to;
}

export const modified = (event) => event.ctrlKey || event.metaKey || event.altKey;

$("codes").addEventListener("keydown", (event) => {
  if (modified(event)) return;
  const { order, columns } = model(), to = moved(place, event.key, columns, order.length);
  if (to !== undefined) {
    place = to;
    show(order[place], ": Enter picks it");
    draw();
  } else if (event.key === "Enter" || event.key === " ") pick(order[place]);
  else return;
  event.preventDefault();
});
for (const event of ["focus", "blur"]) {
  $("codes").addEventListener(event, () => {
    if (!model()) return;
    if (event === "blur") pick(state.brush);
    else draw();
  });
}

function codeAt(event) {
  const box = $("codes").getBoundingClientRect(), { order, columns } = model();
  const x = Math.floor((event.clientX - box.left) / box.width * columns);
  const y = Math.floor((event.clientY - box.top) / box.height * Math.ceil(order.length / columns));
  return order[y * columns + x];
}

$("codes").addEventListener("click", (event) => {
  const code = model() && codeAt(event);
  if (code !== undefined) pick(code);
});
$("codes").addEventListener("pointermove", (event) => {
  const code = model() && codeAt(event);
  if (code !== undefined) show(code, ": click to pick");
});
$("codes").addEventListener("pointerleave", () => model() && showPicked());
on("model", () => pick(model().vivid));
