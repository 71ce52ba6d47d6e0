"""Rollbacks of a run that diverged: where they happened, and how they lower learning rates."""

import dataclasses
import json
from pathlib import Path

from flaxgan.atomic_write import open_atomic
from flaxgan.config import TrainConfig
from flaxgan.errors import UserError
from flaxgan.training import processes

FACTOR = 0.5  # of both learning rates, for each rollback


@dataclasses.dataclass(frozen=True)
class Rollback:
    """One rollback.

    Attributes:
      at_step: step at which too many updates in a row were not finite.
      to_step: step of the checkpoint that was restored.
    """

    at_step: int
    to_step: int


class Rollbacks:
    """All rollbacks of a run, in `<workdir>/rollbacks.json`: older checkpoints cannot hold them.

    Attributes:
      lr_scale: what the learning rates are multiplied by: FACTOR for each rollback.
    """

    def __init__(self, workdir: Path, options: TrainConfig):
        """Reads the file.

        Args:
          workdir: of the run.
          options: `max_rollbacks` and `max_skips_in_row` are read.

        Raises:
          UserError: the file cannot be read.
        """
        self._path, self._options = workdir / "rollbacks.json", options
        try:
            found = json.loads(self._path.read_text()) if self._path.exists() else []
            self._done = [Rollback(**entry) for entry in found]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{self._path} cannot be read ({error}): delete it to resume with full learning "
                "rates"
            ) from error

    @property
    def lr_scale(self) -> float:
        return FACTOR ** len(self._done)

    def check(self, step: int) -> None:
        """Raises UserError where no further rollback is allowed."""
        if len(self._done) < self._options.max_rollbacks:
            return
        before = ", ".join(f"{done.at_step} (back to {done.to_step})" for done in self._done)
        again = f" again, after {before}" if before else ""
        raise UserError(
            f"training diverged{again}: {self._options.max_skips_in_row} updates in a row were not "
            f"finite at step {step}; the last checkpoint is kept; lower --g-opt.lr and --d-opt.lr "
            "or raise the penalty (--loss.gamma) and start a new run, or resume with a larger "
            "--train.max-rollbacks"
        )

    def add(self, at_step: int, to_step: int) -> None:
        """Records one; called by all processes.

        Raises:
          UserError: the file cannot be written.
        """
        self._done.append(Rollback(at_step, to_step))
        with processes.together():
            if processes.is_first():
                try:
                    entries = [dataclasses.asdict(done) for done in self._done]
                    with open_atomic(self._path) as file:
                        file.write((json.dumps(entries, indent=1) + "\n").encode())
                except OSError as error:
                    raise UserError(f"cannot write {self._path}: {error.strerror}") from error
