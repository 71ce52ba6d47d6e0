"""How soon a generator learns what words mean: python -m tools.probe --config FILE.

G is trained alone, without D: each picture that it draws is pulled to the real one by their pixels.
That takes a fifth of the time of GAN training, and teaches colours and shapes as soon. What only D
can teach (sharp small things, variety) it does not show: use it to choose among text paths and
generators, then compare the best as GANs.
"""

import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flaxgan.commands import cli, configs
from flaxgan.config import parse_args, split_flag
from flaxgan.drawing.drawer import Drawer
from flaxgan.errors import UserError
from flaxgan.images import to_float
from flaxgan.losses import multiscale_l1, nearest
from flaxgan.run.auto_settings import settle
from flaxgan.run.experiment import Experiment, build_experiment, new_state
from flaxgan.run.scoring import TrainingScores
from flaxgan.text.conditioning import prepare_text
from flaxgan.training.state import Params

HELP = """usage: python -m tools.probe --config FILE|NAME [options] [--any.field VALUE ...]

Train a generator alone, by regression, and score what it draws.

  --images N   to learn from (default: 20000)
  --noises K   pictures of each caption, of which the nearest is pulled (default: 1)
  --lr LR      of Adam, at the start of a cosine to 0 (default: 0.001)
"""


def train_alone(
    experiment: Experiment, *, images: int, noises: int, lr: float
) -> tuple[Params, float, float]:
    """Trains a generator by regression.

    Args:
      experiment: data, text and generator; its batch size and seed.
      images: to learn from.
      noises: pictures of each caption, of which the nearest is pulled (`flaxgan.losses.nearest`);
        with 1, z is of no use, and G learns a mean.
      lr: of Adam (0.9, 0.99), at the start of a cosine to 0.

    Returns:
      Its parameters, images per second once compiled, and the mean distance of the last tenth.
    """
    config = experiment.config
    steps = max(2, images // config.train.batch_size)
    tx = optax.adam(optax.cosine_decay_schedule(lr, steps), b1=0.9, b2=0.99)
    table, stats = experiment.word_table, experiment.text_stats
    key = jax.random.key(config.train.seed)

    def draw(params, z, text):
        return experiment.generator.apply({"params": params}, z, text)

    @jax.jit
    def update(params, opt_state, batch, number):
        real, text = to_float(batch.images), prepare_text(batch.text, stats, table)
        shape = (noises, len(real), config.model.z_dim)
        z = jax.random.normal(jax.random.fold_in(key, number), shape)
        if noises > 1:
            candidates = jax.vmap(lambda z: draw(params, z, text))(z)
            chosen, _ = nearest(candidates, real)
            z = jnp.take_along_axis(z, chosen[None, :, None], axis=0)

        def distance(params):
            return multiscale_l1(draw(params, z[0], text), real).mean()

        found, grads = jax.value_and_grad(distance)(params)
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), opt_state, found

    params = new_state(experiment, jax.devices()[:1]).g_params
    opt_state, found, start = tx.init(params), [], 0.0
    for number, batch in zip(range(steps), experiment.batches(), strict=False):
        batch = batch.replace(mismatched=None, negatives=None)
        params, opt_state, distance = update(params, opt_state, batch, number)
        found.append(distance)
        if number == 0:
            jax.block_until_ready(params)
            start = time.perf_counter()
    jax.block_until_ready(params)
    speed = (steps - 1) * config.train.batch_size / (time.perf_counter() - start)
    return params, speed, float(np.mean(found[-max(1, steps // 10) :]))


def main(argv: Sequence[str]) -> None:
    """Trains, scores, and prints one line of figures."""
    if "--help" in argv or "-h" in argv:
        print(HELP)
        return
    images, rest = _number(argv, "--images", 20_000)
    noises, rest = _number(rest, "--noises", 1)
    lr, rest = _number(rest, "--lr", 1e-3)
    config, _ = parse_args(configs.with_path(rest))
    config = settle(config, None)
    start = time.perf_counter()
    experiment = build_experiment(config)
    drawer = Drawer(
        experiment.generator, config.model.z_dim, experiment.text_stats, jax.devices()[:1]
    )
    scores = TrainingScores(experiment, drawer)
    params, speed, distance = train_alone(experiment, images=int(images), noises=int(noises), lr=lr)
    found = {name: value for name, value in scores.run(params).items() if "/" not in name}
    seconds = time.perf_counter() - start
    print(f"{speed:.1f} images/s, {seconds:.0f} s in all, distance {distance:.4f}")
    print("  ".join(f"{name} {value:.3g}" for name, value in found.items()))


def _number(argv: Sequence[str], flag: str, default: float) -> tuple[float, list[str]]:
    """A flag of this command that is a positive number, and the other words."""
    text, rest = split_flag(argv, flag, None)
    try:
        number = default if text is None else float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise UserError(f"{flag} must be a number above 0, not {text}")
    return number, rest


if __name__ == "__main__":
    cli.run(main)
