// Draws beside the page, so that typing never waits. Of several requests only the newest is drawn.

import { Generator } from "./generator.js";

const ARCHIVED = [0x1f, 0x8b]; // how a .gz file begins, if the server has not unpacked it
const PATIENCE = 250; // milliseconds after which who types on is shown something all the same
const loaded = {}; // path -> what the server sent, until the service worker has it
let generator;
let waiting = null; // the newest request that is not begun
let working = false;
let shown = 0; // when pictures were sent last

/** A file below this folder; of those that are stored as .gz, what is in them. */
async function read(path, progress = () => {}) {
  const answer = await fetch(new URL(path, import.meta.url));
  if (!answer.ok) throw new Error(`${path}: the server answers ${answer.status}`);
  const parts = [];
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    progress(value.length);
  }
  let body = new Blob(parts);
  if (!generator) loaded[path] = body;
  const start = new Uint8Array(await body.slice(0, 2).arrayBuffer());
  if (path.endsWith(".gz") && ARCHIVED.every((byte, i) => byte === start[i])) {
    body = new Response(body.stream().pipeThrough(new DecompressionStream("gzip")));
  }
  return new Uint8Array(await body.arrayBuffer());
}

async function load({ wanted }) {
  const config = JSON.parse(new TextDecoder().decode(await read("model/config.json")));
  const adapter = wanted === "wasm" ? null : await self.navigator.gpu?.requestAdapter().catch(() => null);
  const runtime = config.runtime[adapter ? "webgpu" : "wasm"];
  let done = 0;
  const progress = (bytes) => {
    done += bytes;
    self.postMessage({ type: "progress", done, total: config.bytes + runtime.bytes });
  };
  const parts = new Map();
  const fetched = (name) => {
    return config.needed.includes(name) ? read(`model/${name}.gz`, progress) : read(`model/${name}`);
  };
  for (const name of config.needed) parts.set(name, fetched(name));
  const binary = read(`runtime/${runtime.binary}.gz`, progress);
  const ort = await import(`./runtime/${runtime.script}`);
  ort.env.wasm.numThreads = 1; // more would need headers that a static host does not send
  ort.env.wasm.wasmPaths = { mjs: new URL(`runtime/${runtime.glue}`, import.meta.url).href };
  ort.env.wasm.wasmBinary = await binary;
  const take = (name) => parts.get(name) ?? fetched(name);
  generator = await Generator.load(ort, config, take);
  let backend = "wasm";
  if (adapter) {
    const other = await Generator.load(ort, config, take, ["webgpu"]).catch(() => null);
    if (other && (await isBetter(other, generator, config, wanted === "webgpu"))) {
      [generator, backend] = [other, "webgpu"];
    }
  }
  parts.clear();
  const scripts = [runtime.script, runtime.glue].map((name) => `runtime/${name}`);
  const files = { paths: [...Object.keys(loaded), ...scripts], bodies: { ...loaded } };
  self.postMessage({ type: "ready", config, backend, files });
  for (const path of Object.keys(loaded)) delete loaded[path];
}

/** Whether another backend draws the same pictures, and faster (or in any case, if `forced`). */
async function isBetter(other, plain, config, forced) {
  const noises = Array.from({ length: 8 }, (_, index) => ({ seed: 0, index }));
  const run = async (one) => {
    const start = performance.now();
    let pixels;
    for await (const part of one.draw(config.prompt, noises)) pixels = part?.pixels ?? pixels;
    return { pixels, time: performance.now() - start };
  };
  try {
    const results = [];
    for (const one of [other, plain, other, plain]) results.push(await run(one)); // the first warms up
    const [, , a, b] = results;
    const same = a.pixels.every((value, i) => Math.abs(value - b.pixels[i]) <= 2);
    return same && (forced || a.time < b.time);
  } catch {
    return false;
  }
}

/** Lets messages in that came while a graph was running. */
function letIn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

async function draw({ job, prompt, noises }) {
  const outdated = () => waiting && performance.now() - shown < PATIENCE;
  const start = performance.now();
  for await (const part of generator.draw(prompt, noises)) {
    if (part) {
      const time = performance.now() - start;
      self.postMessage({ type: "pictures", job, prompt, time, ...part }, [part.pixels.buffer]);
      if (part.first + part.count === noises.length) shown = performance.now();
    }
    await letIn();
    if (outdated()) return;
  }
}

/** One after the other; what came in meanwhile and is not the newest is never begun. */
async function work() {
  if (working) return;
  working = true;
  try {
    while (waiting) {
      const next = waiting;
      waiting = null;
      await draw(next);
    }
  } finally {
    working = false;
  }
}

self.onmessage = ({ data }) => {
  if (data.type === "draw") waiting = data;
  const done = data.type === "load" ? load(data) : work();
  done.catch((error) => self.postMessage({ type: "failed", message: String(error.message ?? error) }));
};
