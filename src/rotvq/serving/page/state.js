// What the page shows, and who is told when it changes.
export const $ = (id) => document.getElementById(id);

export const state = {
  models: [],     // as /about describes them, each with its `atlas` of codes
  active: 0,      // the model that is painted with
  picture: null,  // the original: { png, canvas }, or null for tokens without one
  sheets: [],     // the tokens of the picture with each model; null if opened tokens are another's
  selected: 0,    // the token under the keyboard
  brush: null,    // the code that is picked
  largest: 0,     // bytes of a file that the server reads
};

export const model = () => state.models[state.active];
export const sheet = () => state.sheets[state.active];

// Events: opened (another picture), model (another active model), painted (tokens changed),
// decoded (pixels of a sheet, its model's number as argument), picked (another code).
const listeners = {};

export function on(event, listener) {
  (listeners[event] ??= []).push(listener);
}

export function emit(event, detail) {
  for (const listener of listeners[event] ?? []) listener(detail);
}

export function say(text, error = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", error);
}

// A bar while something takes long: the share of it that is done, 0 if that is not known, or null.
export function busy(share) {
  $("progress").hidden = share === null;
  if (share) $("progress").value = share;
  else $("progress").removeAttribute("value");
}

// Run an action of the user; what goes wrong is shown.
export async function attempt(action) {
  try { return await action(); }
  catch (error) {
    if (error.name === "AbortError") return undefined;
    busy(null);
    return say(error.message, true);
  }
}
