// Questions to the server. Those about a model name it, in case that another one is served by now.
import { state } from "./state.js";

async function ask(path, options) {
  let response;
  try { response = await fetch(path, options); }
  catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is rotvq serve still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Error(answer.error || `The server responded with status ${response.status}.`);
}

const post = (path, body, signal) => ask(path, { method: "POST", body, signal });
const json = (response) => response.json();
const blob = (response) => response.blob();
const grid = ({ height, width, tokens }) =>
  JSON.stringify({ height, width, indices: Array.from(tokens) });

const of = (model) => `model=${model}&of=${state.models[model].model}`;

export const about = () => ask("about").then(json);
export const codes = (model) => ask(`codes.png?model=${model}`).then(blob).then(createImageBitmap);
export const photograph = (name) => ask(`photographs/${name}.png`).then(blob);
export const openPicture = (file) => post("open", file).then(blob);
export const openTokens = (file) => post("open-tokens", file).then(json);
export const encode = (model, png, effort = 0, search = 0, signal) =>
  post(`encode?${of(model)}&effort=${effort}&search=${search}`, png, signal).then(json);
export const progress = (search) =>
  ask(`progress?search=${search}`).then(json).then((answer) => answer.share);
export const decode = (model, sheet) => post(`decode?${of(model)}`, grid(sheet)).then(blob);
export const tokenFile = (model, sheet) => post(`tokens?${of(model)}`, grid(sheet)).then(blob);
export const bits = (model, sheet) =>
  post(`bits?${of(model)}`, grid(sheet)).then(json).then((answer) => answer.bits);
export const draw = (model, wishes) =>
  post(`draw?${of(model)}`, JSON.stringify(wishes)).then(json).then((answer) => answer.pictures);
