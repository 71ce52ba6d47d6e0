"""What processes of their own do in the tests beside."""

import itertools
import multiprocessing
import time

import numpy as np

from flaxgan.data import open_dataset, train_batches


def import_and_report(config, barrier, queue):
    """Imports at the same moment as others; tells the sizes of both splits."""
    barrier.wait(60)
    dataset = open_dataset(config, "train")
    next(train_batches(dataset, batch_size=4))
    queue.put((len(dataset), len(open_dataset(config, "test"))))


def write_batches(jobs):
    """Writes batches to files.

    Args:
      jobs: (file, config, first step, step after the last one, options of `train_batches`).
    """
    for file, config, start, stop, options in jobs:
        dataset = open_dataset(config, "train")
        batches = train_batches(dataset, start_step=start, **options)
        steps = list(itertools.islice(batches, stop - start))
        texts = [[dataset.flat_captions[i] for i in step["caption_ids"]] for step in steps]
        images = np.stack([step["images"] for step in steps])
        np.savez(file, images=images, texts=np.array(texts))


def read_with_workers(config, queue):
    """Streams with worker processes; tells their numbers, and stays until it is killed."""
    batches = train_batches(open_dataset(config, "train"), batch_size=4, num_workers=2)
    next(batches)
    queue.put([child.pid for child in multiprocessing.active_children()])
    time.sleep(120)
