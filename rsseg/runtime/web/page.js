// The page: an image, a slider of resolutions, answers. How an image is answered is the engine's matter.

const SMALLEST_SHOWN = 480; // pixels of the page; smaller images are enlarged
const KEPT = 5; // predictions of each resolution whose median is shown
const ROUNDS = 3; // of predictions at every resolution that are measured
const LISTED = 5; // classes of a classifier
const MOVES = 3; // the largest changes from one class to another
const METRICS = { mean_iou: "mean IoU", top1: "top-1" };
const WHY = {
  load: "The service is busy: it answers at a lower resolution for now.",
  budget: "A higher resolution would not keep the budget.",
  image: "This image takes long at every resolution: a higher one would not keep the budget.",
};
let model = null;      // what the engine knows: name, task, classes, resolutions, allowed, ...
let image = null;      // the image that is shown
let shown = [];        // the answers that are shown: one, or two that are compared
let selected = null;   // the class that is shown alone
let stream = null;     // of the camera
let waiting = false, current = null, newest = 0;
const times = new Map(); // resolution -> milliseconds of the latest predictions, newest first

const ms = (value) => `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ms`;
const percent = (share) => share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
const element = (tag, kind, text) => Object.assign(document.createElement(tag), { className: kind, textContent: text ?? "" });
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const asked = () => model.allowed[Number($("resolution").value)];
const place_of = (side) => model.allowed.indexOf(side) / Math.max(1, model.allowed.length - 1);
const dense = () => model.task === "segmentation";
const answer_stage = () => dense() ? "label map" : "classes";

function complain(message, again) {
  $("fault").textContent = message ?? "";
  $("wrong").hidden = !message;
  $("again").hidden = !again;
}

async function start() {
  $("about").textContent = "loading …";
  $("goes").textContent = engine.goes;
  $("waited").hidden = !engine.queue;
  $("camera").hidden = !navigator.mediaDevices?.getUserMedia;
  try {
    model = await engine.open();
  } catch (error) {
    $("about").textContent = "";
    return complain(error.message, !(error instanceof HopelessError));
  }
  complain();
  document.title = `${model.name} – rsseg`;
  $("name").textContent = model.name;
  $("about").textContent = `${dense() ? "segmenter" : "classifier"}, ${model.classes.length} classes, trained at ` +
    `${model.resolutions.join(", ")} pixels, run by ${model.executor}`;
  const slider = $("resolution");
  slider.max = model.allowed.length - 1;
  slider.value = slider.max;
  slider.disabled = model.allowed.length < 2;
  $("ticks").replaceChildren(...model.resolutions.map((side) => {
    const tick = element("span", "", side);
    tick.style.setProperty("--at", place_of(side));
    return tick;
  }));
  $("pair").replaceChildren(new Option("nothing", ""),
    ...[...model.allowed].reverse().map((side) => new Option(`${side} pixels`, side)));
  $("compare").hidden = model.allowed.length < 2;
  show_asked();
}

// The service runs another network now: nothing that was told of the one before is true.
async function reopen() {
  const before = model.name;
  model = null;
  times.clear();
  selected = null;
  $("chart").hidden = true;
  await (ready = start());
  if (!model) return close_camera();
  const other = model.name === before ? "a changed network" : `another network, ${model.name}`;
  $("about").textContent += ` · the service was restarted with ${other}`;
  request();
}

function accuracy_text(side) {
  const value = model.accuracy?.values[side];
  return value === undefined ? "" : `${METRICS[model.accuracy.metric] ?? model.accuracy.metric} ${percent(value)}`;
}

const unbroken = (text) => text.replaceAll(" %", "\u00a0%"); // no line begins with it

// Texts between which a line may end, and in which it may not.
const whole = (texts) => texts.map((text) => element("span", "whole", text));

function show_asked(used) {
  if (!model) return; // a network that is opened anew
  const side = used ?? asked();
  const trained = model.resolutions.includes(side);
  $("asked").replaceChildren(`${side} `, element("small", "", trained ? "pixels" : "pixels, not trained"));
  $("resolution").setAttribute("aria-valuetext", `${side} pixels${trained ? "" : ", not trained"}`);
  $("accuracy").textContent = unbroken(accuracy_text(side));
  $("accuracy").hidden = !model.accuracy;
}

// Takes a new image: a function that makes it, and what it is called where that fails.
async function take(make, name) {
  await ready; // an image may be chosen before the engine is open
  if (!model) return;
  close_camera();
  complain();
  try {
    image = await make();
  } catch {
    return complain(`${name} is not an image that this browser can show; choose a JPEG, PNG or WebP.`);
  }
  times.clear();
  $("chart").hidden = true;
  clear();
  show_image();
  request();
}

