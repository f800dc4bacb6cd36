// The engine of the service's page: images are sent over HTTP, and answered by the service.

// Relative to the page, as a proxy may add a prefix; one without its last slash too.
const HERE = location.pathname.endsWith("/") ? location.pathname : `${location.pathname}/`;
const SENT = ["image/jpeg", "image/png", "image/webp", "image/bmp"];
const TOP = 20; // classes of a classifier that are asked for, to be compared

const engine = {
  goes: "It is sent to this service and nowhere else.",
  queue: true,

  async open() {
    const answer = await reached("model");
    if (!answer.ok) throw await refusal(answer);
    return answer.json();
  },

  // Answers one image: {resolution, ms, stages, wait, total, why, labels or classes}.
  async predict(image, { resolution, budget }) {
    image.blob ??= await encoded(image);
    const wish = new URLSearchParams(budget === undefined ? { resolution } : { budget_ms: budget });
    const dense = model.task === "segmentation";
    if (!dense) wish.set("top", Math.min(TOP, model.classes.length));
    const type = image.blob.type || "application/octet-stream";
    const answer = await reached(`predict?${wish}`, {
      method: "POST", body: image.blob, headers: { "Content-Type": type },
    });
    const id = answer.headers.get("X-Model"); // a proxy's own answers have none
    if (id && id !== model.id) throw new ChangedError();
    if (!answer.ok) throw await refusal(answer);
    const content = await answer.blob().catch((error) => { throw new LostError(error.message); });
    const header = (name) => answer.headers.get(name);
    return {
      resolution: Number(header("X-Resolution")),
      ms: Number(header("X-Milliseconds")),
      stages: stages_of(header("Server-Timing")),
      wait: Number(header("X-Wait-Milliseconds")),
      total: Number(header("X-Total-Milliseconds")),
      why: header("X-Chosen-By"),
      ...(dense ? { labels: await labels_of(content) } : { classes: JSON.parse(await content.text()).classes }),
    };
  },
};

async function reached(address, options) {
  try {
    return await fetch(HERE + address, options);
  } catch (error) {
    throw new LostError(`The service does not answer (${error.message}).`);
  }
}

// The error that an answer is: a busy service, one that is gone behind its proxy, or a refusal.
async function refusal(answer) {
  const { error } = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  if (answer.status === 429) return new BusyError(Number(answer.headers.get("Retry-After")) || 1);
  return answer.status >= 500 ? new LostError(`The service has failed: ${error}`) : new Error(error);
}

// The bytes that are sent: the file, or what the browser shows of it where the service would refuse it.
async function encoded({ file, canvas, reduced }) {
  const fits = file && !reduced && SENT.includes(file.type) && file.size <= 1e6 * model.limits.body_mb;
  if (fits && is_plain(new DataView(await file.arrayBuffer()))) return file;
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
}

// Whether a file holds one still image in RGB or grey, as far as its header tells.
function is_plain(bytes) {
  const tag = (at) => at + 4 <= bytes.byteLength ? bytes.getUint32(at) : 0;
  if (tag(0) === 0x89504e47) { // PNG: an animation has acTL (0x6163544c) before IDAT
    for (let at = 8; tag(at + 4) && tag(at + 4) !== 0x49444154; at += 12 + tag(at))
      if (tag(at + 4) === 0x6163544c) return false;
    return true;
  }
  if (tag(0) === 0x52494646) // WebP: the second bit of VP8X says that it is animated
    return tag(12) !== 0x56503858 || !(tag(20) & 0x02000000);
  if (tag(0) >>> 16 !== 0xffd8) return tag(0) >>> 16 === 0x424d; // BMP; else a file of another kind than it says
  for (let at = 2; tag(at) >>> 24 === 0xff; at += 2 + (tag(at) & 0xffff)) { // JPEG: SOF has the channels
    const kind = (tag(at) >> 16) & 0xff;
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) return tag(at + 6) % 256 < 4;
  }
  return true;
}

function stages_of(text) { // "decode;dur=1.2, view;dur=0.4, ..."
  return (text ?? "").split(", ").map((stage) => stage.split(";dur=")).filter(({ length }) => length === 2)
    .map(([name, value]) => [name === "answer" ? answer_stage() : name, Number(value)]);
}

// The class of each pixel of a label map, from its colours.
async function labels_of(png) {
  const bitmap = await createImageBitmap(png, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { data, width, height } = pixels_of(bitmap);
  const index = new Map(model.colours.map((colour, place) => [parseInt(colour.slice(1), 16), place]));
  const values = new Uint8Array(width * height);
  for (let i = 0, last = -1, value = 0; i < values.length; i++) {
    const key = (data[4 * i] << 16) | (data[4 * i + 1] << 8) | data[4 * i + 2];
    if (key !== last) { last = key; value = index.get(key) ?? model.classes.length; }
    values[i] = value;
  }
  return { width, height, values };
}
