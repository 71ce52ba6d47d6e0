"""Makes the bundled emoji matcher anew.

    python -m tools.train_emoji_matcher

trains on the pictures of all splits of the data set emoji and writes
`weights/emoji_matcher.safetensors`. What it is worth on pictures that it has not seen is what the
same training on `train` alone reaches on the others; both are in the file's header.
"""

import functools
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxgan.commands import cli

SIDE = 64  # pixels
COPIES = 2  # spoilt ones of every picture, beside it: drawn pictures are not clean
# the most that they are spoilt by: standard deviations of 255 in single pixels and in 8 x 8 blocks,
# times the binomial filter of 0.7 pixels, deviation of the colour matrix from 1, pixels
NOISE, BLOTCHES, BLURS, TINT, WARP = 24.0, 14.0, 3, 0.05, 2.0
CAPTIONS = {"en": (0, 2), "zh": (1, 3)}  # with and without the style, see data.emoji_captions
BATCH, STEPS, LR, WEIGHT_DECAY = 512, 600, 2e-3, 1e-2
DROPOUT = {"image": 0.2, "text": 0.1}  # of standardised features
TEMPERATURE, MAX_SCALE = 1 / 15, 100.0  # at the start, and what the cosines are multiplied by


class Pictures(NamedTuple):
    """A split as the heads see it.

    Attributes:
      features: `[n, 1 + COPIES, f]` float32, the clean picture first.
      text: `[n, k, d]` float32, sentence vectors of its captions, the first English one first.
      caption_ids: `[n, k]` int; equal captions of all splits have equal numbers.
      styles: `n` names.
    """

    features: np.ndarray
    text: np.ndarray
    caption_ids: np.ndarray
    styles: np.ndarray


def main(argv: Sequence[str]) -> None:
    """Reads, trains, tests, writes."""
    from flaxgan.evaluate.networks.emoji_matcher import bundled_weights

    parser = cli.Parser(prog="python -m tools.train_emoji_matcher")
    parser.add_argument("--features", type=Path, help="folder to keep pictures' features in")
    parser.add_argument("--out", type=Path, help="default: the file in the package")
    args = parser.parse_args(argv)
    out = args.out or bundled_weights()
    splits = read(args.features)
    everything = Pictures(*map(np.concatenate, zip(*splits.values(), strict=True)))
    report, tested = {}, ("test", "heldout")
    for name, pictures in (("unseen", splits["train"]), ("seen", everything)):
        params = train(pictures)
        report[name] = {split: test(params, splits[split]) for split in tested}
        for split, values in report[name].items():
            numbers = ", ".join(f"{key} {100 * value:.1f} %" for key, value in values.items())
            print(f"{name} pictures of {split}: {numbers}")
    write(params, report, out)
    print(f"wrote {out}, {out.stat().st_size:,} bytes")


def read(folder: Path | None = None) -> dict[str, Pictures]:
    """All splits; features of pictures are read from a folder where they are there."""
    from flaxgan.config import DataConfig, TextConfig
    from flaxgan.data import open_dataset
    from flaxgan.data.emoji_captions import STYLES
    from flaxgan.evaluate.networks.emoji_matcher import matcher_text_config
    from flaxgan.text import build_text_encoder, embed_captions

    config = DataConfig(name="emoji", resolution=SIDE)
    opened = {split: open_dataset(config, split) for split in ("train", "test", "heldout")}
    captions = {
        split: [dataset.captions(i) for i in range(len(dataset))]
        for split, dataset in opened.items()
    }
    encoder = build_text_encoder(matcher_text_config(TextConfig()))
    vectors: dict[str, np.ndarray] = {}
    for columns in CAPTIONS.values():
        groups = (group for split in captions.values() for group in split)
        unique = sorted({group[k] for group in groups for k in columns})
        vectors.update(zip(unique, embed_captions(encoder, unique), strict=True))
    number = {caption: i for i, caption in enumerate(vectors)}
    columns = sorted(k for pair in CAPTIONS.values() for k in pair)

    splits = {}
    for index, (split, dataset) in enumerate(opened.items()):
        chosen = [[group[k] for k in columns] for group in captions[split]]
        path = folder / f"{split}.npy" if folder else None
        if path and path.exists():
            features = np.load(path, allow_pickle=False)
        else:
            images = np.stack([dataset.image(i) for i in range(len(dataset))])
            rng = np.random.default_rng(index)
            copies = [images, *(spoil(rng, images) for _ in range(COPIES))]
            features = np.stack([_image_network()(x) for x in copies], axis=1)
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, features, allow_pickle=False)
        splits[split] = Pictures(
            features,
            np.array([[vectors[c] for c in row] for row in chosen], np.float32),
            np.array([[number[c] for c in row] for row in chosen]),
            np.array([next(s for s in STYLES if s in row[0].lower()) for row in chosen]),
        )
    return splits