const take_file = (file, more) => take(() => image_of(file, more), file.name || "This");

// Takes the first of the files that were dropped.
function take_drop({ files, items }) {
  const [file] = files;
  if (!file) return complain("That is not a file; drop an image file, or choose one.");
  if (items[0]?.webkitGetAsEntry?.()?.isDirectory)
    return complain(`${file.name} is a folder; drop one image file.`);
  return take_file(file, files.length - 1);
}

function show_image() {
  const { canvas, caption } = image;
  for (const frame of document.querySelectorAll(".frame")) {
    frame.style.setProperty("--wide", `${Math.max(canvas.width, SMALLEST_SHOWN)}px`);
    frame.style.setProperty("--ratio", canvas.width / canvas.height);
  }
  draw($("image"), canvas);
  draw($("image-second"), canvas);
  $("caption").textContent = $("caption").title = caption;
  $("drop").hidden = true;
  $("shown").hidden = false;
  $("another").textContent = "Another image";
}

// Removes all that was told of an answer: it is not that of what is asked for now.
function clear() {
  shown = [];
  for (const name of ["latency", "wait", "trip"]) $(name).textContent = "–";
  for (const name of ["stages", "note", "labels", "labels-second", "mixing", "second", "change"]) $(name).hidden = true;
  $("first").querySelector("figcaption").hidden = true;
  $("panels").classList.remove("two");
  $("classes").replaceChildren();
  $("listed").textContent = "Classes";
  $("hint").hidden = false;
  $("spoken").textContent = "";
}

async function toggle_camera() {
  if (stream) return close_camera();
  await ready;
  if (!model) return;
  complain();
  try {
    stream = await open_camera();
  } catch (error) {
    return complain(`There is no camera for this page (${error.message || error.name}).`);
  }
  $("camera").setAttribute("aria-pressed", "true");
  $("sweep").disabled = true;
  times.clear();
  request();
}

function close_camera() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("sweep").disabled = false;
}

// One request at a time, and after it only the newest of all that have been asked for meanwhile.
function request() {
  if (!model || !(image || stream)) return undefined;
  newest += 1;
  waiting = true;
  current ??= run().finally(() => { current = null; });
  return current;
}

async function run() {
  document.body.classList.add("busy");
  while (waiting || stream) {
    waiting = false;
    try {
      await ask(newest);
    } catch (error) {
      await failed(error);
    }
  }
  document.body.classList.remove("busy");
}

async function failed(error) {
  clear();
  if (error instanceof ChangedError) return reopen();
  if (error instanceof BusyError) {
    complain(`The service is busy; trying again in ${error.seconds} s.`);
    await new Promise((done) => setTimeout(done, 1000 * error.seconds));
    waiting = true;
    return;
  }
  close_camera();
  complain(error.message, error instanceof LostError);
}

async function ask(number) {
  const live = stream, subject = live ? camera_image() : image;
  const budget = $("auto").checked ? $("budget").value : undefined, pair = Number($("pair").value);
  const begun = performance.now();
  const first = await engine.predict(subject, budget === undefined ? { resolution: asked() } : { budget });
  first.trip = performance.now() - begun;
  first.budget = budget;
  const second = pair ? await engine.predict(subject, { resolution: pair }) : null;
  if (live ? stream !== live : subject !== image) return; // Another image has been chosen meanwhile, and asked for.
  if (live) { image = subject; show_image(); }
  complain();
  shown = second ? [first, second] : [first];
  for (const { resolution, ms: took } of shown)
    times.set(resolution, [took, ...(times.get(resolution) ?? [])].slice(0, KEPT));
  const spoken = dense() ? show_labels() : show_classes();
  show_numbers(first);
  show_times();
  if (number === newest) { // else the slider has been moved meanwhile
    if (budget !== undefined && model.allowed.includes(first.resolution))
      $("resolution").value = model.allowed.indexOf(first.resolution);
    show_asked(first.resolution);
  }
  $("spoken").textContent = `${first.resolution} pixels, ${ms(first.ms)}: ${spoken}`;
}

function show_numbers(answer) {
  $("latency").textContent = ms(answer.ms);
  $("wait").textContent = ms(answer.wait);
  $("trip").textContent = ms(answer.trip);
  $("stages").replaceChildren(...whole(answer.stages.map(([name, value]) => `${name} ${ms(value)}`))
    .flatMap((stage, place) => place ? [" · ", stage] : [stage]));
  $("stages").hidden = !answer.stages.length;
  const note = note_of(answer);
  $("note").textContent = note;
  $("note").hidden = !note;
}

