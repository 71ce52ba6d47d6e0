// The page: what is typed goes to the worker, what it draws goes into the gallery.

const PAUSE = 40; // milliseconds without a key before something is drawn
const MOST = 32; // pictures

const find = (id) => document.getElementById(id);
const [prompt, seed, count, gallery, state] = ["prompt", "seed", "count", "gallery", "state"].map(find);
let config, timer, backend, worker;
let job = 0;
let newest = 0; // of the jobs whose pictures are shown
const cells = []; // {canvas, button, noise: {seed, index}, kept}

/** As many cells as are asked for; those that are not kept have the noise of the seed. */
function arrange() {
  const wanted = Math.min(MOST, Math.max(1, Math.round(Number(count.value)) || 1));
  const number = Math.max(0, Math.min(2 ** 32 - 1, Math.round(Number(seed.value)) || 0));
  while (cells.length > wanted) cells.pop().button.remove();
  while (cells.length < wanted) cells.push(makeCell(cells.length));
  cells.forEach((cell, index) => {
    if (!cell.kept) cell.noise = { seed: number, index };
  });
}

function makeCell(index) {
  const button = document.createElement("button");
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = config.side;
  button.type = "button";
  button.append(canvas);
  gallery.append(button);
  const cell = { button, canvas, kept: false, noise: { seed: 0, index } };
  const mark = () => {
    button.setAttribute("aria-pressed", cell.kept);
    button.setAttribute("aria-label", `picture ${index + 1}${cell.kept ? ", its noise is kept" : ""}`);
  };
  button.onclick = () => {
    cell.kept = !cell.kept;
    mark();
    if (!cell.kept) draw();
  };
  mark();
  return cell;
}

function draw() {
  clearTimeout(timer);
  arrange();
  job += 1;
  const noises = cells.map((cell) => cell.noise);
  worker.postMessage({ type: "draw", job, prompt: prompt.value, noises });
}

/** Waits for a pause in typing; what was asked for before is not drawn any more. */
function drawSoon() {
  clearTimeout(timer);
  timer = setTimeout(draw, PAUSE);
}

function show({ first, count, pixels, time, job: drawn, prompt: text }) {
  if (drawn < newest || first + count > cells.length) return;
  newest = drawn;
  const { side } = config;
  const size = side * side * 4;
  for (let i = 0; i < count; i++) {
    const image = new ImageData(pixels.subarray(i * size, (i + 1) * size), side, side);
    cells[first + i].canvas.getContext("2d").putImageData(image, 0, 0);
  }
  state.textContent = `${Math.round(time)} ms, ${backend}`;
  if (first + count === cells.length) {
    gallery.dataset.job = drawn;
    gallery.dataset.prompt = text;
  }
}

function receive({ data }) {
  if (data.type === "progress") {
    state.textContent = `loading, ${(100 * Math.min(1, data.done / data.total)).toFixed(0)} %`;
  } else if (data.type === "ready") {
    ({ config, backend } = data);
    document.title = find("title").textContent = config.title;
    if (!config.text) prompt.closest("label").hidden = true;
    if (!prompt.value) prompt.value = config.prompt;
    document.body.dataset.ready = backend;
    draw();
    keepOffline(data.files).catch(() => {}); // private windows have none, http from afar neither
  } else if (data.type === "pictures") {
    show(data);
  } else {
    state.textContent = `error: ${data.message}`;
  }
}

prompt.oninput = () => config && drawSoon();
for (const field of [seed, count]) field.oninput = () => config && drawSoon();
find("another").onclick = () => {
  seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
  if (config) draw();
};
find("settings").onsubmit = (event) => event.preventDefault();

/** Gives what was loaded to the service worker, so that a reload needs no network. */
async function keepOffline(files) {
  await navigator.serviceWorker.register("offline.js");
  (await navigator.serviceWorker.ready).active.postMessage(files); // as they came
}

worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
worker.onmessage = receive;
worker.onerror = (event) => {
  state.textContent = `error: ${event.message ?? "this browser does not run module workers"}`;
};
worker.postMessage({ type: "load", wanted: new URLSearchParams(location.search).get("backend") });
