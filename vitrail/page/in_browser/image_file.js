// What an image file says about itself before anything is decoded: format, size, orientation. As
// data/images/image_header.py; a browser reads five of its seven formats.

const MAX_BYTES = 256 * 2 ** 20;
const MAX_PIXELS = 64_000_000;
const MAX_SIDE = 16_384;
const MAX_ASPECT = 1000;
const READABLE = "JPEG, PNG, WebP, BMP and GIF";
const FOREIGN = [
  ["II*\0", "a TIFF, which browsers do not read; vitrail predict does"],
  ["MM\0*", "a TIFF, which browsers do not read; vitrail predict does"],
  ["P5", "a PNM, which browsers do not read; vitrail predict does"],
  ["P6", "a PNM, which browsers do not read; vitrail predict does"],
  ["%PDF", "a PDF document"],
  ["PK\x03\x04", "a ZIP archive"],
  ["8BPS", "a Photoshop file"],
  ["\x1f\x8b", "gzip-compressed"],
];

/** {kind, width, height, orientation} of the file's bytes. Throws Error with the reason. */
export function inspect(bytes) {
  if (!bytes.length) throw new Error("empty file (0 bytes)");
  if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes; limit ${MAX_BYTES}`);
  const kind = kindOf(bytes);
  if (!kind) throw new Error(foreignReason(bytes));
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let found;
  try {
    found = READERS[kind](bytes, view);
  } catch (error) {
    if (error instanceof RangeError) throw new Error(`truncated file (${bytes.length} bytes)`);
    throw error;
  }
  checkSize(found.width, found.height);
  return { kind, orientation: 1, ...found };
}

function kindOf(bytes) {
  const head = text(bytes, 0, 12);
  if (head.startsWith("\xff\xd8\xff")) return "jpeg";
  if (head.startsWith("\x89PNG\r\n\x1a\n")) return "png";
  if (head.startsWith("RIFF") && head.slice(8) === "WEBP") return "webp";
  if (head.startsWith("GIF87a") || head.startsWith("GIF89a")) return "gif";
  return head.startsWith("BM") ? "bmp" : "";
}

function text(bytes, start, end) {
  return String.fromCharCode(...bytes.subarray(start, end));
}

function foreignReason(bytes) {
  const head = text(bytes, 0, 512);
  if (head.slice(4, 8) === "ftyp") return `is AVIF, HEIC or a video; accepted: ${READABLE}`;
  const known = FOREIGN.find(([magic]) => head.startsWith(magic));
  if (known) return `is ${known[1]}; accepted: ${READABLE}`;
  if (/<svg/i.test(head)) return `is SVG; accepted: ${READABLE}`;
  if (/^\s*(<!doctype html|<html)/i.test(head)) return "is an HTML page, not an image";
  if (/^[\t\n\r\x20-\x7e]*$/.test(head)) return "is text, not an image";
  return `is not an image in an accepted format (${READABLE})`;
}

function checkSize(width, height) {
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  const size = `${width} x ${height} px`;
  if (!(short >= 1)) throw new Error(`${size}; an image has at least one pixel`);
  if (width * height > MAX_PIXELS) throw new Error(`${width * height} pixels; limit ${MAX_PIXELS}`);
  if (long > MAX_SIDE) throw new Error(`${size}; a side has at most ${MAX_SIDE}`);
  if (long > MAX_ASPECT * short) throw new Error(`${size}; sides differ by more than ${MAX_ASPECT} times`);
}

const READERS = {
  png(bytes, view) {
    const found = { width: view.getUint32(16), height: view.getUint32(20) };
    for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
      if (text(bytes, at + 4, at + 8) !== "eXIf") continue;
      found.orientation = exifOrientation(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
      break;
    }
    return found;
  },
  gif: (bytes, view) => ({ width: view.getUint16(6, true), height: view.getUint16(8, true) }),
  bmp(bytes, view) {
    if (view.getUint32(14, true) === 12) {
      return { width: view.getUint16(18, true), height: view.getUint16(20, true) };
    }
    if (view.getUint32(2, true) > bytes.length) throw new Error("truncated file (its end is missing)");
    return { width: view.getInt32(18, true), height: Math.abs(view.getInt32(22, true)) };
  },
  webp(bytes, view) {
    if (view.getUint32(4, true) + 8 > bytes.length) throw new Error("truncated file (its end is missing)");
    const found = webpSize(bytes, view);
    for (let at = 12; at + 8 <= bytes.length; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) & 1)) {
      if (text(bytes, at, at + 4) !== "EXIF") continue;
      found.orientation = exifOrientation(bytes.subarray(at + 8, at + 8 + view.getUint32(at + 4, true)));
      break;
    }
    return found;
  },
  jpeg: readJpeg,
};

function webpSize(bytes, view) {
  const kind = text(bytes, 12, 16);
  if (kind === "VP8X") return { width: 1 + threeBytes(bytes, 24), height: 1 + threeBytes(bytes, 27) };
  if (kind === "VP8L") {
    const bits = view.getUint32(21, true);
    return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
  }
  if (kind !== "VP8 ") throw new Error("damaged WEBP file");
  return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
}

function threeBytes(bytes, at) {
  return bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
}

/** Of a JPEG also `kept`: the parts without metadata, so that no browser can turn or recolour it. */
function readJpeg(bytes, view) {
  const found = { kept: [bytes.subarray(0, 2)] };
  for (let at = 2; ; ) {
    const marker = at = jpegMarker(bytes, at);
    const code = bytes[marker + 1];
    if (code === 0xd8 || code === 0x01) { at = marker + 2; continue; }
    if (code === 0xd9) throw new Error("damaged JPEG file (no image data)");
    const end = marker + 2 + Math.max(2, view.getUint16(marker + 2));
    if (code === 0xda) { found.kept.push(bytes.subarray(marker)); found.scan = marker; break; }
    const body = bytes.subarray(marker + 4, end);
    if (code === 0xe1 && text(body, 0, 6) === "Exif\0\0") found.orientation ??= exifOrientation(body.subarray(6));
    if (code === 0xee && text(body, 0, 5) === "Adobe") found.isAdobe = true;
    if (isFrame(code)) readFrame(found, view, marker + 4);
    if (code !== 0xe1 && code !== 0xe2) found.kept.push(bytes.subarray(marker, end));
    at = end;
  }
  if (!found.width) throw new Error("damaged JPEG file (no frame)");
  if (found.components === 4 && !found.isAdobe) {
    throw new Error("a CMYK JPEG without Adobe's marker, whose colours browsers turn round; vitrail predict reads it");
  }
  if (!hasEnd(bytes, found.scan)) throw new Error(`truncated file (${bytes.length} bytes; its end is missing)`);
  found.orientation ??= 1;
  return found;
}

/** Where the next marker begins; bytes before it are skipped. */
function jpegMarker(bytes, from) {
  let at = from;
  while (at + 1 < bytes.length && (bytes[at] !== 0xff || bytes[at + 1] === 0xff || bytes[at + 1] === 0)) at += 1;
  if (at + 4 > bytes.length) throw new Error(`truncated file (${bytes.length} bytes; its end is missing)`);
  return at;
}

function isFrame(code) {
  return code >= 0xc0 && code <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(code);
}

function readFrame(found, view, at) {
  found.height ??= view.getUint16(at + 1);
  found.width ??= view.getUint16(at + 3);
  found.components ??= view.getUint8(at + 5);
}

/** Whether the pixels that begin at `scan` end; a small copy in the metadata has an end of its own. */
function hasEnd(bytes, scan) {
  for (let at = bytes.length - 2; at > scan; at -= 1) {
    if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
  }
  return false;
}

/** Tag 0x0112 of an EXIF block's first directory: 1 (upright) to 8; 1 where it is absent. */
export function exifOrientation(block) {
  const exif = text(block, 0, 6) === "Exif\0\0" ? block.subarray(6) : block;
  const order = text(exif, 0, 2);
  if (order !== "II" && order !== "MM") return 1;
  const [view, isLittle] = [new DataView(exif.buffer, exif.byteOffset, exif.byteLength), order === "II"];
  try {
    const at = view.getUint32(4, isLittle);
    for (let entry = 0; entry < view.getUint16(at, isLittle); entry += 1) {
      const place = at + 2 + 12 * entry;
      if (view.getUint16(place, isLittle) !== 0x0112) continue;
      const value = view.getUint16(place + 8, isLittle);
      return view.getUint16(place + 2, isLittle) === 3 && value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/** An image as in pillow_resize.js, turned as EXIF orientation 1..8 asks. */
export function upright(image, orientation) {
  if (orientation === 1) return image;
  const isTurned = orientation >= 5;
  const height = isTurned ? image.width : image.height;
  const width = isTurned ? image.height : image.width;
  const [flipsRows, flipsColumns] = [[3, 4, 7, 8].includes(orientation), [2, 3, 6, 7].includes(orientation)];
  const { data, step, channels } = image;
  const made = new Uint8Array(height * width * channels);
  for (let y = 0, to = 0; y < height; y += 1) {
    const row = flipsRows ? height - 1 - y : y;
    for (let x = 0; x < width; x += 1) {
      const column = flipsColumns ? width - 1 - x : x;
      const from = (isTurned ? column * image.width + row : row * image.width + column) * step;
      for (let c = 0; c < channels; c += 1, to += 1) made[to] = data[from + c];
    }
  }
  return { data: made, height, width, channels, step: channels };
}