// What is to be said of the resolution of an answer, and of its budget.
function note_of({ budget, total, trip, resolution, why }) {
  if (budget === undefined) return WHY[why] ?? "";
  const lowest = resolution <= Math.min(...model.resolutions) ? ", at the lowest resolution" : "";
  if (total > budget) return `The budget of ${budget} ms was not kept: this answer took ${ms(total)}${lowest}.`;
  const way = trip > budget ? `Kept by the service (${ms(total)}), but not with the way there and back (${ms(trip)}).` : "";
  return [WHY[why], way].filter(Boolean).join(" ");
}

const class_name = (place) => model.classes[place] ?? "void";

function show_labels() {
  const counts = shown.map(({ labels: { values } }) => {
    const count = new Array(model.colours.length).fill(0);
    for (const value of values) count[value] += 1;
    return count.map((pixels) => pixels / values.length);
  });
  const rows = model.colours.map((_, place) => [place, counts.map((count) => count[place])])
    .filter(([, shares]) => shares.some((share) => share > 0))
    .sort((a, b) => Math.max(...b[1]) - Math.max(...a[1]));
  if (!rows.some(([place]) => place === selected)) selected = null;
  paint_labels();
  $("mixing").hidden = false;
  list(`Classes in the image (${rows.length})`, rows.map(([place, shares]) => class_button(place, shares)));
  const changes = show_panels();
  const most = rows.slice(0, 3).map(([place, shares]) => `${class_name(place)} ${percent(shares[0])}`);
  return most.join(", ") + (changes ? `; compared with ${shown[1].resolution} pixels: ${changes}` : "");
}

function paint_labels() {
  shown.forEach(({ labels }, place) => {
    const canvas = $(["labels", "labels-second"][place]);
    paint(canvas, labels, model.colours, selected);
    canvas.hidden = false;
  });
}

function class_button(place, shares) {
  const item = entry("button", class_name(place), shares.map(percent), model.colours[place]);
  item.type = "button";
  item.dataset.place = place;
  item.setAttribute("aria-pressed", String(selected === place));
  item.title = "Show this class alone, or all again";
  item.addEventListener("click", () => {
    selected = selected === place ? null : place;
    for (const other of $("classes").querySelectorAll("button"))
      other.setAttribute("aria-pressed", String(Number(other.dataset.place) === selected));
    paint_labels();
  });
  return item;
}

// Shows the second answer beside the first, and what changed between them; returns that in words.
function show_panels() {
  const [first, second] = shown;
  for (const name of ["second", "change"]) $(name).hidden = !second;
  $("panels").classList.toggle("two", Boolean(second));
  [first, second].forEach((answer, place) => {
    const caption = $(["first", "second"][place]).querySelector("figcaption");
    caption.hidden = !second;
    if (!second) return;
    const rest = [ms(answer.ms), accuracy_text(answer.resolution)].filter(Boolean).join(" · ");
    caption.replaceChildren(element("strong", "", `${answer.resolution} px`), ` · ${rest}`);
  });
  if (!second) return "";
  const { share, moves } = paint_changes($("changed"), image.canvas, first.labels, second.labels);
  $("share").textContent = percent(share);
  $("between").textContent = `of the pixels changed from ${first.resolution} to ${second.resolution} px`;
  $("moves").replaceChildren(...moves.slice(0, MOVES).map(([before, after, part]) =>
    element("li", "", unbroken(`${class_name(before)} → ${class_name(after)} ${percent(part)}`))));
  return `${percent(share)} of the pixels changed`;
}

function show_classes() {
  const names = [...new Set(shown.flatMap(({ classes }) => classes.slice(0, LISTED).map((row) => row.class)))];
  const shares = shown.map(({ classes }) => new Map(classes.map((row) => [row.class, row.probability])));
  const title = shown.length > 1 ? "Most probable classes of both" : "Most probable classes";
  list(title, names.map((name) => {
    const item = entry("div", name, shares.map((share) => share.has(name) ? percent(share.get(name)) : "–"));
    item.classList.toggle("best", shown.some(({ classes }) => classes[0].class === name));
    shares.forEach((share, place) => {
      const track = element("span", place ? "track other" : "track"), fill = element("i", "");
      fill.style.width = `${100 * (share.get(name) ?? 0)}%`;
      track.append(fill);
      item.append(track);
    });
    return item;
  }));
  const [first, second] = shown.map(({ classes: [best] }) => `${best.class} ${percent(best.probability)}`);
  return second ? `${first}; compared with ${shown[1].resolution} pixels: ${second}` : first;
}

