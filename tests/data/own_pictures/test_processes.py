"""Processes of the operating system that import and read one folder."""

import dataclasses
import multiprocessing

import numpy as np
import pytest

from flaxgan.data import open_dataset, train_batches
from flaxgan.data.own_pictures import builder
from tests.data.own_pictures.folders import captioned_folder, config_of, expected_pixels
from tests.data.own_pictures.processes import import_and_report, read_with_workers, write_batches
from tests.robustness.process_group import wait_for_the_end

TRAIN, BATCH = 24, 8
# processes, first step, step after the last one: each goes on where the one before stopped, in the
# middle of an epoch of three steps
PHASES = [(1, 0, 5), (2, 5, 10), (4, 10, 15)]


@pytest.fixture(scope="module")
def context():
    """New interpreters, which have imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.data.own_pictures.processes"])
    return context


def run(context, target, arguments):
    """One process for each tuple of arguments, all at once."""
    processes = [context.Process(target=target, args=args) for args in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = captioned_folder(tmp_path_factory.mktemp("pictures"), TRAIN + 8)
    return config_of(folder, tmp_path_factory.mktemp("tfds"))


def test_two_processes_import_at_once(context, tmp_path, capfd):
    config = config_of(captioned_folder(tmp_path / "pictures", 40), tmp_path / "tfds")
    barrier, queue = context.Barrier(2), context.Queue()
    run(context, import_and_report, [(config, barrier, queue)] * 2)
    assert [queue.get(timeout=60) for _ in range(2)] == [(32, 8)] * 2
    assert len(list((tmp_path / "tfds").rglob("dataset_info.json"))) == 1
    assert capfd.readouterr().out.count("40 pictures imported") == 1


def test_an_import_that_another_process_ends_meanwhile(tmp_path, monkeypatch):
    """Between the moment when a builder finds nothing and the moment when it would import."""
    config = config_of(captioned_folder(tmp_path / "pictures", 40), tmp_path / "tfds")
    original, waiting = builder._builder, []

    def late(*args):
        made = original(*args)
        if not waiting:
            waiting.append(made)
            open_dataset(config, "train")
        return made

    monkeypatch.setattr(builder, "_builder", late)
    assert len(open_dataset(config, "train")) + len(open_dataset(config, "test")) == 40
    assert waiting


@pytest.fixture(scope="module")
def written(context, config, tmp_path_factory):
    """Storage -> for each phase its processes' batches, from files that they wrote."""
    folder = tmp_path_factory.mktemp("batches")
    options = {"batch_size": BATCH, "seed": 4, "flip": False}
    jobs = [[] for _ in range(4)]
    for storage in (0, 1):
        stored = dataclasses.replace(config, in_memory_mb=storage)
        for count, start, stop in PHASES:
            for index in range(count):
                share = {**options, "process_index": index, "process_count": count}
                file = folder / f"{storage}-{count}-{index}.npz"
                jobs[index].append((file, stored, start, stop, share))
    open_dataset(config, "train")  # imported
    run(context, write_batches, [(job,) for job in jobs])
    return {
        storage: [
            [np.load(folder / f"{storage}-{count}-{index}.npz") for index in range(count)]
            for count, _, _ in PHASES
        ]
        for storage in (0, 1)
    }


def whole(phase, name):
    """Batches of all processes together, `[steps, BATCH, ...]`, in the order of one process."""
    return np.concatenate([part[name] for part in phase], axis=1)


@pytest.mark.parametrize("storage", [0, 1], ids=["streamed", "in memory"])
def test_together_they_read_each_epoch_once(written, storage, config):
    texts = np.concatenate([whole(phase, "texts") for phase in written[storage]])
    images = np.concatenate([whole(phase, "images") for phase in written[storage]])
    assert texts.shape == (15, BATCH)
    for text, image in zip(texts.ravel(), images.reshape(-1, *images.shape[2:]), strict=True):
        np.testing.assert_array_equal(image, expected_pixels(int(text.split()[1])))
    train = sorted(open_dataset(config, "train").flat_captions)
    assert len(train) == TRAIN
    for epoch in texts.reshape(5, TRAIN):
        assert sorted(epoch) == train


@pytest.mark.parametrize("storage", [0, 1], ids=["streamed", "in memory"])
def test_they_read_what_one_process_reads(written, storage, config):
    batches = train_batches(open_dataset(config, "train"), batch_size=BATCH, seed=4)
    expected = np.stack([next(batches)["images"] for _ in range(15)])
    found = np.concatenate([whole(phase, "images") for phase in written[storage]])
    np.testing.assert_array_equal(found, expected)


def test_workers_read_an_import(config):
    """Grain's worker processes get the data set by pickle."""
    streamed = dataclasses.replace(config, in_memory_mb=0)
    options = {"batch_size": BATCH, "seed": 2, "start_step": 3}
    plain = train_batches(open_dataset(config, "train"), **options)
    workers = train_batches(open_dataset(streamed, "train"), **options, num_workers=1)
    for _ in range(4):
        np.testing.assert_array_equal(next(workers)["images"], next(plain)["images"])


def test_workers_end_when_the_process_that_reads_is_killed(context, config):
    queue = context.Queue()
    streamed = dataclasses.replace(config, in_memory_mb=0)
    reader = context.Process(target=read_with_workers, args=(streamed, queue))
    reader.start()
    workers = queue.get(timeout=120)
    assert len(workers) == 2
    reader.kill()
    reader.join()
    wait_for_the_end(workers)
