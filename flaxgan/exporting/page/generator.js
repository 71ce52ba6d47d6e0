// Prompts and noise to pictures: tokenizer, rows of the word table, and the two ONNX graphs.

import { Bytes, Unigram } from "./tokenizer.js";
import { noise } from "./noise.js";

const AT_ONCE = 8; // pictures of one call
const REMEMBERED = 64; // prompts

/** A 16-bit float as a number. */
function half(word) {
  const sign = word & 0x8000 ? -1 : 1;
  const exponent = (word >> 10) & 31;
  const fraction = word & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const HALVES = Float32Array.from({ length: 65536 }, (_, word) => half(word));

/** 32 numbers: a float16 scale and 16 bytes, at `from`, to every `step`th place from `to` on. */
function unpack(data, from, found, to, step = 1) {
  const scale = HALVES[data[from] | (data[from + 1] << 8)];
  for (let i = 0; i < 16; i++) {
    const both = data[from + 2 + i];
    found[to + i * step] = scale * ((both & 15) - 8);
    found[to + (16 + i) * step] = scale * ((both >> 4) - 8);
  }
}

/** The arrays that a graph leaves to its file of weights, as bytes of 32-bit floats. */
function weights(data, about) {
  const found = new Float32Array(about.reduce((sum, [, rows, columns]) => sum + rows * columns, 0));
  let from = 0;
  let to = 0;
  for (const [kind, rows, columns] of about) {
    const end = to + rows * columns;
    if (kind === "q4") {
      const bytes = (rows / 32) * 18; // of a column
      for (let row = 0; row < rows; row += 32) {
        for (let column = 0; column < columns; column++) {
          const block = from + column * bytes + (row / 32) * 18;
          unpack(data, block, found, to + row * columns + column, columns);
        }
      }
      from += columns * bytes;
    } else if (kind === "f2") {
      for (let i = to; i < end; i++, from += 2) found[i] = HALVES[data[from] | (data[from + 1] << 8)];
    } else {
      found.set(new Float32Array(data.slice(from, from + 4 * (end - to)).buffer), to);
      from += 4 * (end - to);
    }
    to = end;
  }
  return new Uint8Array(found.buffer);
}

/** Packed rows of the word table; see flaxgan/text/e5.py. */
class Rows {
  /** @param {(name: string) => Promise<Uint8Array>} read gives a file of the model */
  constructor({ dim, first, each, count }, read) {
    Object.assign(this, { dim, first, each, count, read });
    this.bytes = (dim / 32) * 18;
    this.files = new Map();
  }

  fileOf(place) {
    return place < this.first ? 0 : 1 + Math.floor((place - this.first) / this.each);
  }

  has(place) {
    return this.files.has(this.fileOf(place));
  }

  async load(places) {
    const numbers = [...new Set(places.map((place) => this.fileOf(place)))];
    await Promise.all(
      numbers
        .filter((number) => !this.files.has(number))
        .map(async (number) => this.files.set(number, await this.read(`rows${number}.bin`))),
    );
  }

  /** Rows as one array of floats, `places.length * dim`. */
  unpack(places) {
    const found = new Float32Array(places.length * this.dim);
    places.forEach((place, row) => {
      const number = this.fileOf(place);
      const start = number === 0 ? place : (place - this.first) % this.each;
      const data = this.files.get(number);
      for (let block = 0; block < this.dim / 32; block++) {
        unpack(data, start * this.bytes + block * 18, found, row * this.dim + block * 32);
      }
    });
    return found;
  }
}

export class Generator {
  /**
   * @param {object} ort onnxruntime-web, set up
   * @param {object} config config.json of the model
   * @param {(name: string) => Promise<Uint8Array>} read gives a file of the model, unpacked
   * @param {string[]} providers where the pictures are computed
   */
  static async load(ort, config, read, providers = ["wasm"]) {
    const made = new Generator();
    Object.assign(made, { ort, config, features: new Map() });
    const { text } = config;
    const open = async (name, executionProviders) => {
      const data = weights(await read(`${name}.bin`), config.weights[`${name}.onnx`]);
      const externalData = [{ path: "weights", data }];
      const graph = await read(`${name}.onnx`);
      // "all" takes a second longer, and draws no faster
      const graphOptimizationLevel = "basic";
      const options = { executionProviders, externalData, graphOptimizationLevel };
      return ort.InferenceSession.create(graph, options);
    };
    if (text) {
      made.text = await open("text", ["wasm"]);
      if (text.kind === "unigram") {
        const vocabulary = JSON.parse(new TextDecoder().decode(await read("vocabulary.json")));
        const scores = await read("scores.bin");
        made.tokenizer = new Unigram({
          ...text,
          pieces: vocabulary.pieces.split("\n"),
          replacements: vocabulary.replacements,
          scores: new Float32Array(scores.buffer, scores.byteOffset, scores.byteLength / 4),
        });
        made.rows = new Rows(text.rows, read);
        await made.rows.load([0]);
      } else {
        made.tokenizer = new Bytes(text);
      }
    }
    made.images = await open("images", providers);
    return made;
  }

  /** Places of a prompt's pieces; without a network those that are here have to do. */
  async tokens(prompt) {
    const places = this.tokenizer.encode(prompt);
    if (!this.rows) return places;
    try {
      await this.rows.load(places);
      return places;
    } catch {
      return this.tokenizer.encode(prompt, (place) => this.rows.has(place));
    }
  }

  /** What the generator reads of a prompt, computed once for each. */
  async textOf(prompt) {
    if (!this.text) return {};
    if (this.features.has(prompt)) return this.features.get(prompt);
    const { Tensor } = this.ort;
    const places = await this.tokens(prompt);
    const count = places.length;
    const mask = new Tensor("bool", new Uint8Array(count).fill(1), [1, count]);
    const words = this.rows
      ? { words: new Tensor("float32", this.rows.unpack(places), [1, count, this.rows.dim]) }
      : { tokens: new Tensor("int32", Int32Array.from(places), [1, count]) };
    const given = { ...words, mask };
    const names = this.text.inputNames;
    const found = await this.text.run(Object.fromEntries(names.map((name) => [name, given[name]])));
    const whole = { ...found, mask };
    const wanted = this.images.inputNames.filter((name) => name !== "z");
    const kept = Object.fromEntries(wanted.map((name) => [name, whole[name]]));
    if (this.features.size >= REMEMBERED) this.features.delete(this.features.keys().next().value);
    this.features.set(prompt, kept);
    return kept;
  }

  /**
   * Draws a picture for each noise, `{seed, index}`, a few at a time.
   * @yields {{first: number, count: number, pixels: Uint8ClampedArray}} RGBA, picture by picture
   */
  async *draw(prompt, noises) {
    const { z, channels } = this.config;
    const text = await this.textOf(prompt);
    yield null; // so that one who waits for something newer can stop here
    for (let first = 0; first < noises.length; first += AT_ONCE) {
      const part = noises.slice(first, first + AT_ONCE);
      const vectors = new Float32Array(part.length * z);
      part.forEach(({ seed, index }, row) => vectors.set(noise(seed, index, z), row * z));
      const tensor = new this.ort.Tensor("float32", vectors, [part.length, z]);
      const { images } = await this.images.run({ z: tensor, ...text });
      const values = await images.getData();
      const pixels = new Uint8ClampedArray((values.length / channels) * 4).fill(255);
      for (let i = 0; i < values.length / channels; i++) {
        for (let c = 0; c < 3; c++) {
          // a Uint8ClampedArray rounds to the nearest, halves to even, as NumPy does
          pixels[4 * i + c] = Math.fround(Math.fround(values[i * channels + (c % channels)] + 1) * 127.5);
        }
      }
      yield { first, count: part.length, pixels };
    }
  }
}
