// Tokens in the fragment of a link, which browsers keep to themselves:
// #VERSION.MODEL.HEIGHTxWIDTH.TOKENS, the tokens as base64url of their bits, highest first.
const VERSION = "t1", MOST = 4096; // bytes

const width = (codes) => Math.max(1, Math.ceil(Math.log2(codes)));

function pack(tokens, bits) {
  const bytes = new Uint8Array(Math.ceil(tokens.length * bits / 8));
  tokens.forEach((token, i) => {
    for (let bit = 0; bit < bits; bit++) {
      const place = i * bits + bit;
      if (token >> (bits - 1 - bit) & 1) bytes[place >> 3] |= 128 >> (place & 7);
    }
  });
  return bytes;
}

function unpack(bytes, bits, count) {
  return Array.from({ length: count }, (_, i) => {
    let token = 0;
    for (let bit = 0; bit < bits; bit++) {
      const place = i * bits + bit;
      token = token << 1 | bytes[place >> 3] >> (7 - (place & 7)) & 1;
    }
    return token;
  });
}

export function toFragment(model, sheet) {
  const bytes = pack(sheet.tokens, width(model.codebook_size));
  if (bytes.length > MOST) {
    throw new Error(`A link holds at most ${MOST.toLocaleString("en")} bytes of tokens; this picture ` +
      `has ${bytes.length.toLocaleString("en")}. Save its tokens, or open a smaller picture.`);
  }
  const text = btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
  return `#${VERSION}.${model.model}.${sheet.height}x${sheet.width}.${text.replace(/=+$/, "")}`;
}

// The number of the model and its tokens, or null if the fragment is none of ours.
export function fromFragment(fragment, models) {
  const [version, name, size, text] = fragment.slice(1).split(".");
  if (version !== VERSION) return null;
  const number = models.findIndex((model) => model.model === name);
  if (number < 0) {
    throw new Error(`This link needs the model ${name}. Serve that model, then open the link again.`);
  }
  const { codebook_size, stride } = models[number], bits = width(codebook_size);
  const [height, wide] = (/^\d+x\d+$/.test(size) ? size : "0x0").split("x").map(Number);
  const rows = Math.ceil(height / stride), columns = Math.ceil(wide / stride);
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt());
  } catch { bytes = []; }
  if (!rows || !columns || bytes.length !== Math.ceil(rows * columns * bits / 8)) {
    throw new Error("This link is incomplete: it was cut off or changed. Copy it again.");
  }
  const indices = unpack(bytes, bits, rows * columns);
  return { number, tokens: { height, width: wide, rows, columns, indices } };
}
