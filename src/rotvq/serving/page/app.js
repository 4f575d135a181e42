"use strict";
// State: the model, the original and the edited tokens of the image, and the selection.
const $ = (id) => document.getElementById(id);
let model = null, atlas = null, columns = 0;
let coded = null, original = [], selected = 0, brush = null, place = 0, painting = false;
let decoding = false, again = false, saved = null, opened = 0;

function say(text, error = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", error);
}

async function ask(path, options) {
  let response;
  try { response = await fetch(path, options); }
  catch { throw new Error("The server does not respond. Is `rotvq serve` still running?"); }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error || `The server responded with status ${response.status}.`);
}

const bitmap = async (response) => createImageBitmap(await response.blob());

async function begin() {
  try {
    [model, atlas] = await Promise.all([
      ask("about").then((r) => r.json()), ask("codes.png").then(bitmap),
    ]);
  } catch (error) { say(error.message, true); return; }
  columns = Math.ceil(Math.sqrt(model.codebook_size));
  $("about").textContent = `${model.codebook_size.toLocaleString("en")} codes of length ` +
    `${model.dim}, ${model.bits} bits per ${model.stride}×${model.stride} pixels`;
  drawCodes();
  drawMap();
}

async function open(blob) {
  if (!model) return;
  say("Encoding …");
  const mine = ++opened;
  try {
    const answer = await ask("encode", { method: "POST", body: blob }).then((r) => r.json());
    const picture = await createImageBitmap(blob);
    if (mine !== opened) return; // another image was opened in the meantime
    coded = answer;
    original = [...answer.indices];
    selected = 0;
    for (const id of ["picture", "decoded"]) {
      $(id).width = coded.width;
      $(id).height = coded.height;
    }
    const context = $("picture").getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, coded.width, coded.height);
    $("reset").disabled = false;
    say(`${coded.width}×${coded.height} pixels, ${coded.rows}×${coded.columns} tokens, ` +
      `${Math.ceil(coded.indices.length * model.bits / 8).toLocaleString("en")} bytes.`);
    changed();
  } catch (error) { say(error.message, true); }
}

// One request at a time; changes made during a request are sent together in the next one.
async function changed() {
  drawTokens();
  if (decoding) { again = true; return; }
  decoding = true;
  do {
    again = false;
    const { height, width, indices } = coded;
    try {
      const response = await ask("decode", {
        method: "POST", body: JSON.stringify({ height, width, indices }),
      });
      const blob = await response.blob();
      $("decoded").getContext("2d").drawImage(await createImageBitmap(blob), 0, 0);
      if (saved) URL.revokeObjectURL(saved);
      saved = URL.createObjectURL(blob);
      $("save").href = saved;
      $("save").download = "decoded.png";
      $("save").setAttribute("aria-disabled", "false");
    } catch (error) { say(error.message, true); }
  } while (again);
  decoding = false;
}

function tile(context, code, x, y, side) {
  const s = model.stride;
  context.drawImage(atlas, code % columns * s, Math.floor(code / columns) * s, s, s, x, y, side, side);
}

function frame(context, x, y, side, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(x + width / 2, y + width / 2, side - width, side - width);
}

function drawTokens() {
  const side = Math.max(8, Math.floor(768 / Math.max(coded.columns, coded.rows)));
  const canvas = $("tokens"), context = canvas.getContext("2d");
  canvas.width = coded.columns * side;
  canvas.height = coded.rows * side;
  context.imageSmoothingEnabled = false;
  coded.indices.forEach((code, i) => {
    const x = i % coded.columns * side, y = Math.floor(i / coded.columns) * side;
    tile(context, code, x, y, side);
    if (code !== original[i]) frame(context, x, y, side, "#0072b2", 2);
  });
  const x = selected % coded.columns * side, y = Math.floor(selected / coded.columns) * side;
  frame(context, x, y, side, "#fff", 4);
  frame(context, x, y, side, "#d55e00", 3);
  const code = coded.indices[selected], was = original[selected];
  $("token").textContent = `Row ${Math.floor(selected / coded.columns) + 1}, column ` +
    `${selected % coded.columns + 1}: code ${code}` + (code === was ? "" : ` (was ${was})`) +
    (brush === null ? "" : `. Painting with code ${brush}.`);
  drawCodes();
  drawMap();
}

function marks() {
  const found = [[place, "#0072b2"]];
  if (coded) found.push([coded.indices[selected], "#d55e00"]);
  if (brush !== null) found.push([brush, "#009e73"]);
  return found;
}

