"""Trains a text-to-image GAN: python train.py --config configs/avatars32_cpu.py."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan.commands import cli
from flaxgan.config import parse_args
from flaxgan.training import processes


def main(argv: Sequence[str]) -> int | None:
    launch, argv = processes.take_flags(argv)
    config, workdir = parse_args(argv)
    cli.prepare_process(config.known_batch_size // (launch.num_processes or 1))
    processes.join(launch)

    from flaxgan.run.loop import train  # jax is imported only after the process is set up

    signal_number = train(config, Path(workdir))
    return None if signal_number is None else 128 + signal_number


if __name__ == "__main__":
    cli.run(main)
