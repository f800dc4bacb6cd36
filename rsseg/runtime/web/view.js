// What the predictor does before and after the network: the view of a resolution, and a class for each pixel.
// Resizing is PyTorch's antialiased bilinear filter over bytes, not the browser's own.

const LOGITS_AT_ONCE = 3e7; // classes x pixels of a label map; a larger image has a map at a smaller size

function round_even(value) { // as Python does
  const low = Math.floor(value), rest = value - low;
  return rest === 0.5 ? low + (low % 2) : Math.round(value);
}

// Height and width of the view of an image, and of what its centre is cut out of.
function view_sizes({ fit, crop_ratio, crop_ratios }, resolution, height, width) {
  const shorter = Math.min(height, width), longer = Math.max(height, width);
  if (fit === "aspect") {
    const size = [height, width].map((side) => Math.max(resolution, round_even((side * resolution) / shorter)));
    return { view: size, resized: size };
  }
  const view = [resolution, resolution];
  if (fit === "square") return { view, resized: view };
  const short = Math.floor(resolution / (crop_ratios[resolution] ?? crop_ratio));
  const long = Math.floor((short * longer) / shorter);
  return { view, resized: height <= width ? [short, long] : [long, short] };
}

// Which pixels make each pixel of the other size, and their shares: a triangle as wide as both need.
function triangles(from, to) {
  const scale = from / to, support = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = scale * (i + 0.5);
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(from, Math.trunc(centre + support + 0.5));
    const shares = Array.from({ length: last - first }, (_, j) =>
      Math.max(0, 1 - Math.abs(j + first - centre + 0.5) / support));
    const sum = shares.reduce((a, b) => a + b, 0);
    return { first, shares: Float64Array.from(shares, (share) => share / sum) };
  });
}

// Resizes bytes (lines x from x inner) along their middle axis.
function resized_axis(bytes, lines, from, inner, to) {
  if (from === to) return bytes;
  const result = new Uint8ClampedArray(lines * to * inner), sums = new Float64Array(inner);
  triangles(from, to).forEach(({ first, shares }, place) => {
    for (let line = 0; line < lines; line++) {
      sums.fill(1e-6); // Halves are rounded up, as PyTorch does.
      for (let j = 0; j < shares.length; j++) {
        const at = (line * from + first + j) * inner, share = shares[j];
        for (let k = 0; k < inner; k++) sums[k] += share * bytes[at + k];
      }
      result.set(sums, (line * to + place) * inner); // rounded and clamped
    }
  });
  return result;
}

// The normalised view of an image, channels first: {data, height, width}.
function view_of({ data, width, height }, preprocessing, resolution) {
  const { view: [tall, wide], resized: [rows, columns] } = view_sizes(preprocessing, resolution, height, width);
  const narrow = resized_axis(data, height, width, 4, columns);
  const small = resized_axis(narrow, 1, height, columns * 4, rows);
  const top = round_even((rows - tall) / 2), left = round_even((columns - wide) / 2);
  const { mean, std } = preprocessing, input = new Float32Array(3 * tall * wide);
  for (let channel = 0; channel < 3; channel++)
    for (let y = 0; y < tall; y++)
      for (let x = 0; x < wide; x++)
        input[(channel * tall + y) * wide + x] =
          (small[((y + top) * columns + x + left) * 4 + channel] / 255 - mean[channel]) / std[channel];
  return { data: input, height: tall, width: wide };
}

// Where the bilinear filter reads for each pixel: two neighbours, and the share of the second.
function neighbours(from, to) {
  const low = new Int32Array(to), high = new Int32Array(to), share = new Float32Array(to);
  for (let i = 0; i < to; i++) {
    const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    low[i] = Math.min(Math.floor(at), from - 1);
    high[i] = Math.min(low[i] + 1, from - 1);
    share[i] = at - low[i];
  }
  return { low, high, share };
}

// Resizes logits (K, h, w) to the size of an image, or less, and takes the first best class of each pixel.
function label_map(logits, [classes, tall, wide], image) {
  const fits = Math.min(1, Math.sqrt(LOGITS_AT_ONCE / (classes * image.width * image.height)));
  const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side * fits)));
  const rows = neighbours(tall, height), columns = neighbours(wide, width);
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const share = rows.share[y], line = new Float32Array(classes * wide);
    for (let k = 0; k < classes; k++) {
      const above = (k * tall + rows.low[y]) * wide, below = (k * tall + rows.high[y]) * wide;
      for (let x = 0; x < wide; x++) line[k * wide + x] = (1 - share) * logits[above + x] + share * logits[below + x];
    }
    best_classes(line, classes, wide, columns, values.subarray(y * width, (y + 1) * width));
  }
  return { width, height, values };
}

// Takes the best class of each pixel of a row, from the logits (K, w) of its line.
function best_classes(line, classes, wide, { low, high, share }, row) {
  const best = new Float32Array(row.length).fill(-Infinity);
  for (let k = 0; k < classes; k++) {
    const start = k * wide;
    for (let x = 0; x < row.length; x++) {
      const left = line[start + low[x]], value = left + share[x] * (line[start + high[x]] - left);
      if (value > best[x]) { best[x] = value; row[x] = k; }
    }
  }
}

// The classes of a classifier by their probability, the most probable first.
function probabilities(logits, names) {
  const highest = Math.max(...logits), shares = Array.from(logits, (value) => Math.exp(value - highest));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share, place) => ({ class: names[place], probability: share / sum }))
    .sort((a, b) => b.probability - a.probability);
}
