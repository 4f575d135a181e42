// Several models: which one is painted with, and what each makes of the picture.
import { $, emit, model, on, sheet, state } from "./state.js";
import { decibels } from "./numbers.js";

const facts = ({ codebook_size, bits, stride }) =>
  `${codebook_size.toLocaleString("en")} codes: ${bits} bits for each ${stride}×${stride} pixels`;

export function choose(number) {
  if (!state.sheets[number] && state.sheets.length) return;
  const before = sheet(), token = state.selected;
  state.active = number;
  // The token at the same place of the picture.
  if (before) {
    const { rows, columns } = sheet(), scaled = (i, from, to) => Math.floor((i + 0.5) * to / from);
    state.selected = scaled(Math.floor(token / before.columns), before.rows, rows) * columns +
      scaled(token % before.columns, before.columns, columns);
  }
  emit("model");
}

// Replace what a parent holds; the keyboard stays where it was.
function rebuild(parent, children) {
  const focused = [...parent.children].findIndex((each) => each.contains(document.activeElement));
  parent.replaceChildren(...children);
  (children[focused]?.querySelector("input") ?? children[focused])?.focus();
}

function tabs() {
  rebuild($("models"), state.models.map((each, i) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "model", checked: i === state.active });
    input.disabled = state.sheets.length > 0 && !state.sheets[i];
    input.addEventListener("change", () => choose(i));
    label.append(input, each.name);
    return label;
  }));
  $("models").classList.toggle("single", state.models.length === 1);
  $("about").textContent = facts(model());
}

function cards() {
  $("side-by-side").hidden = state.models.length < 2 || !state.picture;
  rebuild($("cards"), state.models.map((each, i) => {
    const card = document.createElement("button"), canvas = document.createElement("canvas");
    const { decoded, psnr, tokens } = state.sheets[i] ?? {};
    Object.assign(card, { type: "button", className: "card" });
    card.setAttribute("aria-pressed", i === state.active);
    card.addEventListener("click", () => choose(i));
    if (decoded) {
      Object.assign(canvas, { width: decoded.width, height: decoded.height });
      canvas.getContext("2d").drawImage(decoded, 0, 0);
    }
    const name = document.createElement("b"), note = document.createElement("span");
    name.textContent = each.name;
    note.textContent = tokens ? `${decibels(psnr)} · ${Math.ceil(tokens.length * each.bits / 8).toLocaleString("en")} bytes` : "";
    card.append(canvas, name, note);
    return card;
  }));
}

for (const event of ["opened", "model"]) on(event, () => { tabs(); cards(); });
on("decoded", () => { if (state.models.length > 1) cards(); });
