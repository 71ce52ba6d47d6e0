"""Makes the bundled digit classifier anew.

    python -m tools.train_digit_net

trains on the source digits of the split `train` of `stacked_digits`, tests on those of `test`, and
writes `weights/digits.safetensors`. Two minutes of one CPU core.
"""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxgan.commands import cli

BATCH, LEARNING_RATE, WEIGHT_DECAY = 128, 2e-3, 1e-3
# at most, of the pictures that are trained on: a writer's hand, and that drawn digits are not clean
TURN, STRETCH, SHIFT, NOISE = 0.17, 0.1, 2.0, 0.08  # radians, of 1, pixels of 32, of [0, 1]


def main(argv: Sequence[str]) -> None:
    """Trains, tests, writes."""
    parser = cli.Parser(prog="python -m tools.train_digit_net")
    parser.add_argument("--steps", type=int, default=4_000, help=f"of {BATCH} digits")
    parser.add_argument("--out", type=Path, help="default: the file in the package")
    args = parser.parse_args(argv)
    from flaxgan.evaluate.networks.digit_net import bundled_weights

    out = args.out or bundled_weights()
    params = train(*labelled("train"), steps=args.steps)
    images, labels = labelled("test")
    accuracy = test(params, images, labels)
    write(params, accuracy, out)
    print(f"accuracy on {len(labels)} digits that it was not trained on: {100 * accuracy:.2f} %")
    print(f"wrote {out}, {out.stat().st_size:,} bytes")


def labelled(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Enlarged source digits of a split `[n, 32, 32]` uint8, and which they are `[n]` int64."""
    from flaxgan.data.stacked_digits import enlarge, source_digits

    groups = source_digits(split)
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return enlarge(np.concatenate(groups)), labels


def train(images: np.ndarray, labels: np.ndarray, *, steps: int) -> Any:
    """Parameters of a `DigitNet`, float16.

    Args:
      images: `[n, 32, 32]` uint8.
      labels: `[n]` digits.
      steps: of BATCH pictures, each turned, stretched, shifted and made noisy at random.
    """
    import jax
    import jax.numpy as jnp
    import optax

    from flaxgan.evaluate.networks.digit_net import DigitNet

    net = DigitNet()
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, min(100, steps // 2), steps)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    def loss(params: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = net.apply({"params": params}, _degrade(key, x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: jax.Array, *batch: jax.Array) -> tuple[Any, ...]:
        value, gradient = jax.value_and_grad(loss)(params, key, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    state, rng = optimizer.init(params), np.random.default_rng(0)
    for number in range(steps):
        rows = rng.integers(len(images), size=BATCH)
        key = jax.random.fold_in(jax.random.key(1), number)
        params, state, value = step(params, state, key, images[rows], labels[rows])
        if number % 500 == 499:
            print(f"step {number + 1:,} of {steps:,}: loss {float(value):.3f}", flush=True)
    return jax.tree.map(lambda x: np.asarray(x, np.float16), params)


def test(params: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the digits `[n, 32, 32]` that are read as their labels `[n]`."""
    from flaxgan.evaluate.networks.digit_net import DigitClassifier, digit_network

    classifier = DigitClassifier(digit_network(params, ""), 0.0)
    grey = np.repeat(images[..., None], 3, axis=-1)
    return float((classifier.digits(grey)[:, 0] == labels).mean())


def write(params: Any, accuracy: float, path: Path) -> None:
    """Weights in float16, and beside them what they were tested to be."""
    import flax.traverse_util
    import safetensors.numpy

    flat = flax.traverse_util.flatten_dict(params, sep="/")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"flaxgan": json.dumps({"accuracy": accuracy})}
    safetensors.numpy.save_file(flat, path, metadata=header)
    path.chmod(0o644)  # safetensors writes for the owner's eyes only


def _degrade(key: Any, images: Any) -> Any:
    """Pictures moved and made noisy: `[b, 32, 32]` in [0, 255] to `[b, 8, 8, 1]` in [0, 1]."""
    import jax
    import jax.numpy as jnp
    from jax.scipy.ndimage import map_coordinates

    b, side = images.shape[:2]
    turn, stretch, shift, amount, noise = jax.random.split(key, 5)
    angle = jax.random.uniform(turn, (b,), minval=-TURN, maxval=TURN)
    scale = 1.0 + jax.random.uniform(stretch, (b, 2), minval=-STRETCH, maxval=STRETCH)
    offset = jax.random.uniform(shift, (b, 2), minval=-SHIFT, maxval=SHIFT)
    centre = (side - 1) / 2
    rows, columns = jnp.mgrid[:side, :side] - centre

    def move(image: Any, angle: Any, scale: Any, offset: Any) -> Any:
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
        y = scale[0] * (cosine * rows - sine * columns) + offset[0] + centre
        x = scale[1] * (sine * rows + cosine * columns) + offset[1] + centre
        return map_coordinates(image, [y, x], order=1)

    moved = jax.vmap(move)(images.astype(jnp.float32) / 255.0, angle, scale, offset)
    small = moved.reshape(b, 8, side // 8, 8, side // 8).mean(axis=(2, 4))[..., None]
    sigma = jax.random.uniform(amount, (b, 1, 1, 1), maxval=NOISE)
    return (small + sigma * jax.random.normal(noise, small.shape)).clip(0.0, 1.0)


if __name__ == "__main__":
    cli.prepare_process(BATCH)
    cli.run(main)
