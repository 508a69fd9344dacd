// TensorFlow's resize as data/images/tf_resize.py has it, bit for bit: every step in float32.
// Images as in pillow_resize.js. Results are Float32Array (height, width, channels), not rounded.

const f = Math.fround;

/** The image in height x width. method: "bilinear", "bilinear_antialias" or "area". */
export function tfResize(image, height, width, method) {
  const plain = floats(image);
  if (image.height === height && image.width === width) return plain.data;
  if (method === "bilinear") return bilinear(plain, height, width);
  if (method === "bilinear_antialias") {
    const rows = gatherRows(plain, triangleSpans(image.height, height));
    return gatherColumns(rows, triangleSpans(image.width, width)).data;
  }
  const columns = gatherColumns(plain, areaSpans(image.width, width));
  const found = gatherRows(columns, areaSpans(image.height, height)).data;
  const scale = f(1 / f(scaleOf(image.height, height) * scaleOf(image.width, width)));
  return found.map((value) => f(value * scale));
}

function scaleOf(old, size) {
  return f(f(old) / f(size));
}

function floats({ data, height, width, channels, step }) {
  const made = new Float32Array(height * width * channels);
  for (let pixel = 0, to = 0; pixel < height * width; pixel += 1) {
    for (let c = 0; c < channels; c += 1, to += 1) made[to] = data[pixel * step + c];
  }
  return { data: made, height, width, channels };
}

/** Four neighbours of each sample; differences times distance, along x and then y. */
function bilinear({ data, height: oldHeight, width: oldWidth, channels }, height, width) {
  const [rows, columns] = [neighbours(oldHeight, height), neighbours(oldWidth, width)];
  const made = new Float32Array(height * width * channels);
  const along = (row, x, c) => {
    const near = data[(row * oldWidth + columns.before[x]) * channels + c];
    const far = data[(row * oldWidth + columns.after[x]) * channels + c];
    return f(near + f(f(far - near) * columns.distance[x]));
  };
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (let c = 0; c < channels; c += 1, to += 1) {
        const above = along(rows.before[y], x, c);
        const below = along(rows.after[y], x, c);
        made[to] = f(above + f(f(below - above) * rows.distance[y]));
      }
    }
  }
  return made;
}

function neighbours(old, size) {
  const scale = scaleOf(old, size);
  const found = { before: [], after: [], distance: [] };
  for (let place = 0; place < size; place += 1) {
    const at = f(f(f(place + 0.5) * scale) - 0.5);
    const below = Math.floor(at);
    found.before.push(Math.max(below, 0));
    found.after.push(Math.min(Math.ceil(at), old - 1));
    found.distance.push(f(at - below));
  }
  return found;
}

/** A triangle as wide as an output pixel, cut at the border. */
function triangleSpans(old, size) {
  const scale = f(1 / f(f(size) / f(old)));
  const reach = Math.max(scale, 1);
  const inverse = f(1 / reach);
  const limit = (at) => Math.min(Math.max(at, 0), old - 1);
  return Array.from({ length: size }, (_, place) => {
    const centre = f(f(place + 0.5) * scale);
    const start = limit(Math.ceil(f(f(centre - reach) - 0.5)));
    const end = limit(Math.floor(f(f(centre + reach) - 0.5))) + 1;
    const weights = [];
    for (let at = start; at < end; at += 1) {
      const distance = Math.abs(f(f(f(at + 0.5) - centre) * inverse));
      weights.push(Math.max(0, f(1 - distance)));
    }
    const total = weights.reduce((sum, one) => f(sum + one), 0);
    return { start, weights: weights.map((one) => f(one * f(1 / total))) };
  });
}

/** The part of each source pixel that an output pixel covers, in source pixels. */
function areaSpans(old, size) {
  const scale = scaleOf(old, size);
  return Array.from({ length: size }, (_, place) => {
    const [begin, stop] = [f(place * scale), f((place + 1) * scale)];
    const [start, end] = [Math.floor(begin), Math.ceil(stop)];
    const weights = [];
    for (let at = start; at < end; at += 1) {
      const [isFirst, isLast] = [at < begin, at + 1 > stop];
      if (isLast) weights.push(isFirst ? scale : f(stop - at));
      else weights.push(isFirst ? f(f(at + 1) - begin) : 1);
    }
    return { start, weights };
  });
}

/** Weighted sums of rows, added in order. */
function gatherRows({ data, height, width, channels }, found) {
  const line = width * channels;
  const made = new Float32Array(found.length * line);
  found.forEach(({ start, weights }, y) => {
    weights.forEach((weight, at) => {
      const from = Math.min(start + at, height - 1) * line;
      for (let x = 0; x < line; x += 1) {
        made[y * line + x] = f(made[y * line + x] + f(data[from + x] * weight));
      }
    });
  });
  return { data: made, height: found.length, width, channels };
}

/** Weighted sums of columns, added in order. */
function gatherColumns({ data, height, width, channels }, found) {
  const size = found.length;
  const made = new Float32Array(height * size * channels);
  for (let y = 0; y < height; y += 1) {
    found.forEach(({ start, weights }, x) => {
      const to = (y * size + x) * channels;
      weights.forEach((weight, at) => {
        const from = (y * width + Math.min(start + at, width - 1)) * channels;
        for (let c = 0; c < channels; c += 1) {
          made[to + c] = f(made[to + c] + f(data[from + c] * weight));
        }
      });
    });
  }
  return { data: made, height, width: size, channels };
}
