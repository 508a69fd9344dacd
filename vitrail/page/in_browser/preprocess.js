// From pixels to what the model takes, as the record of the model says (preprocess.json): resize,
// crop, planes. Mean and standard deviation are in the graph.

import { pillowResize } from "./pillow_resize.js";
import { tfResize } from "./tf_resize.js";

/** Float32Array (channels, height, width), 0 to 255, of an image as in pillow_resize.js. */
export function modelInput(image, record) {
  const channels = record.mean.length;
  const shown = channels === 1 && image.channels === 3 ? gray(image) : image;
  const [height, width] = resizedSize(image.height, image.width, record);
  const data = resized(shown, height, width, record);
  const step = record.resizer === "tensorflow" ? shown.channels : data.step;
  const pixels = { data: data.data ?? data, width, step, channels: shown.channels };
  return planes(pixels, offset(height - record.height, record), offset(width - record.width, record), record);
}

function resized(image, height, width, record) {
  if (record.resizer !== "tensorflow") {
    return pillowResize(image, height, width, record.interpolation);
  }
  const isSmooth = record.interpolation === "bilinear" && record.antialias;
  const method = isSmooth ? "bilinear_antialias" : record.interpolation;
  const values = tfResize(image, height, width, method);
  return record.keep_floats ? values : values.map(Math.trunc);
}

/** Luma of ITU-R 601-2 in 16 bits, as Pillow's mode L. */
function gray({ data, height, width, step }) {
  const made = new Uint8Array(height * width);
  for (let pixel = 0, at = 0; pixel < made.length; pixel += 1, at += step) {
    made[pixel] = (data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000) >> 16;
  }
  return { data: made, height, width, channels: 1, step: 1 };
}

/** [height, width] to which an image of that size is resized before the crop. */
export function resizedSize(height, width, record) {
  const { resize } = record;
  if (Array.isArray(resize)) return resize;
  const short = Math.min(height, width);
  if (record.height === record.width && record.resizer === "tensorflow") {
    const factor = Math.fround(Math.fround(resize) / Math.fround(short));
    return [height, width].map((side) => roundHalfEven(Math.fround(Math.fround(side) * factor)));
  }
  if (record.height === record.width) {
    return [height, width].map((side) => Math.trunc((resize * side) / short));
  }
  const scale = resize / Math.min(record.height, record.width);
  const ratio = Math.min(height / (scale * record.height), width / (scale * record.width));
  return [
    Math.max(record.height, roundHalfEven(height / ratio)),
    Math.max(record.width, roundHalfEven(width / ratio)),
  ];
}

/** Python's round. */
function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

function offset(room, record) {
  return record.crop === "center_floor" ? Math.floor(room / 2) : roundHalfEven(room / 2);
}

/** The crop as (channels, height, width); one channel is repeated where the model wants three. */
function planes({ data, width, step, channels: found }, top, left, record) {
  const channels = record.mean.length;
  const size = record.height * record.width;
  const made = new Float32Array(channels * size);
  for (let y = 0, to = 0; y < record.height; y += 1) {
    for (let x = 0; x < record.width; x += 1, to += 1) {
      const from = ((top + y) * width + left + x) * step;
      for (let c = 0; c < channels; c += 1) made[c * size + to] = data[from + Math.min(c, found - 1)];
    }
  }
  return made;
}
