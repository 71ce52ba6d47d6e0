"""Trains a text-to-image GAN: python train.py --config configs/avatars32_cpu.py."""

from flaxgan.commands import cli, train

if __name__ == "__main__":
    cli.run(train.main)
