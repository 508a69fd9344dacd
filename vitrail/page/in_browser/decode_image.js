// An image file to upright RGB pixels, as `vitrail predict` has them. PNG is read here; the rest is
// decoded by the browser, without turning, colour profiles or alpha of its own, and read back from a
// canvas in bands. What may differ from predict: a JPEG or WebP by one level where the browser's
// decoder rounds otherwise, a half transparent WebP likewise.

import { inspect, upright } from "./image_file.js";
import { decodePng } from "./png.js";

const BAND_PIXELS = 2 ** 22;
const AS_STORED = { colorSpaceConversion: "none", imageOrientation: "none" };

/** {data, height, width, channels: 3, step: 3} of a Blob. Throws Error with the reason. */
export async function decodeImage(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const found = inspect(bytes);
  const image = found.kind === "png" ? await decodePng(bytes) : await byBrowser(bytes, found);
  return upright(image, found.orientation);
}

async function byBrowser(bytes, { kind, kept, width, height }) {
  const bitmap = await bitmapOf(new Blob(kept ?? [bytes], { type: `image/${kind}` }), kind);
  try {
    if (bitmap.width !== width || bitmap.height !== height) {
      throw new Error(`damaged ${kind.toUpperCase()} file (two sizes)`);
    }
    return pixelsOf(bitmap);
  } finally {
    bitmap.close();
  }
}

async function bitmapOf(blob, kind) {
  try {
    return await createImageBitmap(blob, AS_STORED);
  } catch {
    throw new Error(`damaged ${kind.toUpperCase()} file`);
  }
}

/** RGB on white, read in bands: a canvas has a largest area, and a band is soon forgotten. */
function pixelsOf(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.min(height, Math.max(1, Math.floor(BAND_PIXELS / width)));
  const canvas = new OffscreenCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const data = new Uint8Array(width * height * 3);
  for (let top = 0; top < height; top += rows) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const shown = context.getImageData(0, 0, width, Math.min(rows, height - top)).data;
    withoutAlpha(shown, data, top * width * 3);
  }
  return { data, height, width, channels: 3, step: 3 };
}

function withoutAlpha(shown, data, first) {
  for (let from = 0, to = first; from < shown.length; from += 4, to += 3) {
    data[to] = shown[from];
    data[to + 1] = shown[from + 1];
    data[to + 2] = shown[from + 2];
  }
}

/** Whether this browser gives back what was drawn: some add noise against fingerprinting. */
export function readsBackExactly() {
  const wanted = Uint8ClampedArray.from({ length: 4 * 16 * 16 }, (_, at) => (at % 4 === 3 ? 255 : (at * 89) % 256));
  const context = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  context.putImageData(new ImageData(wanted, 16, 16), 0, 0);
  return context.getImageData(0, 0, 16, 16).data.every((value, at) => value === wanted[at]);
}
