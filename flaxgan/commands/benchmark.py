"""How fast a config runs on this machine: `flaxgan benchmark --config configs/X.py`.

Measures the training step, the input pipeline alone and sampling, in images per second; counts
floating-point operations with XLA's cost analysis of the compiled program; and relates them to the
fastest large matrix product that the same devices reach at the same time.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxgan.commands import cli, configs
from flaxgan.config import Config, parse_args, split_flag
from flaxgan.errors import UserError

REPEATS = 5  # timed blocks; their median is reported, for the peak the fastest
SAMPLING_BATCH = 64  # pictures per device
MATMUL_SIZE = {"cpu": 2048}  # side of the square matrices
MATMUL_SIZE_ACCELERATOR = 8192


class Rate(NamedTuple):
    """One measurement.

    Attributes:
      per_second: images per second; for the matrix product: products per second.
      flops: floating-point operations of one; None where there is nothing to count.
    """

    per_second: float
    flops: float | None = None

    @property
    def flops_per_second(self) -> float | None:
        """Operations per second over all devices."""
        return None if self.flops is None else self.per_second * self.flops


def benchmark(config: Config, *, seconds: float = 10.0) -> dict[str, Rate]:
    """Measures a config with its own data.

    Args:
      config: the experiment; its data set is prepared, and its captions encoded, if need be.
      seconds: spent on each measurement, about; compilation and warm-up come on top.

    Returns:
      "step", "input", "sampling" and "matmul".
    """

    from flaxgan.run.auto_settings import settle
    from flaxgan.run.experiment import build_experiment, new_state
    from flaxgan.training import parallel

    devices = parallel.all_devices()
    config = settle(config, None)
    parallel.check_batch_size(
        config.train.batch_size, len(devices), parts=config.train.accumulate_steps
    )
    experiment = build_experiment(config)
    state = new_state(experiment, devices)
    return {
        "matmul": measure_matmul(devices, config.model.dtype, seconds),
        "input": _measure_input(experiment.batches(), config.train.batch_size, seconds),
        "sampling": _measure_sampling(experiment, state, devices, seconds),
        "step": _measure_step(experiment, state, devices, seconds),  # donates the state
    }


def measure_matmul(devices: Sequence[Any], dtype: str, seconds: float) -> Rate:
    """Square matrix products, one stream on each device at once."""
    import jax
    import jax.numpy as jnp

    from flaxgan.training import parallel

    side = MATMUL_SIZE.get(devices[0].platform, MATMUL_SIZE_ACCELERATOR)
    x = jnp.full((len(devices), side, side), 1.0 / side, dtype)
    x = parallel.shard_rows(x, devices)
    multiply = jax.jit(lambda x: jnp.einsum("nij,njk->nik", x, x))

    def run(count: int) -> None:
        y = x
        for _ in range(count):
            y = multiply(y)
        y.block_until_ready()

    return Rate(len(devices) * _calls_per_second(run, seconds, pick=min), 2.0 * side**3)


def _measure_input(batches: Iterator[Any], batch_size: int, seconds: float) -> Rate:
    def run(count: int) -> None:
        for _ in range(count):
            next(batches)

    return Rate(batch_size * _calls_per_second(run, seconds))


def _measure_step(experiment: Any, state: Any, devices: Sequence[Any], seconds: float) -> Rate:
    from flaxgan.training import parallel

    config = experiment.config
    mode, batch_size = config.train.mode, config.train.batch_size
    batch = parallel.shard_batch(next(experiment.batches()), mode, devices)
    every = config.loss.penalty_every_steps
    variants = [
        parallel.compile_step(
            experiment.step, mode, devices, config.train.shard_above, with_penalty=with_penalty
        )
        .lower(state, batch)
        .compile()
        for with_penalty in ((True, False) if every > 1 else (True,))
    ]

    def run(rounds: int) -> None:
        """With lazy penalties one step in `every` has them."""
        nonlocal state
        for i in range(rounds * every):
            state, metrics = variants[0 if i % every == 0 else -1](state, batch)
        metrics["d_loss"].block_until_ready()

    images = batch_size * every
    flops = _flops(variants[0]) + (every - 1) * _flops(variants[-1])
    return Rate(images * _calls_per_second(run, seconds), flops / (images // len(devices)))


def _measure_sampling(experiment: Any, state: Any, devices: Sequence[Any], seconds: float) -> Rate:
    import jax
    import numpy as np

    from flaxgan.drawing.drawer import sample
    from flaxgan.models.given_pictures import with_picture
    from flaxgan.text.conditioning import prepare_text
    from flaxgan.training import parallel

    count = SAMPLING_BATCH * len(devices)
    text = None
    if experiment.batch_builder.captions is not None:
        captions = np.resize(np.arange(len(experiment.dataset.flat_captions)), count)
        text = experiment.batch_builder.text(captions)
        text = prepare_text(text, None, experiment.word_table)
    data = experiment.config.data
    images = np.zeros((count, data.resolution, data.resolution, data.channels), np.float32)
    text = with_picture(experiment.generator, text, images)
    indices, text = parallel.shard_rows((np.arange(count), text), devices)
    compiled = sample.lower(
        state.ema_params,
        indices,
        text,
        generator=experiment.generator,
        z_dim=experiment.config.model.z_dim,
        text_stats=experiment.text_stats,
    ).compile()

    def run(calls: int) -> None:
        for _ in range(calls):
            images = compiled(state.ema_params, indices, text, text_stats=experiment.text_stats)
        jax.block_until_ready(images)

    return Rate(count * _calls_per_second(run, seconds), _flops(compiled) / SAMPLING_BATCH)


def _flops(compiled: Any) -> float:
    """Operations that one device does in one call of a compiled program."""
    return float(compiled.cost_analysis()["flops"])


def _calls_per_second(
    run: Callable[[int], None],
    seconds: float,
    pick: Callable[[list[float]], float] = statistics.median,
) -> float:
    """From the median, or another pick, of blocks of equal length, after a warm-up."""
    run(2)
    start = time.perf_counter()
    run(2)
    one = (time.perf_counter() - start) / 2
    count = max(1, round(seconds / REPEATS / max(one, 1e-9)))
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run(count)
        times.append(time.perf_counter() - start)
    return count / pick(times)


def table(config: Config, rates: dict[str, Rate]) -> str:
    """The measurements as text, one line each."""
    import jax

    from flaxgan.training import parallel

    devices = parallel.all_devices()
    peak = rates["matmul"].flops_per_second
    lines = [
        f"{config.name}: {len(devices)} x {devices[0].device_kind}, jax {jax.__version__}, "
        f"{config.train.mode}, batch {config.train.batch_size}, {config.model.dtype}",
        f"{'':10}{'images/s':>12}{'GFLOP/image':>14}{'GFLOP/s':>12}{'of matmul':>12}",
    ]
    for name in ("step", "sampling", "input"):
        rate = rates[name]
        line = f"{name:10}{rate.per_second:>12,.1f}"
        if rate.flops is not None:
            speed = rate.flops_per_second
            line += f"{rate.flops / 1e9:>14.3f}{speed / 1e9:>12,.1f}{speed / peak:>12.0%}"
        lines.append(line)
    lines.append(f"{'matmul':10}{'':>12}{'':>14}{peak / 1e9:>12,.1f}{1:>12.0%}")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """The command line: --config FILE [--seconds N] [--json FILE] [--any.field VALUE …]."""
    seconds, rest = split_flag(argv, "--seconds", "10")
    json_path, rest = split_flag(rest, "--json", None)
    config, _ = parse_args(configs.with_path(rest))
    try:
        length = float(seconds or "")
    except ValueError as error:
        raise UserError(f"--seconds must be a number, not {seconds!r}") from error
    if not length > 0:
        raise UserError(f"--seconds must be > 0, not {seconds}")
    cli.prepare_process(config.known_batch_size, family=config.model.family, say=True)
    rates = benchmark(config, seconds=length)
    print(table(config, rates))
    if json_path is not None:
        values = {name: rate._asdict() for name, rate in rates.items()}
        try:
            Path(json_path).write_text(json.dumps({"config": config.name, **values}) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {json_path}: {error.strerror}") from error
