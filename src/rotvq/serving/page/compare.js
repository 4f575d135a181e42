// The decoded picture, the left of it covered by the original or by what another model decodes.
import { $, on, sheet, state } from "./state.js";

function choices() {
  const others = state.models.map((each, i) => [String(i), each.name]);
  const all = [...(state.picture ? [["original", "Original"]] : []),
    ...others.filter(([i]) => Number(i) !== state.active && state.sheets[i])];
  const before = $("against").value;
  $("against").replaceChildren(...all.map(([value, name]) => new Option(name, value)));
  if (all.some(([value]) => value === before)) $("against").value = before;
  $("with").hidden = all.length < 2;
}

function draw() {
  const { decoded } = sheet() ?? {}, which = $("against").value;
  if (!decoded) return;
  const left = which === "original" ? state.picture?.canvas : state.sheets[which]?.decoded;
  copy(decoded, $("decoded"));
  copy(left, $("left"));
  for (const part of [$("left"), $("handle")]) part.hidden = !left;
  $("slider").disabled = !left;
  $("left-name").textContent = $("against").selectedOptions[0]?.text ?? "No original";
}

function copy(from, to) {
  if (!from) return;
  to.width = from.width;
  to.height = from.height;
  to.getContext("2d").drawImage(from, 0, 0);
}

function slide(share) {
  $("slider").value = 100 * share;
  $("compared").style.setProperty("--at", `${$("slider").value}%`);
}

function drag(event) {
  if (!event.buttons) return;
  const box = $("compared").getBoundingClientRect();
  slide((event.clientX - box.left) / box.width);
}

$("compared").addEventListener("pointerdown", (event) => {
  $("compared").setPointerCapture(event.pointerId);
  drag(event);
});
$("compared").addEventListener("pointermove", drag);
$("slider").addEventListener("input", () => slide($("slider").value / 100));
$("against").addEventListener("change", draw);
for (const event of ["opened", "model"]) on(event, () => { choices(); draw(); });
on("decoded", draw);
