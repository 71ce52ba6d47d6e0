"""The train state of a run with its checkpoints: restored, saved, rolled back."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxgan.config import to_json
from flaxgan.data import CaptionedImages
from flaxgan.errors import UserError
from flaxgan.evaluate.evaluator import lower_is_better
from flaxgan.run.experiment import Experiment
from flaxgan.run.rollback import Rollbacks
from flaxgan.saving.checkpoint import Checkpoints
from flaxgan.saving.finding import Report
from flaxgan.text.conditioning import TextStats
from flaxgan.training import parallel
from flaxgan.training.state import TrainState


class CheckpointedState:
    """The newest train state of a run, and those that it can go back to.

    Attributes:
      state: the train state.
      step: updates done.
      lr_scale: factor of both learning rates, lowered by each rollback.
    """

    def __init__(self, experiment: Experiment, state: TrainState, workdir: Path, report: Report):
        """Opens the folder of checkpoints; nothing is restored yet.

        Args:
          experiment: the run.
          state: at step 0.
          workdir: of the run.
          report: called with one line for each broken checkpoint or failed save.

        Raises:
          UserError: the checkpoints or the list of rollbacks cannot be read.
        """
        config = experiment.config
        self._experiment, self.state, self.step = experiment, state, 0
        self._rollbacks = Rollbacks(workdir, config.train)
        self._checkpoints = Checkpoints(
            workdir / "checkpoints",
            keep_last=config.train.keep_last,
            best_metric=config.eval.best_metric,
            lower_is_better=lower_is_better(config.eval.best_metric),
            report=report,
        )

    @property
    def images_seen(self) -> int:
        """Real images, counted anew in every epoch."""
        return self.step * self._experiment.config.train.batch_size

    @property
    def lr_scale(self) -> float:
        return self._rollbacks.lr_scale

    def restore(self) -> bool:
        """Takes the newest intact checkpoint, if there is one; whether there is.

        Raises:
          UserError: none of them is intact, or the data or text have changed since it was saved.
        """
        found = self._restore_newest()
        self._apply_lr_scale()
        return found

    def save(self, scores: dict[str, float]) -> None:
        """Starts writing a checkpoint; `scores` of the state decide which one is the best."""
        data = self._experiment.dataset
        meta = {
            "config": to_json(self._experiment.config),
            "next_index": self.step,
            "data": {"pictures": len(data), "sha256": data.fingerprint},
            "skipped_in_row": int(self.state.health.skipped_in_row),
        }
        self._checkpoints.save(_without_word_table(self.state), meta, scores)

    def roll_back(self) -> None:
        """Goes back to the last checkpoint saved after a good update, with lower learning rates.

        Raises:
          UserError: there is no such checkpoint, or there were too many rollbacks.
        """
        at_step = self.step
        self._rollbacks.check(at_step)
        self._checkpoints.wait()
        self._checkpoints.drop_after_good()
        if not self._restore_newest():
            raise UserError(
                f"training diverged at step {at_step}, and there is no checkpoint to go back to: "
                "lower --g-opt.lr and --d-opt.lr, and start a new run"
            )
        self._rollbacks.add(at_step, self.step)
        self._apply_lr_scale()

    def wait(self) -> bool:
        """Blocks until the last checkpoint is on disk; whether it is."""
        return self._checkpoints.wait()

    def close(self) -> None:
        """Waits for the last save and releases the folder."""
        self._checkpoints.close()

    def _restore_newest(self) -> bool:
        target = abstract(_without_word_table(self.state))
        restored = self._checkpoints.restore_newest(target)
        if restored is not None:
            state, meta = restored
            check_same_data(meta, self._experiment.dataset)
            check_same_text(state.text_stats, self._experiment.text_stats)
            self.state = state.replace(word_table=self.state.word_table)
            self.step = int(state.step)
        return restored is not None

    def _apply_lr_scale(self) -> None:
        """Checkpoints of before a rollback do not know of it."""
        old = self.state.health.lr_scale
        scale = parallel.put_like(np.float32(self.lr_scale), old)
        self.state = self.state.replace(health=self.state.health.replace(lr_scale=scale))


def check_same_data(meta: dict[str, Any], dataset: CaptionedImages) -> None:
    """The order of batches, and so an exact resume, depends on the pictures and captions.

    Raises:
      UserError: they have changed since the checkpoint was saved.
    """
    old = meta["data"]
    if old["sha256"] != dataset.fingerprint:
        raise UserError(
            f"the pictures or captions of {dataset.name} have changed since this run was saved "
            f"({old['pictures']:,} pictures then, {len(dataset):,} now); restore them, or start "
            "another --workdir from this run's weights: --init-from"
        )


def check_same_text(old: TextStats | None, new: TextStats | None) -> None:
    """Another text encoder, or other captions, have another mean or sd of sentence vectors.

    Raises:
      UserError: the means differ by more than a tenth of the sd.
    """
    if old is None or new is None:
        return
    shift = np.abs(np.asarray(old.mean) - np.asarray(new.mean)) / np.asarray(old.sd)
    if shift.max() > 0.1:
        raise UserError(
            "the captions or the text encoder have changed since this run was saved; restore "
            "them (data.name, text.path), or use another --workdir"
        )


def abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings of a state."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def _without_word_table(state: TrainState) -> TrainState:
    """What a checkpoint holds: the word table is made from the captions."""
    return state.replace(word_table=None)
