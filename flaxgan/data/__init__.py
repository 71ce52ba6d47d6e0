"""Captioned pictures: TFDS data sets, opened, decoded and batched."""

from flaxgan.data.pipeline import train_batches
from flaxgan.data.source import CaptionedImages, open_dataset

__all__ = ["CaptionedImages", "open_dataset", "train_batches"]