// A line of the list: a name, and a value for each answer that is shown.
function entry(tag, name, values, colour) {
  const item = element(tag, `item${colour ? "" : " plain"}${values.length > 1 ? " pair" : ""}`);
  if (colour) {
    item.append(element("span", "colour"));
    item.firstChild.style.background = colour;
  }
  item.append(element("span", "name", name));
  values.forEach((value, place) => item.append(element("span", place ? "value other" : "value", value)));
  return item;
}

function list(title, items) {
  const kept = document.activeElement?.dataset?.place;
  $("listed").textContent = title;
  $("hint").hidden = true;
  if (shown.length > 1) items.unshift(list_head());
  $("classes").replaceChildren(...items.map((item) => {
    const line = element("li", "");
    line.append(item);
    return line;
  }));
  if (kept !== undefined) $("classes").querySelector(`[data-place="${kept}"]`)?.focus();
}

function list_head() {
  const item = element("div", dense() ? "item pair head" : "item plain pair head");
  item.append(...(dense() ? [element("span", "")] : []), element("span", ""));
  shown.forEach(({ resolution }, place) => item.append(element("span", place ? "value other" : "value", `${resolution} px`)));
  return item;
}

function show_times() {
  const [now, other] = shown.map(({ resolution }) => resolution);
  const bars = [...times].map(([side, values]) => [side, median(values)]).sort((a, b) => a[0] - b[0]);
  const slowest = Math.max(...bars.map(([, value]) => value));
  $("times").replaceChildren(...bars.map(([side, value]) => {
    const bar = element("li", side === now ? "now" : side === other ? "other" : "");
    bar.style.setProperty("--at", place_of(side));
    bar.style.setProperty("--share", value / slowest);
    bar.append(element("span", "", value >= 10 ? value.toFixed(0) : value.toFixed(1)), element("i", ""), element("span", "", side));
    bar.setAttribute("aria-label", `${side} pixels: ${ms(value)}`);
    return bar;
  }));
  $("chart").hidden = false;
}

// Asks for every resolution once, from the lowest, and then for the one that was chosen before.
// Several rounds, since the chart shows medians: one pass alone may have had to wait.
async function sweep() {
  $("auto").checked = false;
  const slider = $("resolution"), before = slider.value;
  const places = [...Array(ROUNDS).fill([...model.allowed.keys()]).flat(), before];
  $("sweep").disabled = true;
  for (const place of places) {
    slider.value = place;
    show_asked();
    await request();
    if (!$("wrong").hidden) break;
  }
  $("sweep").disabled = Boolean(stream);
}

async function again() {
  complain();
  if (!model) await (ready = start());
  request();
}

$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // the same file may be chosen again
  if (file) take_file(file);
});
$("sample").addEventListener("click", () => take(sample_image, "The sample"));
$("camera").addEventListener("click", toggle_camera);
$("again").addEventListener("click", again);
$("sweep").addEventListener("click", sweep);
$("resolution").addEventListener("input", () => { $("auto").checked = false; show_asked(); request(); });
$("pair").addEventListener("change", request);
$("auto").addEventListener("change", request);
$("budget").addEventListener("input", () => { $("auto").checked = true; });
$("budget").addEventListener("change", request);
$("opacity").addEventListener("input", (event) => {
  $("panels").style.setProperty("--opacity", event.target.value / 100);
});
addEventListener("online", () => { if (!$("again").hidden) again(); });
for (const kind of ["dragover", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("stage").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take_drop(event.dataTransfer);
  });
}
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("stage").classList.remove("over"); });
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) take_file(file, event.clipboardData.files.length - 1);
});
for (const canvas of [$("labels"), $("labels-second")]) {
  const tip = canvas.parentElement.querySelector(".tip");
  canvas.addEventListener("pointermove", (event) => {
    if (!shown.length) return;
    const { width, height } = shown[0].labels, box = canvas.getBoundingClientRect();
    const x = Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width));
    const y = Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height));
    tip.textContent = shown.map(({ labels }) => class_name(labels.values[y * width + x])).join(" | ");
    tip.style.left = `${event.clientX - box.left}px`;
    tip.style.top = `${event.clientY - box.top}px`;
    tip.hidden = false;
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
}
let ready = start();
