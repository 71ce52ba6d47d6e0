"""Makes the bundled attribute classifiers anew.

    python -m tools.train_attribute_net --side 32

renders avatars, trains on them, tests on others, and writes `weights/avatars32.safetensors`.
"""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxgan.commands import cli

RELIABLE = 0.995  # of unseen renders; attributes below are left out of the scores
SEED = 77  # of the renders, none of which are in the data set's splits
NOISE, BLUR = 12.0, 0.35  # at most, in half of the pictures: drawn ones are not clean
# side -> attribute -> value -> the value that it counts as: the two look alike at that size
ALIKE = {
    32: {
        "hair": {"CAESAR_SIDE_PART": "CAESAR"},
        "facial_hair": {"MOUSTACHE_FANCY": "MOUSTACHE_MAGNUM"},
    },
    64: {},
}
SAME = 16  # levels of 255: pictures that differ by less in every pixel show the same
TEST_START = 10_000_000  # number of the first render that is tested on; training begins at 0
BATCH, WEIGHT_DECAY = 128, 1e-4


def render_example(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """One avatar `[side, side, 3]` uint8 and its class numbers, of (side, index).

    Attributes are drawn without withholding any pair.
    """
    from flaxgan.data import avatars

    side, index = job
    attributes = avatars.sample_attributes(np.random.default_rng([SEED, index]))
    labels = [values.index(attributes[name]) for name, values in avatars.ATTRIBUTES.items()]
    return _picture(attributes, side), np.array(labels, np.int32)


def visible(labels: np.ndarray) -> np.ndarray:
    """`[n, attributes]` class numbers to bool: what glasses, patches and hoods leave to be seen.

    As in the captions: eyes and eyebrows only without anything worn before them.
    """
    from flaxgan.data import avatar_vocabulary, avatars

    names = list(avatars.ATTRIBUTES)
    shown = np.ones(labels.shape, bool)
    bare = labels[:, names.index("accessory")] == avatars.ATTRIBUTES["accessory"].index("NONE")
    hoods = [avatars.ATTRIBUTES["hat"].index(name) for name in avatar_vocabulary.NO_EYEBROWS_TOPS]
    shown[:, names.index("eyes")] = bare
    shown[:, names.index("eyebrows")] = bare & ~np.isin(labels[:, names.index("hat")], hoods)
    return shown


def main(argv: Sequence[str]) -> None:
    """Renders, trains, tests, writes."""
    parser = cli.Parser(prog="python -m tools.train_attribute_net")
    parser.add_argument("--side", type=int, default=32, choices=(32, 64), help="pixels")
    parser.add_argument("--renders", type=int, default=60_000, help="pictures to train on")
    parser.add_argument("--test-renders", type=int, default=8_000, help="other ones")
    parser.add_argument("--init", type=Path, help="start from this file, of either size")
    parser.add_argument("--lr", type=float, default=2e-3, help="learning rate at the start")
    parser.add_argument("--steps", type=int, default=6_000, help=f"of {BATCH} pictures")
    parser.add_argument("--out", type=Path, help="default: the file in the package")
    args = parser.parse_args(argv)
    from flaxgan.evaluate.networks.attribute_net import bundled_weights, load_attribute_classifier

    out = args.out or bundled_weights(args.side)
    train_set = _render(args.side, range(args.renders), "renders to train on")
    test_set = _render(
        args.side, range(TEST_START, TEST_START + args.test_renders), "renders to test on"
    )
    init = load_attribute_classifier(args.side, args.init).network.params if args.init else None
    params = train(*train_set, steps=args.steps, lr=args.lr, init=init)
    accuracy = test(params, *test_set)
    write(params, accuracy, args.side, out)
    for name, value in accuracy.items():
        print(f"{name:20} {100 * value:6.2f} %{'' if value >= RELIABLE else '  left out'}")
    print(f"wrote {out}, {out.stat().st_size:,} bytes")


def train(
    images: np.ndarray, labels: np.ndarray, *, steps: int, lr: float = 2e-3, init: Any = None
) -> Any:
    """Parameters of an `AttributeNet`, float16.

    Args:
      images: `[n, s, s, 3]` uint8.
      labels: `[n, attributes]` class numbers.
      steps: of BATCH pictures.
      lr: learning rate, falling along half a cosine.
      init: parameters to start from, of a network for 32 or 64 pixels; None: at random.
    """
    import jax
    import optax

    from flaxgan.evaluate.networks.attribute_net import AttributeNet, split_logits
    from flaxgan.training import parallel

    net, devices = AttributeNet(), jax.local_devices()
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.adamw(
            optax.warmup_cosine_decay_schedule(0.0, lr, min(200, steps // 2), steps),
            weight_decay=WEIGHT_DECAY,
        ),
    )

    def loss(params: Any, key: jax.Array, x: jax.Array, y: jax.Array, w: jax.Array) -> jax.Array:
        logits = split_logits(net.apply({"params": params}, _degrade(key, x)))
        terms = [
            optax.softmax_cross_entropy_with_integer_labels(values, y[:, k]) * w[:, k]
            for k, values in enumerate(logits.values())
        ]
        return sum(terms).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: jax.Array, *batch: jax.Array) -> tuple[Any, ...]:
        value, gradient = jax.value_and_grad(loss)(params, key, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    shape = (1, *images.shape[1:])
    params = jax.jit(net.init)(jax.random.key(0), np.zeros(shape, np.float32))["params"]
    if init is not None:
        first = params["Conv_0"]["kernel"].shape
        params = jax.tree.map(lambda x: np.asarray(x, np.float32), init)
        kernel = params["Conv_0"]["kernel"]
        if kernel.shape != first:  # 64 pixels from 32: the mean of 2 x 2 pixels takes their place
            params["Conv_0"]["kernel"] = np.concatenate([kernel / 4.0] * 4, axis=2)
    everywhere = parallel.replicated_sharding(devices)
    params, state = jax.device_put((params, optimizer.init(params)), everywhere)
    shown, rng = visible(labels).astype(np.float32), np.random.default_rng(0)
    for number in range(steps):
        rows = rng.integers(len(images), size=BATCH)
        batch = parallel.shard_rows((images[rows], labels[rows], shown[rows]), devices)
        key = jax.random.fold_in(jax.random.key(1), number)
        params, state, value = step(params, state, key, *batch)
        if number % 100 == 99:
            print(f"step {number + 1:,} of {steps:,}: loss {float(value):.3f}", flush=True)
    return jax.tree.map(lambda x: np.asarray(x, np.float16), params)


def test(params: Any, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Attribute -> accuracy where it is visible.

    A big beard hides the collar: what is read wrongly is drawn again with the value that was read,
    and where that gives the same picture the attribute is not visible and does not count.
    """
    from flaxgan.evaluate.networks.attribute_net import attribute_network, merge, predict_all

    side, names = images.shape[1], _attribute_names()
    predicted = merge(predict_all(attribute_network(params, side, ""), images), ALIKE[side])
    right, shown = predicted == merge(labels, ALIKE[side]), visible(labels)
    for row, column in np.argwhere(shown & ~right):
        shown[row, column] = not _same_picture(labels[row], column, predicted[row, column], side)
    return {name: float(right[shown[:, k], k].mean()) for k, name in enumerate(names)}


def write(params: Any, accuracy: dict[str, float], side: int, path: Path) -> None:
    """Weights in float16, and beside them what they were tested to be."""
    import flax.traverse_util
    import safetensors.numpy

    from flaxgan.data.avatars import ATTRIBUTES

    flat = flax.traverse_util.flatten_dict(params, sep="/")
    header = {
        "side": side,
        "alike": ALIKE[side],
        "classes": {name: list(values) for name, values in ATTRIBUTES.items()},
        "accuracy": accuracy,
        "reliable": [name for name, value in accuracy.items() if value >= RELIABLE],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(flat, path, metadata={"flaxgan": json.dumps(header)})
    path.chmod(0o644)  # safetensors writes for the owner's eyes only


def _same_picture(labels: np.ndarray, column: int, other: int, side: int) -> bool:
    """Whether an avatar looks the same with another value of one attribute."""
    from flaxgan.data.avatar_vocabulary import HIDDEN
    from flaxgan.data.avatars import ATTRIBUTES

    table = list(ATTRIBUTES.items())
    attributes = {name: values[k] for (name, values), k in zip(table, labels, strict=True)}
    name, values = table[column]
    changed = {**attributes, name: values[other]}
    bare = changed["hat"] == "NONE" and changed["hair"] == HIDDEN  # a head of no kind
    if bare or HIDDEN in (attributes[name], values[other]):
        return False
    first, second = (_picture(each, side).astype(int) for each in (attributes, changed))
    return bool(np.abs(first - second).max() < SAME)


def _picture(attributes: dict[str, str], side: int) -> np.ndarray:
    """`[side, side, 3]` uint8."""
    from PIL import Image

    from flaxgan.data import avatars, pictures

    image = Image.open(io.BytesIO(avatars.render(attributes)))
    return pictures.decode(np.asarray(image), side, 3, what="render")


def _attribute_names() -> list[str]:
    from flaxgan.data.avatars import ATTRIBUTES

    return list(ATTRIBUTES)


def _degrade(key: Any, images: Any) -> Any:
    """Half of the pictures with some noise and blur, float32 in [0, 255]."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(key, 4)
    x = images.astype(jnp.float32)
    shape = (len(x), 1, 1, 1)
    blurred = x
    for axis in (1, 2):
        sides = jnp.roll(blurred, 1, axis) + jnp.roll(blurred, -1, axis)
        blurred = (sides + 2.0 * blurred) / 4.0
    amount = jax.random.uniform(keys[0], shape, maxval=BLUR)
    sigma = jax.random.uniform(keys[1], shape, maxval=NOISE)
    y = x + amount * (blurred - x) + sigma * jax.random.normal(keys[2], x.shape)
    return jnp.where(jax.random.bernoulli(keys[3], 0.5, shape), y.clip(0.0, 255.0), x)


def _render(side: int, indices: range, what: str) -> tuple[np.ndarray, np.ndarray]:
    from flaxgan.data.rendering import render_parallel

    jobs = [(side, index) for index in indices]
    images = np.empty((len(jobs), side, side, 3), np.uint8)
    labels = np.empty((len(jobs), len(_attribute_names())), np.int32)
    for k, (image, row) in enumerate(render_parallel(render_example, jobs, description=what)):
        images[k], labels[k] = image, row
    return images, labels


if __name__ == "__main__":
    cli.prepare_process(BATCH)
    cli.run(main)
