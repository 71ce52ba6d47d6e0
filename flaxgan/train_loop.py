"""The training loop: evaluate -> save -> next batch -> step -> log, in that order.

The order is what makes a resumed run equal to an uninterrupted one: a checkpoint holds the state
before a batch, and the batch is a function of the step alone.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxgan import parallel
from flaxgan.auto import settle
from flaxgan.checkpoint import Checkpoints
from flaxgan.config import Config, to_json
from flaxgan.data import CaptionedImages
from flaxgan.drawing import Drawer
from flaxgan.errors import UserError
from flaxgan.evaluate.scores import lower_is_better
from flaxgan.experiment import Experiment, build_experiment, new_state
from flaxgan.interrupt import catch_signals
from flaxgan.metric_writer import MetricWriter
from flaxgan.sample_grid import SampleGrid
from flaxgan.state import TrainState
from flaxgan.text.conditioning import TextStats
from flaxgan.training_scores import TrainingScores
from flaxgan.transfer import find_source, start_from
from flaxgan.workdir import prepare_workdir


def train(config: Config, workdir: Path) -> int | None:
    """Trains, or goes on training, in a workdir.

    Args:
      config: the experiment.
      workdir: holds config.json, metrics.jsonl, TensorBoard events, grids/ and checkpoints/.

    Returns:
      None when training is complete; the signal's number when SIGINT or SIGTERM ended it early,
      with everything saved.

    Raises:
      UserError: a wrong config, a workdir of another config, or a run that diverged.
    """
    devices = jax.devices()
    source = find_source(config, workdir)
    config = settle(config, workdir, like=source and source.config)
    batch_size = config.train.batch_size
    parallel.check_batch_size(batch_size, len(devices))
    prepare_workdir(config, workdir)
    experiment = build_experiment(config)
    state = new_state(experiment, devices)
    if source is not None:
        state = start_from(source, state, config)
    del source  # as large as the state
    total_steps = math.ceil(config.train.total_kimg * 1000 / batch_size)

    with contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep_last=config.train.keep_last,
            best_metric=config.eval.best_metric,
            lower_is_better=lower_is_better(config.eval.best_metric),
        )
        stack.callback(checkpoints.close)
        restored = checkpoints.restore_newest(_abstract(_saved(state)))
        if restored is not None:
            _check_same_data(restored[1], experiment.dataset)
            _check_same_text(restored[0].text_stats, state.text_stats)
        start = 0
        if restored is not None:
            state = restored[0].replace(word_table=state.word_table)
            start = int(state.step)
        drawer = Drawer(experiment.generator, config.model.z_dim, experiment.text_stats, devices)
        training_scores = TrainingScores(experiment, drawer)
        grid = SampleGrid(experiment, drawer, training_scores.test)
        writer = stack.enter_context(
            MetricWriter(
                workdir,
                total_images=total_steps * batch_size,
                start_images=start * batch_size,
                tensorboard=config.train.tensorboard,
            )
        )
        writer.truncate_after(start)
        if restored is not None and start >= total_steps:
            writer.message(
                f"training is complete: {start * batch_size:,} images seen; "
                "raise --train.total-kimg to go on"
            )
            return None
        if restored is not None:
            again = "" if config.train.init_from is None else "; --init-from is not read again"
            writer.message(f"resumed at step {start}, {start * batch_size:,} images seen{again}")
        data = {"pictures": len(experiment.dataset), "sha256": experiment.dataset.fingerprint}
        interrupt = stack.enter_context(catch_signals())
        batches = parallel.shard_ahead(experiment.batches(start), config.train.mode, devices)
        step_fn = _compile_variants(experiment, devices)

        for step in range(start, total_steps + 1):
            images_seen = step * batch_size
            interrupted, complete = interrupt.number is not None, step == total_steps
            due = functools.partial(_due, images_seen, batch_size)
            if step > start or restored is None:  # else: done before the interruption
                scores: dict[str, float] = {}
                if complete or due(config.train.grid_every_kimg):
                    path = workdir / "grids" / f"{images_seen:09d}.png"
                    writer.write_images(images_seen, "grid", grid.save(state.ema_params, path))
                if save_due := complete or due(config.train.save_every_kimg):
                    scores = training_scores.run(state.ema_params)
                    if state.ema_slow_params is not None:
                        slow = training_scores.run(state.ema_slow_params)
                        scores |= {f"slow/{name}": value for name, value in slow.items()}
                    writer.write(step, images_seen, scores)
                if save_due or interrupted:
                    meta = {"config": to_json(config), "next_index": step, "data": data}
                    checkpoints.save(_saved(state), meta, scores)
            if complete or interrupted:
                break
            state, metrics = step_fn(step)(state, next(batches))
            if (step + 1) % config.train.log_every_steps == 0 or step + 1 == total_steps:
                scalars = {name: float(value) for name, value in metrics.items()}
                _check_finite(scalars, step + 1, checkpoints)
                writer.write(step + 1, images_seen + batch_size, scalars)
        if interrupt.number is not None:
            writer.message(f"saved at step {step}; run the same command again to go on")
        else:
            writer.message(f'done; draw: python sample.py --checkpoint {workdir} --prompt "…"')
    return interrupt.number


def _compile_variants(
    experiment: Experiment, devices: Sequence[jax.Device]
) -> Callable[[int], parallel.CompiledStep]:
    """step number -> compiled step, with or without the penalty (lazy regularisation)."""
    config = experiment.config

    @functools.cache
    def compiled(with_penalty: bool) -> parallel.CompiledStep:
        return parallel.compile_step(
            experiment.step, config.train.mode, devices, with_penalty=with_penalty
        )

    return lambda step: compiled(step % config.loss.penalty_every_steps == 0)


def _due(images_seen: int, batch_size: int, every_kimg: float) -> bool:
    """Whether the last step crossed a multiple of `every_kimg`; true at the start."""
    every = every_kimg * 1000
    return images_seen // every > (images_seen - batch_size) // every


def _check_finite(scalars: dict[str, float], step: int, checkpoints: Checkpoints) -> None:
    broken = [name for name, value in scalars.items() if not np.isfinite(value)]
    if broken:
        checkpoints.wait()
        kept = checkpoints.steps()
        newest = f"the checkpoint of step {kept[-1]} is kept" if kept else "no checkpoint yet"
        raise UserError(
            f"training diverged: {broken[0]} is {scalars[broken[0]]} at step {step}; {newest}; "
            "lower --g-opt.lr and --d-opt.lr or raise the penalty (--loss.gamma), and start anew"
        )


def _check_same_data(meta: dict[str, Any], dataset: CaptionedImages) -> None:
    """The order of batches, and so an exact resume, depends on the pictures and captions."""
    old = meta.get("data")  # absent in checkpoints of earlier versions
    if old is not None and old["sha256"] != dataset.fingerprint:
        raise UserError(
            f"the pictures or captions of {dataset.name} have changed since this run was saved "
            f"({old['pictures']:,} pictures then, {len(dataset):,} now); bring them back, or start "
            "another --workdir from this run's weights: --init-from"
        )


def _check_same_text(old: TextStats | None, new: TextStats | None) -> None:
    """Mean and sd of the captions' vectors tell another encoder or other captions."""
    if old is None or new is None:
        return
    shift = np.abs(np.asarray(old.mean) - np.asarray(new.mean)) / np.asarray(old.sd)
    if shift.max() > 0.1:
        raise UserError(
            "the captions or the text encoder have changed since this run was saved; bring them "
            "back (data.name, text.path), or use another --workdir"
        )


def _saved(state: TrainState) -> TrainState:
    """What a checkpoint holds: the word table is made from the captions."""
    return state.replace(word_table=None)


def _abstract(state: TrainState) -> TrainState:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
