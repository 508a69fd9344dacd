// Pillow's resize, bit for bit (version 13): a convolution with antialias in fixed point, along one
// axis and then along the other, rounded to 8 bits between and after them.
//
// An image here is {data, height, width, channels, step}: bytes row by row, `step` of them a pixel,
// of which the first `channels` (1 or 3) are used.

const PRECISION = 22; // bits behind the point: 32 less 8 of a pixel and 2 for overshoot

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: cubic },
  lanczos: { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
};

/** Keys' cubic with a = -0.5. */
function cubic(x) {
  const a = -0.5;
  const far = Math.abs(x);
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  return far < 2 ? (((far - 5) * far + 8) * far - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

/** Which source pixels make each of `size` results, and their weights as whole numbers. */
export function spans(sourceSize, size, { support, weight }) {
  const scale = sourceSize / size;
  const spread = Math.max(scale, 1);
  const reach = support * spread;
  const longest = Math.ceil(reach) * 2 + 1;
  const starts = new Int32Array(size);
  const counts = new Int32Array(size);
  const weights = new Int32Array(size * longest);
  for (let place = 0; place < size; place += 1) {
    const centre = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(sourceSize, Math.trunc(centre + reach + 0.5));
    const found = [];
    for (let at = start; at < end; at += 1) found.push(weight((at - centre + 0.5) * (1 / spread)));
    const total = found.reduce((sum, one) => sum + one, 0);
    starts[place] = start;
    counts[place] = end - start;
    found.forEach((one, at) => {
      weights[place * longest + at] = fixed(total === 0 ? one : one / total);
    });
  }
  return { starts, counts, weights, longest };
}

/** A weight in fixed point, halves away from zero. */
function fixed(weight) {
  const scaled = weight * 2 ** PRECISION;
  return Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

/** The image in height x width. kind: "nearest" or one of the filters. */
export function pillowResize(image, height, width, kind) {
  if (image.height === height && image.width === width) return image;
  if (kind === "nearest") return nearest(image, height, width);
  const filter = FILTERS[kind];
  const across = (one) => (one.width === width ? one : rowsResized(one, width, filter));
  const down = (one) => (one.height === height ? one : columnsResized(one, height, filter));
  return isHeightFirst(image, height, width) ? across(down(image)) : down(across(image));
}

/** Which axis comes first changes the rounding: the height where it loses most of the pixels. */
function isHeightFirst(image, height, width) {
  const lost = image.height - height;
  return lost > 0 && lost > 2 * (image.width - width);
}

function emptyImage(height, width, channels) {
  const data = new Uint8Array(height * width * channels);
  return { data, height, width, channels, step: channels };
}

function rowsResized(image, width, filter) {
  const { starts, counts, weights, longest } = spans(image.width, width, filter);
  const { data, step, channels } = image;
  const made = emptyImage(image.height, width, channels);
  for (let y = 0, to = 0; y < image.height; y += 1) {
    const row = y * image.width * step;
    for (let x = 0; x < width; x += 1) {
      const first = row + starts[x] * step;
      for (let c = 0; c < channels; c += 1, to += 1) {
        made.data[to] = weighted(data, first + c, step, weights, x * longest, counts[x]);
      }
    }
  }
  return made;
}

function columnsResized(image, height, filter) {
  const { starts, counts, weights, longest } = spans(image.height, height, filter);
  const { data, step, channels } = image;
  const made = emptyImage(height, image.width, channels);
  const line = image.width * step;
  for (let y = 0, to = 0; y < height; y += 1) {
    for (let x = 0; x < image.width; x += 1) {
      const first = starts[y] * line + x * step;
      for (let c = 0; c < channels; c += 1, to += 1) {
        made.data[to] = weighted(data, first + c, line, weights, y * longest, counts[y]);
      }
    }
  }
  return made;
}

/** The weighted sum of `count` bytes that lie `stride` apart, as a byte. */
function weighted(data, first, stride, weights, firstWeight, count) {
  let sum = 1 << (PRECISION - 1);
  for (let at = 0; at < count; at += 1) sum += data[first + at * stride] * weights[firstWeight + at];
  const value = sum >> PRECISION;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function nearest(image, height, width) {
  const [rows, columns] = [nearestPlaces(image.height, height), nearestPlaces(image.width, width)];
  const { data, step, channels } = image;
  const made = emptyImage(height, width, channels);
  let to = 0;
  for (const y of rows) {
    for (const x of columns) {
      const from = (y * image.width + x) * step;
      for (let c = 0; c < channels; c += 1, to += 1) made.data[to] = data[from + c];
    }
  }
  return made;
}

/** Source pixels under the middle of each result; the places are added up, not multiplied. */
function nearestPlaces(sourceSize, size) {
  const scale = sourceSize / size;
  const found = new Int32Array(size);
  for (let place = 0, at = scale * 0.5; place < size; place += 1, at += scale) {
    found[place] = Math.min(sourceSize - 1, Math.trunc(at));
  }
  return found;
}
