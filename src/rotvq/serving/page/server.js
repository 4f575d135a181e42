// Questions to the server.
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

export const about = () => ask("about").then(json);
export const codes = (model) => ask(`codes.png?model=${model}`).then(blob).then(createImageBitmap);
export const photograph = (name) => ask(`photographs/${name}.png`).then(blob);
export const openPicture = (file) => post("open", file).then(blob);
export const openTokens = (file) => post("open-tokens", file).then(json);
export const encode = (model, png, effort = 0, search = 0, signal) =>
  post(`encode?model=${model}&effort=${effort}&search=${search}`, png, signal).then(json);
export const progress = (search) =>
  ask(`progress?search=${search}`).then(json).then((answer) => answer.share);
export const decode = (model, sheet) => post(`decode?model=${model}`, grid(sheet)).then(blob);
export const tokenFile = (model, sheet) => post(`tokens?model=${model}`, grid(sheet)).then(blob);
export const bits = (model, sheet) =>
  post(`bits?model=${model}`, grid(sheet)).then(json).then((answer) => answer.bits);
export const draw = (model, wishes) =>
  post(`draw?model=${model}`, JSON.stringify(wishes)).then(json).then((answer) => answer.pictures);
