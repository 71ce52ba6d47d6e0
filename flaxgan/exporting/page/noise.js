// The noise of flaxgan, so that a seed draws the same pictures here as `flaxgan sample --seed`:
// jax's Threefry-2x32 (Salmon et al. 2011), its uniform bits, and its inverse error function.

const ROTATIONS = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
];
const STREAM = 0xf10b76c3; // crc32 of "sample"; see flaxgan/rng.py
const f = Math.fround;

/** Two words, encrypted with a key of two words. */
export function threefry([k0, k1], x0, x1) {
  const keys = [k0, k1, k0 ^ k1 ^ 0x1bd11bda];
  x0 = (x0 + k0) | 0;
  x1 = (x1 + k1) | 0;
  for (let round = 0; round < 5; round++) {
    for (const turn of ROTATIONS[round % 2]) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << turn) | (x1 >>> (32 - turn))) ^ x0;
    }
    x0 = (x0 + keys[(round + 1) % 3]) | 0;
    x1 = (x1 + keys[(round + 2) % 3] + round + 1) | 0;
  }
  return [x0, x1];
}

const SMALL = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 0.00021858087, -0.00125372503,
  -0.00417768164, 0.246640727, 1.50140941,
];
const LARGE = [
  -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
  0.00943887047, 1.00167406, 2.83297682,
];

/** Giles 2012, "Approximating the erfinv function", single precision, as XLA has it. */
function inverseErf(x) {
  let w = f(-Math.log1p(-f(x * x)));
  const small = w < 5;
  w = small ? f(w - 2.5) : f(f(Math.sqrt(w)) - 3);
  return f((small ? SMALL : LARGE).reduce((sum, c) => f(f(c) + f(sum * w)), 0) * x);
}

const bits = new Uint32Array(1);
const asFloat = new Float32Array(bits.buffer);
const LOWEST = f(-0.99999994);

/** Noise vector number `index` of a seed, standard normal. */
export function noise(seed, index, size) {
  const key = [STREAM, index].reduce((key, data) => threefry(key, 0, data | 0), [0, seed | 0]);
  return Float32Array.from({ length: size }, (_, i) => {
    const [a, b] = threefry(key, 0, i);
    bits[0] = ((a ^ b) >>> 9) | 0x3f800000;
    const uniform = Math.max(LOWEST, f(f(f(asFloat[0] - 1) * f(1 - LOWEST)) + LOWEST));
    return f(f(Math.SQRT2) * inverseErf(uniform));
  });
}
