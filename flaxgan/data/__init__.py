"""Captioned pictures: TFDS data sets, opened, decoded and batched.

`EMBEDDED` is the table of data sets that are drawn on this machine.
"""

from flaxgan.data.pipeline import train_batches
from flaxgan.data.source import EMBEDDED, CaptionedImages, open_dataset

__all__ = ["EMBEDDED", "CaptionedImages", "open_dataset", "train_batches"]
