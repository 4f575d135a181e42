// Pixels of pictures.
export function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

export async function toCanvas(png) {
  const bitmap = await createImageBitmap(png), canvas = canvasOf(bitmap.width, bitmap.height);
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  return canvas;
}

export const toPng = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));

const data = (canvas) => canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, canvas.width, canvas.height).data;

// The peak signal-to-noise ratio in decibels; with one channel, that of a gray original.
export function psnr(one, other, channels) {
  const a = data(one), b = data(other);
  let sum = 0;
  if (channels === 1) {
    for (let i = 0; i < a.length; i += 4) { // as the server converts it
      a[i] = a[i + 1] = a[i + 2] = (19595 * a[i] + 38470 * a[i + 1] + 7471 * a[i + 2] + 32768) >> 16;
    }
  }
  for (let i = 0; i < a.length; i++) {
    const difference = a[i] - b[i]; // the alpha of both is 255
    sum += difference * difference;
  }
  return 10 * Math.log10(255 ** 2 / (sum / (a.length * 3 / 4)));
}

// The middle of a picture, cut to a shape and reduced to it.
export function cropped(canvas, width, height) {
  const scale = Math.min(canvas.width / width, canvas.height / height);
  const w = width * scale, h = height * scale, target = canvasOf(width, height);
  const context = target.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h, 0, 0, width, height);
  return target;
}
