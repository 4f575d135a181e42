// The map of the codebook: its codes by their first two principal components.
import { $, model, on, state } from "./state.js";
import { pick } from "./palette.js";

const spot = (code) => model().places[code].map((v) => 12 + v * ($("map").width - 24));

function draw() {
  if (!$("codebook").open || !model()) return;
  const canvas = $("map"), context = canvas.getContext("2d"), { color } = getComputedStyle(canvas);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const dot = (code, radius) => {
    context.beginPath();
    context.arc(...spot(code), radius, 0, 7);
  };
  context.fillStyle = color;
  model().places.forEach((_, code) => {
    context.globalAlpha = 0.15 + 0.85 * Math.sqrt(model().use[code]);
    dot(code, 4);
    context.fill();
  });
  context.globalAlpha = 1;
  context.strokeStyle = "#d55e00";
  context.lineWidth = 3;
  dot(state.brush, 8);
  context.stroke();
}

$("map").addEventListener("click", (event) => {
  const box = $("map").getBoundingClientRect(), scale = $("map").width / box.width;
  const far = model().places.map((_, code) => {
    const [x, y] = spot(code);
    return Math.hypot(x - (event.clientX - box.left) * scale, y - (event.clientY - box.top) * scale);
  });
  pick(far.indexOf(Math.min(...far)));
});
$("codebook").addEventListener("toggle", draw);
on("picked", draw);
