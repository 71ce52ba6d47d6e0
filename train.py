"""Trains a text-to-image GAN: python train.py --config configs/avatars32_cpu.py."""

from collections.abc import Sequence
from pathlib import Path

from flaxgan import cli, processes
from flaxgan.config import parse_args


def main(argv: Sequence[str]) -> int | None:
    launch, argv = processes.take_flags(argv)
    config, workdir = parse_args(argv)
    cli.prepare_process(config.known_batch_size // (launch.num_processes or 1))
    processes.join(launch)

    from flaxgan.train_loop import train  # jax is imported only after the process is set up

    signal_number = train(config, Path(workdir))
    return None if signal_number is None else 128 + signal_number


if __name__ == "__main__":
    cli.run(main)
