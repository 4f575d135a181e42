// The error and the bits, as they change.
import { $, model, on, sheet, state } from "./state.js";
import * as server from "./server.js";

const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const decibels = (psnr) => psnr === Infinity ? "none" : psnr ? `${number(psnr, 2)} dB` : "–";

function size() {
  const { tokens, width, height } = sheet(), { bits, channels, stride } = model();
  const total = tokens.length * bits, pixels = width * height;
  $("bytes").textContent = `${number(Math.ceil(total / 8))} bytes`;
  $("bytes-note").textContent = `${bits} bits for ${stride}×${stride} pixels, ` +
    `1/${number(pixels * channels * 8 / total)} of the pixels`;
  $("painted").textContent = number(sheet().changes);
  $("painted-note").textContent = `of ${number(tokens.length)} tokens`;
}

async function meanBits() {
  const asked = sheet(), { prior } = model();
  const known = prior?.grids.some(([rows, columns]) => rows === asked.rows && columns === asked.columns);
  $("prior-bits").hidden = !known;
  if (!known) return;
  const bits = await server.bits(state.active, asked).catch(() => null);
  if (asked !== sheet()) return;
  $("prior-bits").hidden = bits === null;
  if (bits === null) return;
  $("bits").textContent = `${number(bits)} bits`;
  $("bits-note").textContent = `under the prior, ${number(bits / asked.tokens.length, 2)} a token`;
}

on("painted", size);
on("decoded", (which) => {
  if (which !== state.active) return;
  $("error").textContent = decibels(sheet().psnr);
  $("error-note").textContent = state.picture ? "PSNR; higher is closer" : "there is no original";
  meanBits();
});
on("model", () => {
  if (!sheet()) return;
  $("error").textContent = decibels(sheet().psnr);
  meanBits();
});
