// The engine of an exported folder: onnxruntime-web runs the network in this browser, nothing is sent.

const PASSES = 5; // of each resolution, from which a budget is kept
const passes = new Map(); // resolution -> milliseconds of the latest predictions
let ort = null, session = null;
const beside = (name) => new URL(name, document.baseURI).href;

const engine = {
  goes: "It stays in this browser: nothing is sent.",
  queue: false,

  async open() {
    if (location.protocol === "file:")
      throw new HopelessError("A browser loads no network from file://. Run in this folder: " +
        "python -m http.server --bind 127.0.0.1 8000, then open http://127.0.0.1:8000");
    try {
      ort = await import(beside(GIVEN.runtime));
      Object.assign(ort.env.wasm, {
        wasmPaths: { wasm: beside(GIVEN.wasm) },
        numThreads: 1, // More need headers that few file servers send.
        proxy: true, // In a worker: the page stays alive.
      });
      ort.env.logLevel = "error"; // Files of 8 bits hold values that it folds, and says so one by one.
      session = await ort.InferenceSession.create(beside(GIVEN.network), {
        executionProviders: ["wasm"], logSeverityLevel: 3,
      });
    } catch (error) {
      throw new LostError(`The network cannot be loaded (${error.message ?? error}).`);
    }
    return GIVEN.model;
  },

  // Answers one image: {resolution, ms, stages, wait, total, why, labels or classes}.
  async predict(image, { resolution, budget }) {
    const side = resolution ?? within(Number(budget));
    image.pixels ??= pixels_of(image.canvas);
    const marks = [performance.now()];
    const view = view_of(image.pixels, model.preprocessing, side);
    marks.push(performance.now());
    const images = new ort.Tensor("float32", view.data, [1, 3, view.height, view.width]);
    const { logits } = await session.run({ images });
    marks.push(performance.now());
    const answer = model.task === "segmentation"
      ? { labels: label_map(logits.data, logits.dims.slice(1), image.pixels) }
      : { classes: probabilities(logits.data, model.classes) };
    marks.push(performance.now());
    const names = ["view", "network", answer_stage()], took = marks[3] - marks[0];
    passes.set(side, [took, ...(passes.get(side) ?? [])].slice(0, PASSES));
    const why = budget !== undefined && side < model.resolutions[0] ? "budget" : "";
    const stages = names.map((name, place) => [name, marks[place + 1] - marks[place]]);
    return { resolution: side, ms: took, stages, wait: 0, total: took, why, ...answer };
  },
};

// The largest trained resolution that is expected to keep a budget, else the lowest.
function within(budget) {
  if (!(budget > 0)) throw new Error(`A budget of ${budget} ms; expected a positive number.`);
  return model.resolutions.find((side) => expected(side) <= budget) ?? Math.min(...model.resolutions);
}

// Milliseconds at a resolution: measured, or else in proportion to the pixels of the nearest that was; 0 before any.
function expected(side) {
  const [nearest] = [...passes.keys()].sort((a, b) => Math.abs(a - side) - Math.abs(b - side));
  return nearest === undefined ? 0 : median(passes.get(nearest)) * (side / nearest) ** 2;
}
