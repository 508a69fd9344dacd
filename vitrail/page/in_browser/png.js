// PNG to RGB pixels in plain code, because a browser's canvas cannot give them exactly:
// it multiplies by alpha, may apply gamma and profiles, and cuts 16 bits in its own way. The result
// is that of data/images/decode.py: transparency on white, 16-bit gray divided by 257 with rounding,
// other 16-bit samples cut to their high byte. Source: the PNG specification, third edition.

const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
const [GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA] = [0, 2, 3, 4, 6];
const WHOLE = [[0, 0, 1, 1]];
const ADAM7 = [ // first column, first row, columns and rows from one to the next
  [0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2],
];

/** {data, height, width, channels: 3, step: 3} of the file's bytes. Throws Error with the reason. */
export async function decodePng(bytes) {
  const { header, palette, transparency, parts } = readChunks(bytes);
  const passes = passesOf(header);
  const total = passes.reduce((sum, pass) => sum + pass.rows * (1 + pass.line), 0);
  const raw = await inflate(parts, total);
  const data = new Uint8Array(header.height * header.width * 3);
  const put = painter(header, palette, transparency, data);
  let at = 0;
  for (const pass of passes) {
    at = unpackPass(raw, at, pass, header, put);
  }
  return { data, height: header.height, width: header.width, channels: 3, step: 3 };
}

/** Header, palette, tRNS and the compressed parts. */
function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { header: null, palette: null, transparency: null, parts: [] };
  for (let at = 8; ; ) {
    if (at + 12 > bytes.length) throw new Error("truncated file (its end is missing)");
    const size = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + size);
    if (name === "IEND") break;
    if (at + 12 + size > bytes.length) throw new Error("truncated file (its end is missing)");
    if (name === "IDAT") found.parts.push(body);
    else if (checksum(bytes, at + 4, at + 8 + size) !== view.getUint32(at + 8 + size)) {
      throw new Error(`damaged PNG file (checksum of ${name})`);
    }
    if (name === "IHDR") found.header = readHeader(body, view, at + 8);
    if (name === "PLTE") found.palette = body;
    if (name === "tRNS") found.transparency = body;
    at += 12 + size;
  }
  if (!found.header || !found.parts.length) throw new Error("damaged PNG file (no image data)");
  if (found.header.type === PALETTE && !found.palette) throw new Error("damaged PNG file (no palette)");
  return found;
}

