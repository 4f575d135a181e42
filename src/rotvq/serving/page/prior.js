// The prior: new pictures, and the rest of a painted one.
import { $, attempt, busy, emit, model, on, say, sheet, state } from "./state.js";
import { crop, openings, openTokens } from "./opening.js";
import { refresh } from "./decoding.js";
import { toCanvas } from "./pixels.js";
import * as server from "./server.js";

const NUMBER = 8; // pictures at a time
let wanted = false; // whether the user set how many rows are kept
let drawing = false;

const knows = ({ rows, columns }) => model().prior.grids.some(([r, c]) => r === rows && c === columns);

// The classes of some pictures: the chosen one, each in turn, or none.
function labels(given) {
  const { value } = $("label"), { length } = model().prior.classes;
  // The class of a picture to be completed is not known.
  const none = value === "none" || (value === "turn" && given.length);
  return Array.from({ length: NUMBER }, (_, i) => none ? null : value === "turn" ? i % length : Number(value));
}

// Guidance leads to a class; without one there is none.
function wishes(rows, columns, given) {
  const chosen = labels(given), guided = model().prior.guided && chosen.some((label) => label !== null);
  return {
    rows, columns, given, labels: chosen, seed: Math.floor(Math.random() * 2 ** 31),
    temperature: Number($("temperature").value), guidance: guided ? Number($("guidance").value) : 1,
  };
}

// Draw pictures of a grid that begin with given tokens, and show them; `use` is what a click does.
const draw = (grid, given, use) => attempt(async () => {
  const { rows, columns, height, width } = grid, number = state.active, { classes } = model().prior;
  const mine = sheet(), stroke = mine?.past.at(-1), before = openings();
  drawing = true;
  ready();
  say("The prior paints …");
  busy(0);
  try {
    const asked = wishes(rows, columns, given), found = await server.draw(number, asked);
    const pictures = found.map((indices) => ({ rows, columns, height, width, indices }));
    const canvases = await Promise.all(pictures.map((picture) =>
      server.decode(number, { ...picture, tokens: picture.indices }).then(toCanvas)));
    $("drawn").replaceChildren(...canvases.map((canvas, i) => {
      const card = Object.assign(document.createElement("button"), { type: "button", className: "card" });
      const label = asked.labels[i], name = label === null ? `Picture ${i + 1}` : classes[label];
      card.append(canvas, name);
      card.addEventListener("click", () => {
        if (state.active === number) use(pictures[i]);
      });
      return card;
    }));
    // What was opened or painted meanwhile stays.
    if (before === openings() && mine === sheet() && !mine?.stroke && mine?.past.at(-1) === stroke) {
      $("drawn").firstChild.click();
    }
    say("Click a picture to go on with it.");
    busy(null);
  } finally {
    drawing = false;
    ready();
  }
});

$("draw").addEventListener("click", () => {
  const [rows, columns] = model().prior.grids[0], { stride } = model(), number = state.active;
  draw({ rows, columns, height: rows * stride, width: columns * stride }, [],
    (picture) => openTokens(number, picture));
});

$("complete").addEventListener("click", () => {
  wanted = true; // the tokens that the prior paints are not to be kept
  const mine = sheet(), given = mine.tokens.slice(0, kept() * mine.columns);
  draw(mine, Array.from(given), ({ indices }) => {
    if (sheet() !== mine) return;
    mine.replace(indices);
    emit("painted");
    refresh(state.active);
  });
});

const kept = () => Math.min(sheet().rows, Math.max(0, Math.floor(Number($("keep").value) || 0)));

// The rows down to the last painted one, or half of them.
function proposal() {
  const { painted, columns, rows } = sheet(), last = painted.findLastIndex((code) => code >= 0);
  return last < 0 ? Math.floor(rows / 2) : Math.floor(last / columns) + 1;
}

function ready() {
  const { prior } = model();
  $("prior").hidden = !prior;
  if (!prior || !sheet()) return;
  const known = knows(sheet()), [rows, columns] = prior.grids[0], { stride } = model();
  $("draw").disabled = drawing;
  $("guidance").disabled = !prior.guided || $("label").value === "none";
  $("complete").disabled = drawing || !known;
  $("crop").hidden = known || !state.picture;
  $("crop").textContent = `Crop the picture to ${columns * stride}×${rows * stride}`;
  $("prior-note").textContent = known ? "" : `The prior paints pictures of ${columns * stride}×${rows * stride} pixels.`;
  $("keep").max = sheet().rows;
  if (!wanted) $("keep").value = proposal();
}

function classes() {
  const { classes: names } = model().prior ?? { classes: [] };
  $("label").replaceChildren(...(names.length ? [new Option("each in turn", "turn")] : []), new Option("none", "none"),
    ...names.map((name, i) => new Option(name, i)));
}

$("crop").addEventListener("click", () => {
  const [rows, columns] = model().prior.grids[0], { stride } = model();
  crop(columns * stride, rows * stride);
});
$("label").addEventListener("change", ready);
$("keep").addEventListener("input", () => { wanted = true; });
for (const id of ["temperature", "guidance"]) {
  $(id).addEventListener("input", () => { $(id).nextElementSibling.value = $(id).value; });
}
on("model", () => { classes(); ready(); });
on("opened", () => { wanted = false; ready(); });
on("painted", ready);
