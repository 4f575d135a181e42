// The page: its models, then a picture, or the tokens of a link.
import { $, attempt, busy, emit, model, say, state } from "./state.js";
import "./painting.js";
import "./zoom.js";
import "./compare.js";
import "./models.js";
import "./save.js";
import "./map.js";
import "./prior.js";
import { fromFragment } from "./link.js";
import { open, openTokens } from "./opening.js";
import * as server from "./server.js";

function photographs(names) {
  $("photographs").replaceChildren(...names.map((name) => {
    const button = document.createElement("button"), picture = new Image(48, 32);
    Object.assign(picture, { src: `photographs/${name}.png`, alt: `Photograph: ${name}` });
    Object.assign(button, { type: "button", className: "photograph" });
    button.addEventListener("click", () => attempt(async () => open(await server.photograph(name))));
    button.append(picture);
    return button;
  }));
}

// Whether the address holds tokens.
function openLink() {
  const found = fromFragment(location.hash, state.models);
  if (found) openTokens(found.number, found.tokens);
  return Boolean(found);
}

attempt(async () => {
  const { models, photographs: names, accepted, efforts, largest } = await server.about();
  state.largest = largest;
  $("file").accept = accepted.join();
  $("effort").max = efforts - 1;
  photographs(names);
  const atlases = await Promise.all(models.map((_, i) => server.codes(i)));
  state.models = models.map((each, i) => ({ ...each, atlas: atlases[i] }));
  emit("model");
  addEventListener("hashchange", () => attempt(openLink));
  let problem;
  try {
    if (openLink()) return;
  } catch (error) { problem = error; }
  if (names.length) await open(await server.photograph(names[0]));
  else {
    busy(null);
    say(`Drop a picture on this page, or open one, to see it in the codes of ${model().name}.`);
  }
  if (problem) throw problem;
});
// Paint is lost with the page.
addEventListener("beforeunload", (event) => {
  if (state.sheets.some((each) => each?.changes)) event.preventDefault();
});
