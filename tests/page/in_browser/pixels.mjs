// Reads cases from standard input, one JSON document a line, and writes their results in order.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const site = pathToFileURL(process.argv[2] + "/").href;
const { pillowResize } = await import(site + "pillow_resize.js");
const { tfResize } = await import(site + "tf_resize.js");
const { modelInput } = await import(site + "preprocess.js");
const { checksum, decodePng } = await import(site + "png.js");
const { checkImage } = await import(site + "self_check.js");
const { inspect, upright } = await import(site + "image_file.js");

const bytesOf = (text) => new Uint8Array(Buffer.from(text, "base64"));
const image = ({ data, height, width, channels, step }) => ({
  data: bytesOf(data), height, width, channels, step: step ?? channels,
});
const encoded = (values) =>
  Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");

const actions = {
  pillow: ({ picture, height, width, kind }) =>
    encoded(pillowResize(image(picture), height, width, kind).data),
  tensorflow: ({ picture, height, width, method }) =>
    encoded(tfResize(image(picture), height, width, method)),
  input: ({ picture, record }) => encoded(modelInput(image(picture), record)),
  async png({ data }) {
    const bytes = bytesOf(data);
    const { orientation } = inspect(bytes);
    const { data: pixels, height, width } = upright(await decodePng(bytes), orientation);
    return { height, width, data: encoded(pixels) };
  },
  check({ height, width, record }) {
    const pixels = modelInput(checkImage(height, width), record);
    return checksum(new Uint8Array(pixels.buffer), 0, pixels.byteLength);
  },
  checkImage: ({ height, width }) => [...checkImage(height, width).data],
  inspect({ data }) {
    const { kept, scan, ...found } = inspect(bytesOf(data));
    return found;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { action, ...values } = JSON.parse(line);
  let result;
  try {
    result = await actions[action](values);
  } catch (error) {
    result = { error: error.message };
  }
  process.stdout.write(JSON.stringify(result) + "\n");
}