def spoil(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Pictures as a generator might draw them, each spoilt to its own degree.

    Warped, blurred, tinted, blotchy, noisy and compressed.

    Args:
      rng: draws the degrees.
      images: `[n, s, s, 3]` uint8, s a multiple of 8.

    Returns:
      The same shape and type.
    """
    spoilt = np.empty_like(images)
    n, side = len(images), images.shape[1]
    noise, blotches, tints, warps = (
        rng.uniform(0, highest, n) for highest in (NOISE, BLOTCHES, TINT, WARP)
    )
    blurs, qualities = rng.integers(0, BLURS + 1, n), rng.integers(30, 96, n)
    for i, image in enumerate(images):
        x = _warp(rng, image, warps[i]).astype(np.float32)
        for _ in range(blurs[i]):
            for axis in (0, 1):
                pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
                y = np.moveaxis(np.pad(x, pad, "edge"), axis, 0)
                x = np.moveaxis((y[:-2] + 2 * y[1:-1] + y[2:]) / 4, 0, axis)
        x = 255 + (x - 255) @ (np.eye(3) + rng.normal(0, tints[i], (3, 3)))  # white stays white
        coarse = rng.normal(0, blotches[i], (8, 8, 3))
        x = x + coarse.repeat(side // 8, 0).repeat(side // 8, 1) + rng.normal(0, noise[i], x.shape)
        spoilt[i] = _jpeg(x.clip(0, 255).round().astype(np.uint8), int(qualities[i]))
    return spoilt


def _warp(rng: np.random.Generator, image: np.ndarray, amount: float) -> np.ndarray:
    """Moves the whole by up to 2 pixels and each corner of a 4 x 4 mesh by up to `amount` <= 2."""
    from PIL import Image

    side, border = len(image), 4  # nothing is taken from beyond the border
    cell = side // 4
    corners = border + cell * np.indices((5, 5)).transpose(1, 2, 0)[..., ::-1]  # x, y
    corners = corners + rng.uniform(-2, 2, 2) + rng.uniform(-amount, amount, (5, 5, 2))
    mesh = []
    for i, j in np.ndindex(4, 4):
        quad = corners[[i, i + 1, i + 1, i], [j, j, j + 1, j + 1]]  # as PIL goes round it
        box = (j * cell, i * cell, (j + 1) * cell, (i + 1) * cell)
        mesh.append((box, tuple(quad.ravel().tolist())))
    wide = Image.fromarray(np.pad(image, ((border, border), (border, border), (0, 0)), "edge"))
    size = (side, side)
    return np.asarray(wide.transform(size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR))


def _jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@functools.cache
def _image_network() -> Any:
    """What lies below the image tower, over all devices."""
    from flaxgan.evaluate.feature_network import FeatureNetwork
    from flaxgan.evaluate.networks.efflite0 import load_efflite0
    from flaxgan.evaluate.networks.emoji_matcher import IMAGE_FEATURES, image_features

    backbone = load_efflite0()
    return FeatureNetwork("features", IMAGE_FEATURES, backbone.params, image_features, "", {})


def train(pictures: Pictures, *, steps: int = STEPS) -> dict[str, Any]:
    """Parameters of both towers, float16."""
    import jax
    import jax.numpy as jnp
    import optax

    from flaxgan.evaluate.networks.emoji_matcher import Tower

    stats = {
        "image": _stats(pictures.features.reshape(-1, pictures.features.shape[-1])),
        "text": _stats(pictures.text.reshape(-1, pictures.text.shape[-1])),
    }
    inputs = {"image": pictures.features, "text": pictures.text}
    x, y = ((inputs[k] - stats[k]["mean"]) / stats[k]["sd"] for k in ("image", "text"))
    tower, batch_size = Tower(), min(BATCH, len(x))
    init = jax.jit(tower.init)
    towers = {
        "image": init(jax.random.key(0), x[:1, 0])["params"],
        "text": init(jax.random.key(1), y[:1, 0])["params"],
    }
    params = {**towers, "log_scale": -np.log(np.float32(TEMPERATURE))}
    schedule = optax.warmup_cosine_decay_schedule(0.0, LR, min(50, steps // 2), steps)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    def vectors(params: Any, key: jax.Array, which: str, values: jax.Array) -> jax.Array:
        keep = jax.random.bernoulli(key, 1.0 - DROPOUT[which], values.shape)
        values = jnp.where(keep, values / (1.0 - DROPOUT[which]), 0.0)
        return tower.apply({"params": params[which]}, values)

    def loss(params: Any, key: jax.Array, x: jax.Array, y: jax.Array, ids: jax.Array) -> jax.Array:
        keys = jax.random.split(key)
        a, b = vectors(params, keys[0], "image", x), vectors(params, keys[1], "text", y)
        scale = jnp.minimum(jnp.exp(params["log_scale"]), MAX_SCALE)
        return contrastive_loss(a, b, scale, ids).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: jax.Array, *batch: jax.Array) -> tuple[Any, ...]:
        value, gradient = jax.value_and_grad(loss)(params, key, *batch)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, rng = optimizer.init(params), np.random.default_rng(0)
    for number in range(steps):
        rows = rng.choice(len(x), batch_size, replace=False)
        copy, caption = (rng.integers(z.shape[1], size=batch_size) for z in (x, y))
        batch = x[rows, copy], y[rows, caption], pictures.caption_ids[rows, caption]
        key = jax.random.fold_in(jax.random.key(2), number)
        params, state, value = step(params, state, key, *batch)
        if number % 100 == 99:
            print(f"step {number + 1:,} of {steps:,}: loss {float(value):.3f}", flush=True)
    result = {which: {**stats[which], "tower": params[which]} for which in towers}
    return jax.tree.map(lambda p: np.asarray(p, np.float16), result)


def contrastive_loss(image: Any, text: Any, scale: Any, caption_ids: Any) -> Any:
    """The symmetric contrastive loss of pictures and their captions.

    Args:
      image, text: `[b, d]`, unit length, row i of both belongs together.
      scale: of the cosines, which makes them logits.
      caption_ids: `[b]` int; a caption that two pictures share is not a wrong one for either.

    Returns:
      `[b]`.

    Reference: Radford et al. 2021 (CLIP), section 2.3, but for the shared captions.
    """
    import jax.numpy as jnp
    import optax

    labels = jnp.arange(len(caption_ids))
    shared = (caption_ids[:, None] == caption_ids) & (labels[:, None] != labels)
    logits = jnp.where(shared, -jnp.inf, scale * image @ text.T)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2.0


def test(params: Mapping[str, Any], pictures: Pictures) -> dict[str, float]:
    """R-precision@1 among 100 first English captions of the same split.

    Returns:
      clean: of real pictures.
      twemoji, openmoji: of the real pictures of one style, among captions of that style.
      spoilt: of their spoilt copies; of a matcher that was trained on the pictures, also on these.
      style_only: what knowing the art style and nothing else gives.
    """
    import jax

    from flaxgan.evaluate.caption_evaluator import CANDIDATES
    from flaxgan.evaluate.clip_metrics import r_precision
    from flaxgan.evaluate.networks.emoji_matcher import embed

    vectors = jax.jit(embed)
    text = np.asarray(vectors(params["text"], pictures.text[:, 0]))
    copies = [
        np.asarray(vectors(params["image"], pictures.features[:, k]))
        for k in range(pictures.features.shape[1])
    ]

    def score(image: np.ndarray, rows: Any = slice(None)) -> float:
        return r_precision(image[rows], text[rows], candidates=CANDIDATES)[0]

    values = {"clean": score(copies[0])}
    for style in np.unique(pictures.styles):
        values[str(style)] = score(copies[0], pictures.styles == style)
    values["spoilt"] = float(np.mean([score(copy) for copy in copies[1:]]))
    values["style_only"] = _style_only(pictures.styles, CANDIDATES)
    return values


def _style_only(styles: np.ndarray, candidates: int) -> float:
    """Expected 1 / (captions of the picture's style among its candidates)."""
    rng, hits = np.random.default_rng(0), []
    for i in range(len(styles)):
        others = rng.choice(np.delete(styles, i), candidates - 1, replace=False)
        hits.append(1.0 / (1 + np.sum(others == styles[i])))
    return float(np.mean(hits))


def write(params: Mapping[str, Any], report: Mapping[str, Any], path: Path) -> None:
    """Weights in float16, and beside them how they came about and what they were tested to be."""
    import flax.traverse_util
    import safetensors.numpy

    header = {
        "trained_on": "emoji 1.0.0 full, all splits, captions in English and Chinese",
        "spoilt_copies": COPIES,
        "steps": STEPS,
        "batch": BATCH,
        "r_precision": report,
    }
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    path.parent.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(flat, path, metadata={"flaxgan": json.dumps(header)})
    path.chmod(0o644)  # safetensors writes for the owner's eyes only


def _stats(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"mean": x.mean(axis=0), "sd": np.maximum(x.std(axis=0), 1e-3)}


if __name__ == "__main__":
    cli.prepare_process(BATCH)
    cli.run(main)
