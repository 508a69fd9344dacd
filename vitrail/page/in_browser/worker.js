// The thread that decodes and computes, so that the page stays awake: one image at a time.
// It is sent {id, file} and answers {id, scores} or {id, error}; before that {ready, note} or
// {failed}, and {loaded, total} in bytes while the model comes.

import * as ort from "../../ort/ort.js";
import { decodeImage, readsBackExactly } from "./decode_image.js";
import { modelInput } from "./preprocess.js";
import { problemOf } from "./self_check.js";

const NOISE = "This browser changes the pixels that a page reads, against fingerprinting: answers for JPEG, WebP, GIF and BMP may differ a little. PNG files are exact.";
const site = new URL("../../", import.meta.url);
let about = null;
let session = null;
let last = start();

onmessage = ({ data: { id, file } }) => {
  last = last.then(() => answer(id, file));
};

async function start() {
  try {
    about = await (await got("site.json")).json();
    const files = [about.wasm, about.model];
    const total = files.reduce((sum, one) => sum + one.bytes, 0);
    const wasmBinary = await bytesOf(about.wasm, 0, total);
    const model = await bytesOf(about.model, about.wasm.bytes, total);
    Object.assign(ort.env.wasm, { numThreads: 1, proxy: false, wasmBinary });
    ort.env.logLevel = "error";
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    const problem = await problemOf(about.check, about.preprocess, scoresOf);
    if (problem) throw new Error(problem);
    postMessage({ ready: true, note: readsBackExactly() ? "" : NOISE });
  } catch (error) {
    session = null;
    postMessage({ failed: error.message || String(error) });
  }
}

async function got(name) {
  const answer = await fetch(new URL(name, site), { cache: "no-cache" }); // as it is now, or 304
  if (!answer.ok) throw new Error(`${name} cannot be loaded (${answer.status})`);
  return answer;
}

/** The bytes of a file of the site, and how far it has come. */
async function bytesOf({ file, bytes }, before, total) {
  const reader = (await got(file)).body.getReader();
  const made = new Uint8Array(bytes);
  for (let at = 0; ; ) {
    const { done, value } = await reader.read();
    if (done && at === bytes) return made;
    if (done || at + value.length > bytes) throw new Error(`${file} is not the file that was exported`);
    made.set(value, at);
    at += value.length;
    postMessage({ loaded: before + at, total });
  }
}

async function answer(id, file) {
  if (!session) return;
  try {
    postMessage({ id, scores: await scoresOf(modelInput(await decodeImage(file), about.preprocess)) });
  } catch (error) {
    postMessage({ id, error: reasonOf(error) });
  }
}

function reasonOf(error) {
  if (error.name === "NotReadableError") return "the file cannot be read any more";
  if (error instanceof RangeError) return "not enough memory to decode it";
  return error.message || String(error);
}

/** Probabilities (K,) of pixels (channels, height, width). */
async function scoresOf(pixels) {
  const { height, width, mean } = about.preprocess;
  const image = new ort.Tensor("float32", pixels, [1, mean.length, height, width]);
  const { probabilities } = await session.run({ image });
  return Array.from(probabilities.data);
}
