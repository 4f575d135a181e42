// Tokens become pixels, and pixels an error. One request for each model at a time: what changes
// meanwhile is sent together in the next one.
import { $, attempt, emit, state } from "./state.js";
import { psnr, toCanvas } from "./pixels.js";
import * as server from "./server.js";

const running = new Set(), waiting = new Set();
const tell = () => { $("decoded").ariaBusy = running.size > 0; };

export async function refresh(number) {
  if (running.has(number)) { waiting.add(number); return; }
  running.add(number);
  tell();
  do {
    waiting.delete(number);
    await attempt(async () => {
      const sheet = state.sheets[number];
      if (!sheet) return;
      const canvas = await toCanvas(await server.decode(number, sheet));
      if (sheet !== state.sheets[number]) return;
      sheet.decoded = canvas;
      sheet.psnr = state.picture && psnr(state.picture.canvas, canvas, state.models[number].channels);
      emit("decoded", number);
    });
  } while (waiting.has(number));
  running.delete(number);
  tell();
}
