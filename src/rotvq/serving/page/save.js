// The picture and its tokens as files, and as a link.
import { $, attempt, model, on, say, sheet, state } from "./state.js";
import { toFragment } from "./link.js";
import * as server from "./server.js";

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

$("save").addEventListener("click", () => attempt(async () => {
  download(await server.decode(state.active, sheet()), "decoded.png");
}));
$("save-tokens").addEventListener("click", () => attempt(async () => {
  download(await server.tokenFile(state.active, sheet()), "tokens.npz");
  say("Saved tokens.npz. Open it here again, or decode it with rotvq decode tokens.npz.");
}));
$("share").addEventListener("click", () => attempt(async () => {
  history.replaceState(null, "", toFragment(model(), sheet()));
  $("link").value = location.href;
  $("link").hidden = false;
  $("link").select();
  // Browsers give pages the clipboard only on this machine or over HTTPS.
  const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  say(copied ? "Copied a link that holds the tokens." : "This link holds the tokens. Copy it.");
}));
on("decoded", (number) => {
  if (number === state.active) for (const id of ["save", "save-tokens", "share"]) $(id).disabled = false;
});
on("painted", () => { $("link").hidden = true; });
