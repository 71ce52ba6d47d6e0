"""flaxgan's side, set up as its commands do: `python -m benchmarks.flaxgan_side WORK`."""

import sys
import time
from typing import Any

from benchmarks import works
from benchmarks.worker import serve
from flaxgan.commands import cli
from flaxgan.config import Config


def main(work: str) -> None:
    """Warms up, then answers: see `benchmarks.worker`."""
    if work in works.SAMPLING:
        serve_sampler(works.SAMPLING[work])
    else:
        config = works.config_of(work)
        cli.prepare_process(config.known_batch_size, family=config.model.family)
        serve_step(config)


def serve_step(config: Config) -> None:
    """The training step with batches from the host, which wait in memory."""
    from flaxgan.run.experiment import build_experiment, compile_steps, new_state
    from flaxgan.training import parallel

    devices = parallel.all_devices()
    experiment = build_experiment(config)
    state = new_state(experiment, devices)
    batches = [batch for batch, _ in zip(experiment.batches(), range(8), strict=False)]
    step = compile_steps(experiment, devices)(0)
    start = time.perf_counter()
    place = parallel.shard_batch(batches[0], config.train.mode, devices)
    step.lower(state, place).compile()
    seconds = time.perf_counter() - start
    pending: list[Any] = []
    turn = 0

    def call() -> None:
        nonlocal state, turn
        batch = parallel.shard_batch(batches[turn % len(batches)], config.train.mode, devices)
        state, metrics = step(state, batch)
        pending.append(metrics["d_loss"])
        turn += 1
        if len(pending) > 1:  # one step ahead of the host, as in training
            pending.pop(0).block_until_ready()

    serve(
        call,
        config.train.batch_size,
        lambda: pending[-1].block_until_ready(),
        devices=len(devices),
        compile_seconds=seconds,
    )


def serve_sampler(count: int) -> None:
    """`Sampler.batches` of the bundled model, from encoded prompts to NumPy pictures."""
    cli.prepare_process(0)
    import jax
    import numpy as np

    import flaxgan

    sampler = flaxgan.load(works.MODEL)
    text = sampler.encode([works.PROMPT] * count)
    indices = np.arange(count)

    def call() -> None:
        for _ in sampler.batches(indices, text, batch_size=count):
            pass

    serve(call, count, lambda: None, devices=len(jax.local_devices()))


if __name__ == "__main__":
    main(sys.argv[1])