function drawCodes() {
  const side = Math.max(6, Math.floor(768 / columns)), canvas = $("codes");
  canvas.width = canvas.height = columns * side;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(atlas, 0, 0, canvas.width, canvas.height);
  for (const [code, colour] of marks()) {
    const x = code % columns * side, y = Math.floor(code / columns) * side;
    frame(context, x, y, side, "#fff", 4);
    frame(context, x, y, side, colour, 3);
  }
}

const spot = (code, size) => model.places[code].map((v) => 12 + v * (size - 24));

function drawMap() {
  const canvas = $("map"), context = canvas.getContext("2d"), size = canvas.width;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size, size);
  model.places.forEach((_, code) => {
    const [x, y] = spot(code, size);
    const shade = Math.round(205 - 190 * Math.sqrt(model.use[code]));
    context.fillStyle = `rgb(${shade}, ${shade}, ${Math.min(255, shade + 25)})`;
    context.beginPath();
    context.arc(x, y, 4, 0, 7);
    context.fill();
  });
  for (const [code, colour] of marks()) {
    const [x, y] = spot(code, size);
    context.strokeStyle = colour;
    context.lineWidth = 3;
    context.beginPath();
    context.arc(x, y, 8, 0, 7);
    context.stroke();
  }
}

// The pointer's position on a canvas, in canvas pixels.
function at(event, canvas) {
  const box = canvas.getBoundingClientRect();
  const inside = (v, n) => Math.min(n - 1, Math.max(0, v));
  return [
    inside((event.clientX - box.left) / box.width * canvas.width, canvas.width),
    inside((event.clientY - box.top) / box.height * canvas.height, canvas.height),
  ];
}

function tokenAt(event) {
  const [x, y] = at(event, $("tokens")), side = $("tokens").width / coded.columns;
  return Math.floor(y / side) * coded.columns + Math.floor(x / side);
}

function put(token, code) {
  selected = token;
  if (code === null || coded.indices[token] === code) { drawTokens(); return; }
  coded.indices[token] = code;
  changed();
}

function choose(code) {
  brush = code;
  if (code !== null) place = code;
  $("tokens").classList.toggle("painting", code !== null);
  if (coded) drawTokens(); else if (model) { drawCodes(); drawMap(); }
}

$("tokens").addEventListener("pointerdown", (event) => {
  if (!coded) return;
  painting = true;
  if (brush !== null) $("tokens").setPointerCapture(event.pointerId);
  put(tokenAt(event), brush);
});
$("tokens").addEventListener("pointermove", (event) => {
  if (painting && brush !== null) put(tokenAt(event), brush);
});
for (const end of ["pointerup", "pointercancel"]) {
  addEventListener(end, () => { painting = false; });
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function moved(index, key, wide, count) {
  const [dx, dy] = STEPS[key], x = index % wide + dx, to = index + dx + dy * wide;
  return x < 0 || x >= wide || to < 0 || to >= count ? index : to;
}

$("tokens").addEventListener("keydown", (event) => {
  if (!coded || event.ctrlKey || event.metaKey || event.altKey) return;
  const code = coded.indices[selected], k = model.codebook_size;
  if (event.key in STEPS) {
    selected = moved(selected, event.key, coded.columns, coded.indices.length);
    drawTokens();
  } else if (event.key === "+" || event.key === "=") put(selected, (code + 1) % k);
  else if (event.key === "-") put(selected, (code + k - 1) % k);
  else if (event.key === "Enter" && brush !== null) put(selected, brush);
  else if (event.key === "Delete" || event.key === "Backspace") put(selected, original[selected]);
  else return;
  event.preventDefault();
});

$("codes").addEventListener("keydown", (event) => {
  if (!model || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in STEPS) {
    place = moved(place, event.key, columns, model.codebook_size);
    drawCodes();
    drawMap();
  } else if (event.key === "Enter") choose(place);
  else return;
  event.preventDefault();
});
$("codes").addEventListener("click", (event) => {
  if (!model) return;
  const [x, y] = at(event, $("codes")), side = $("codes").width / columns;
  const code = Math.floor(y / side) * columns + Math.floor(x / side);
  if (code < model.codebook_size) choose(code);
});
$("map").addEventListener("click", (event) => {
  if (!model) return;
  const [x, y] = at(event, $("map")), size = $("map").width;
  const far = model.places.map((_, code) => {
    const [u, v] = spot(code, size);
    return Math.hypot(u - x, v - y);
  });
  choose(far.indexOf(Math.min(...far)));
});
addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });

$("file").addEventListener("change", () => {
  if ($("file").files.length) open($("file").files[0]);
  $("file").value = "";
});
$("sample").addEventListener("click", async () => {
  try { open(await ask("sample.png").then((r) => r.blob())); }
  catch (error) { say(error.message, true); }
});
$("reset").addEventListener("click", () => { coded.indices = [...original]; changed(); });
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(file); else say("Drop an image file.", true);
});

begin();
