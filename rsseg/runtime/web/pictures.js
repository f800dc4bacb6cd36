// Pictures: files, the camera and the sample as canvases; label maps, and what changed between two, as pixels.

const LARGEST_SIDE = 1600; // pixels; larger images are made smaller
const CHANGED = [255, 43, 176]; // the colour of a pixel whose class changed

function canvas_of(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

function pixels_of(source) {
  const canvas = canvas_of(source, source.width, source.height);
  return canvas.getContext("2d").getImageData(0, 0, source.width, source.height);
}

// An image to be predicted: its pixels, what it is called, and the file if it can be sent as it is.
async function image_of(file, more = 0) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LARGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = canvas_of(bitmap, width, height), reduced = scale < 1;
  const smaller = reduced ? `, made smaller from ${bitmap.width} × ${bitmap.height}` : "";
  bitmap.close();
  const first = more ? `, the first of ${more + 1} files` : "";
  return { file, canvas, reduced, caption: `${file.name || "image"} · ${width} × ${height}${smaller}${first}` };
}

async function sample_image() {
  await $("room").decode();
  const { naturalWidth: width, naturalHeight: height } = $("room");
  return { canvas: canvas_of($("room"), width, height), caption: `a drawn room · ${width} × ${height}` };
}

async function open_camera() {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } },
  });
  $("video").srcObject = stream;
  await $("video").play();
  return stream;
}

function camera_image() {
  const { videoWidth: width, videoHeight: height } = $("video");
  return { canvas: canvas_of($("video"), width, height), caption: `camera · ${width} × ${height}` };
}

function draw(target, source) {
  target.width = source.width;
  target.height = source.height;
  target.getContext("2d").drawImage(source, 0, 0);
}

function rgb(colour) { // "#0f766e"
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

// Paints the colours of a label map, all of them or that of one class.
function paint(canvas, { width, height, values }, colours, only) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const packed = colours.map((colour, place) => {
    const [red, green, blue] = rgb(colour), opaque = only === null || only === place ? 255 : 0;
    return ((opaque << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
  values.forEach((value, place) => { pixels[place] = packed[value]; });
  context.putImageData(picture, 0, 0);
}

// Paints the image in grey with the pixels whose class differs; returns their share, and
// how many went from each class to which, the most first.
function paint_changes(canvas, image, { width, height, values: before }, { values: after }) {
  const picture = pixels_of(canvas_of(image, width, height)), { data } = picture, counts = new Map();
  let changed = 0;
  for (let i = 0; i < before.length; i++) {
    const differs = before[i] !== after[i];
    const grey = 0.3 * (data[4 * i] + data[4 * i + 1] + data[4 * i + 2]) / 1.5 + 25;
    data.set(differs ? CHANGED : [grey, grey, grey], 4 * i);
    if (!differs) continue;
    changed += 1;
    const key = before[i] * 256 + after[i];
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(picture, 0, 0);
  const moves = [...counts].sort((a, b) => b[1] - a[1])
    .map(([key, count]) => [key >> 8, key & 255, count / before.length]);
  return { share: changed / before.length, moves };
}
