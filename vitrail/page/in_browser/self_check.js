// Before the page answers: one made-up image through resize, crop and model must give what `vitrail
// predict` gave for it when the page was exported. It catches a browser, a server or a damaged file
// that would answer otherwise. export/web/site_record.py makes the same image.

import { checksum } from "./png.js";
import { modelInput } from "./preprocess.js";

/** Height x width pixels, the same everywhere: no level of them is a matter of rounding. */
export function checkImage(height, width) {
  const data = new Uint8Array(height * width * 3);
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let c = 0; c < 3; c += 1, to += 1) data[to] = (7 * x + 13 * y + 29 * c + x * y) & 255;
    }
  }
  return { data, height, width, channels: 3, step: 3 };
}

/** What is wrong, "" where nothing is. scoresOf(pixels) -> probabilities. */
export async function problemOf(check, record, scoresOf) {
  const pixels = modelInput(checkImage(check.height, check.width), record);
  const bytes = new Uint8Array(pixels.buffer);
  if (checksum(bytes, 0, bytes.length) !== check.input) {
    return "this browser resizes the image of the self-check otherwise than vitrail predict";
  }
  const scores = await scoresOf(pixels);
  const apart = Math.max(...scores.map((score, at) => Math.abs(score - check.scores[at])));
  if (scores.length === check.scores.length && apart <= check.limit) return "";
  return `the model answers the self-check otherwise than vitrail predict (by ${apart.toPrecision(2)}; limit ${check.limit})`;
}