function readHeader(body, view, at) {
  const header = {
    width: view.getUint32(at), height: view.getUint32(at + 4),
    depth: body[8], type: body[9], isInterlaced: body[12] === 1,
  };
  if (!DEPTHS[header.type]?.includes(header.depth) || body[10] || body[11] || body[12] > 1) {
    throw new Error("damaged PNG file (header)");
  }
  return header;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

/** CRC-32 of bytes from `start` to `end`. */
export function checksum(bytes, start, end) {
  let value = 0xffffffff;
  for (let at = start; at < end; at += 1) value = CRC_TABLE[(value ^ bytes[at]) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

/** The passes with pixels: where they begin, how far apart, their size and bytes a line. */
function passesOf({ width, height, depth, type, isInterlaced }) {
  const found = (isInterlaced ? ADAM7 : WHOLE).map(([left, top, across, down]) => {
    const columns = Math.ceil((width - left) / across);
    const rows = Math.ceil((height - top) / down);
    const line = Math.ceil((columns * SAMPLES[type] * depth) / 8);
    return { left, top, across, down, columns, rows, line };
  });
  return found.filter(({ columns, rows }) => columns > 0 && rows > 0);
}

/** Exactly `total` bytes of a zlib stream; what follows is not looked at. */
async function inflate(parts, total) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const made = new Uint8Array(total);
  let at = 0;
  try {
    while (at < total) {
      const { done, value } = await reader.read();
      if (done) break;
      made.set(value.subarray(0, total - at), at);
      at += value.length;
    }
  } catch {
    throw new Error("damaged PNG file (its data cannot be unpacked)");
  }
  reader.cancel().catch(() => {}); // it may end in an error that no pixel depends on
  if (at < total) throw new Error("truncated file (pixels are missing)");
  return made;
}

/** Undo the filters of a pass line by line and paint it. Returns where the next one begins. */
function unpackPass(raw, first, pass, header, put) {
  const apart = Math.max(1, (SAMPLES[header.type] * header.depth) >> 3);
  let before = new Uint8Array(pass.line);
  let at = first;
  for (let row = 0; row < pass.rows; row += 1) {
    const line = raw.subarray(at + 1, at + 1 + pass.line);
    unfilter(raw[at], line, before, apart);
    const to = (pass.top + row * pass.down) * header.width + pass.left;
    for (let x = 0; x < pass.columns; x += 1) put(line, x, to + x * pass.across);
    before = line;
    at += 1 + pass.line;
  }
  return at;
}

function unfilter(kind, line, above, apart) {
  if (kind > 4) throw new Error("damaged PNG file (unknown filter)");
  if (kind === 0) return;
  for (let at = 0; at < line.length; at += 1) {
    const left = at < apart ? 0 : line[at - apart];
    const corner = at < apart ? 0 : above[at - apart];
    line[at] += guess(kind, left, above[at], corner);
  }
}

function guess(kind, left, up, corner) {
  if (kind === 1) return left;
  if (kind === 2) return up;
  if (kind === 3) return (left + up) >> 1;
  const middle = left + up - corner;
  const [toLeft, toUp, toCorner] = [Math.abs(middle - left), Math.abs(middle - up), Math.abs(middle - corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/** What paints pixel x of a line at a place of the image. */
function painter(header, palette, transparency, data) {
  const set = (place, red, green, blue) => {
    data[place * 3] = red;
    data[place * 3 + 1] = green;
    data[place * 3 + 2] = blue;
  };
  const over = (place, red, green, blue, alpha) =>
    set(place, onWhite(red, alpha), onWhite(green, alpha), onWhite(blue, alpha));
  if (header.type === PALETTE) return paletted(header.depth, palette, transparency, over);
  if (header.type === GRAY) return grays(header.depth, transparency, set);
  const step = header.depth >> 3; // of 16 bits the first byte
  if (header.type === RGB) return colours(step, transparency, set);
  if (header.type === GRAY_ALPHA) {
    return (line, x, place) => {
      const at = x * 2 * step;
      over(place, line[at], line[at], line[at], line[at + step]);
    };
  }
  return (line, x, place) => {
    const at = x * 4 * step;
    over(place, line[at], line[at + step], line[at + 2 * step], line[at + 3 * step]);
  };
}

/** A sample of 1 to 8 bits. */
function sampleAt(line, x, depth) {
  if (depth === 8) return line[x];
  const bit = x * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

function grays(depth, transparency, set) {
  const clear = transparency && transparency.length >= 2 ? transparency[0] * 256 + transparency[1] : -1;
  if (depth === 16) {
    return (line, x, place) => {
      const deep = line[2 * x] * 256 + line[2 * x + 1];
      const value = deep === clear ? 255 : Math.trunc((deep + 128) / 257);
      set(place, value, value, value);
    };
  }
  const factor = 255 / ((1 << depth) - 1);
  const hidden = depth === 1 && clear > 0 ? 255 : clear;
  return (line, x, place) => {
    const value = sampleAt(line, x, depth) * factor;
    const shown = value === hidden ? 255 : value;
    set(place, shown, shown, shown);
  };
}

function colours(step, transparency, set) {
  const clear = transparency && transparency.length >= 6
    ? [0, 2, 4].map((at) => transparency[at] * 256 + transparency[at + 1]) : null;
  return (line, x, place) => {
    const at = x * 3 * step;
    const [red, green, blue] = [line[at], line[at + step], line[at + 2 * step]];
    const isClear = clear && red === clear[0] && green === clear[1] && blue === clear[2];
    if (isClear) set(place, 255, 255, 255);
    else set(place, red, green, blue);
  };
}

function paletted(depth, palette, transparency, over) {
  const count = Math.floor(palette.length / 3);
  return (line, x, place) => {
    const index = sampleAt(line, x, depth);
    const alpha = transparency && index < transparency.length ? transparency[index] : 255;
    const at = index * 3;
    if (index < count) over(place, palette[at], palette[at + 1], palette[at + 2], alpha);
    else over(place, 0, 0, 0, alpha);
  };
}

/** A value over white, rounded as Pillow's alpha_composite does. */
function onWhite(value, alpha) {
  if (alpha === 255) return value;
  const sum = (value * alpha + 255 * (255 - alpha)) * 128 + 0x4000;
  return ((sum >> 8) + sum) >> 15;
}
