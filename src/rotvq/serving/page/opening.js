// Pictures become tokens: opened files and photographs, and tokens that have no original.
import { $, attempt, busy, emit, on, say, sheet, state } from "./state.js";
import { refresh } from "./decoding.js";
import { cropped, toCanvas, toPng } from "./pixels.js";
import { Sheet } from "./sheet.js";
import * as server from "./server.js";

let opened = 0, reached = 0, search = new AbortController();

const effort = () => Number($("effort").value);

export const openings = () => opened;

// Another picture was opened meanwhile: what is on its way for the last one is no longer wanted.
function start() {
  search.abort();
  return ++opened;
}

export const open = (file) => attempt(async () => {
  // The server stops reading larger ones, which browsers take for a lost connection.
  if (file.size > state.largest) {
    throw new Error(`Files of up to ${state.largest / 2 ** 20} MiB are opened; this one is larger.`);
  }
  const mine = start();
  say("Opening …");
  busy(0);
  if (file.name?.toLowerCase().endsWith(".npz")) { await openTokenFile(file, mine); return; }
  const png = await server.openPicture(file);
  await show(png, await toCanvas(png), mine);
});

async function openTokenFile(file, mine) {
  const { number, pictures, ...answer } = await server.openTokens(file);
  if (mine !== opened) return;
  openTokens(number, answer);
  if (pictures > 1) say(`This is the first of the ${pictures.toLocaleString("en")} pictures in the file.`);
}

async function show(png, canvas, mine) {
  const sheets = await Promise.all(state.models.map((_, i) => server.encode(i, png)));
  if (mine !== opened) return;
  state.picture = { png, canvas };
  // The tokens of a link are no longer those of the page.
  if (location.hash) history.replaceState(null, "", location.pathname);
  state.sheets = sheets.map((answer) => new Sheet(answer));
  arrived();
  if (effort()) await improve();
}

// Show tokens of one model that are not those of a picture.
export function openTokens(number, answer) {
  start();
  state.picture = null;
  state.sheets = state.models.map((_, i) => i === number ? new Sheet(answer) : null);
  if (number !== state.active) {
    state.active = number;
    emit("model");
  }
  arrived();
}

function arrived() {
  state.selected = 0;
  reached = 0;
  busy(null);
  const { width, height, rows, columns } = sheet();
  say(`${width}×${height} pixels are ${columns}×${rows} tokens. Pick a code, then paint with it.`);
  emit("opened");
  state.sheets.forEach((each, i) => each && refresh(i));
}

export const crop = (width, height) => attempt(async () => {
  const mine = start(), canvas = cropped(state.picture.canvas, width, height);
  await show(await toPng(canvas), canvas, mine);
});

// A canvas in the color of one token.
export function blank() {
  const { rows, columns, height, width } = sheet(), code = state.brush;
  openTokens(state.active, {
    rows, columns, height, width, indices: new Array(rows * columns).fill(code),
  });
}

// Encode the picture again, with the effort of the slider. What is painted stays.
export const improve = () => attempt(async () => {
  search.abort();
  search = new AbortController();
  const { signal } = search, chosen = effort(), { picture } = state;
  if (!picture) return;
  const order = [state.active, ...state.models.keys()].filter((n, i, all) => all.indexOf(n) === i);
  const followed = follow(chosen, order.length, signal), found = [];
  try {
    for (const number of order) {
      const answer = await server.encode(number, picture.png, chosen, followed.number, signal);
      if (signal.aborted || picture !== state.picture) return;
      found.push([number, answer.indices]);
      followed.done++;
    }
    for (const [number, indices] of found) {
      state.sheets[number].base = Int32Array.from(indices);
      refresh(number);
    }
    emit("painted");
    reached = chosen;
    say(chosen ? `Found better tokens at effort ${chosen}.` : "The encoder's first guess, without search.");
  } finally { followed.end(); }
});

// Show how far a search with each of some models is.
function follow(chosen, models, signal) {
  const followed = { number: Math.floor(Math.random() * 1e9), done: 0, end: () => {} };
  if (!chosen) return followed;
  say(`Searching for better tokens at effort ${chosen} …`);
  busy(0);
  $("stop").hidden = false;
  let running = true;
  const clock = setInterval(async () => {
    const share = await server.progress(followed.number).catch(() => 0);
    if (running) busy((followed.done + share) / models);
  }, 250);
  followed.end = () => {
    running = false;
    clearInterval(clock);
    if (signal !== search.signal) return; // another search has begun
    busy(null);
    $("stop").hidden = true;
  };
  return followed;
}

$("stop").addEventListener("click", () => {
  search.abort();
  $("effort").value = $("effort-value").value = reached;
  say("Stopped the search.");
});
$("effort").addEventListener("input", () => {
  search.abort();
  $("effort-value").value = $("effort").value;
});
$("effort").addEventListener("change", improve);
$("blank").addEventListener("click", blank);
$("file").addEventListener("change", () => {
  if ($("file").files.length) open($("file").files[0]);
  $("file").value = "";
});
on("opened", () => {
  $("blank").disabled = false;
  $("effort").disabled = !state.picture;
});

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
  if (file) open(file); else say("Drop a picture file.", true);
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});
