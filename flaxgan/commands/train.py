"""`flaxgan train`: trains a config, or resumes its run."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan.commands import cli, configs
from flaxgan.config import parse_args
from flaxgan.training import processes


def main(argv: Sequence[str]) -> int | None:
    """`--config FILE [--workdir DIR] [--init-from WHAT] [--any.field VALUE …]`.

    Returns:
      128 + n where signal n ended the run early, with everything saved.

    Raises:
      UserError: see `flaxgan.train`, and wrong flags.
    """
    launch, argv = processes.take_flags(argv)
    config, workdir = parse_args(configs.with_path(argv))
    own = config.known_batch_size // (launch.num_processes or 1)
    cli.prepare_process(own, family=config.model.family, say=True)
    processes.join(launch)

    from flaxgan.run.loop import train  # jax is first used after the process is set up

    signal_number = train(config, Path(workdir))
    return None if signal_number is None else 128 + signal_number
