// Zoom of the two pictures, which scroll together.
import { $, on, sheet } from "./state.js";

const SCALES = [1, 1.5, 2, 3, 4, 6, 8];
let scale = 1;

const frames = [...document.querySelectorAll(".frame")];

function zoom(to) {
  const before = scale;
  scale = to;
  $("zoom").value = `${scale * 100} %`;
  $("smaller").disabled = scale === SCALES[0];
  $("larger").disabled = scale === SCALES[SCALES.length - 1];
  for (const frame of frames) {
    const x = (frame.scrollLeft + frame.clientWidth / 2) / before, y = (frame.scrollTop + frame.clientHeight / 2) / before;
    frame.style.setProperty("--zoom", scale);
    frame.scrollTo(x * scale - frame.clientWidth / 2, y * scale - frame.clientHeight / 2);
  }
}

const step = (by) => zoom(SCALES[Math.min(SCALES.length - 1, Math.max(0, SCALES.indexOf(scale) + by))]);

$("larger").addEventListener("click", () => step(1));
$("smaller").addEventListener("click", () => step(-1));
for (const frame of frames) {
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    step(event.deltaY < 0 ? 1 : -1);
  }, { passive: false });
  frame.addEventListener("scroll", () => {
    for (const other of frames) {
      if (other !== frame) other.scrollTo(frame.scrollLeft, frame.scrollTop);
    }
  });
}
// With the hand, a mouse drags; fingers scroll by themselves.
$("tokens").addEventListener("pointermove", (event) => {
  if ($("tokens").dataset.tool !== "move" || event.pointerType === "touch" || !event.buttons) return;
  $("tokens").closest(".frame").scrollBy(-event.movementX, -event.movementY);
});
on("opened", () => {
  for (const frame of frames) frame.style.setProperty("--ratio", sheet().width / sheet().height);
  zoom(1);
});
