"""Batches: order, epochs, captions, flips; the same for any start, process and storage."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from flaxgan.config import DataConfig
from flaxgan.data.pipeline import train_batches
from flaxgan.data.source import CaptionedImages
from flaxgan.errors import UserError

SIDE, COUNT = 8, 12


class Source:
    """Pictures whose top left pixel is their number; PNG bytes, as TFDS gives them."""

    def __init__(self, count):
        draw = np.random.default_rng(7)
        self.pixels = draw.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
        self.pixels[:, 0, [0, -1]] = np.arange(count)[:, None, None]

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, index):
        buffer = io.BytesIO()
        Image.fromarray(self.pixels[index]).save(buffer, "PNG")
        return {"image": buffer.getvalue()}


def make(count=COUNT, *, captions=True, in_memory_mb=1):
    """Picture i has 1 + i % 3 captions."""
    texts = [[f"picture {i}, caption {k}" for k in range(1 + i % 3)] for i in range(count)]
    config = DataConfig(name="numbers", resolution=SIDE, in_memory_mb=in_memory_mb)
    dataset = CaptionedImages(
        "numbers", Source(count), config, texts if captions else [[]] * count, True
    )
    assert (dataset.images is None) == (in_memory_mb == 0)
    return dataset


def take(dataset, steps, **options):
    return list(itertools.islice(train_batches(dataset, **{"batch_size": 4, **options}), steps))


def numbers(batches):
    """The pictures, by number, in order."""
    return np.concatenate([batch["images"][:, 0, 0, 0] for batch in batches])


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], strict=True)


def owner(dataset, caption_ids):
    """The number of the picture of each caption id, out of its words."""
    return np.array([int(dataset.flat_captions[i].split()[1][:-1]) for i in caption_ids])


def test_shapes_types_and_names():
    batch = take(make(), 1)[0]
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        "images": ((4, SIDE, SIDE, 3), np.uint8),
        "caption_ids": ((4,), np.int64),
        "mismatched_ids": ((4, 1), np.int64),
    }
    more = take(make(), 1, num_mismatched=3)[0]["mismatched_ids"]
    assert (more.shape, more.dtype) == ((4, 3), np.int64)
    assert set(take(make(captions=False), 1)[0]) == {"images"}


@pytest.mark.parametrize("in_memory_mb", [0, 1])
def test_each_epoch_holds_every_picture_once_in_an_order_of_its_own(in_memory_mb):
    dataset = make(in_memory_mb=in_memory_mb)
    epochs = numbers(take(dataset, 12)).reshape(4, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_epochs_stay_whole_when_batches_cross_them():
    order = numbers(take(make(), 12, batch_size=5))
    for epoch in order.reshape(5, COUNT):
        assert sorted(epoch) == list(range(COUNT))


def test_pixels_are_those_of_the_source():
    dataset = make()
    for batch in take(dataset, 3):
        expected = Source(COUNT).pixels[batch["images"][:, 0, 0, 0]]
        np.testing.assert_array_equal(batch["images"], expected)


def test_seeds_differ_and_repeat():
    dataset = make()
    orders = {seed: tuple(numbers(take(dataset, 3, seed=seed))) for seed in range(5)}
    assert len(set(orders.values())) == 5
    assert_equal(take(dataset, 6, seed=3), take(dataset, 6, seed=3))


@pytest.mark.parametrize("in_memory_mb", [0, 1])
def test_start_at_step_k_gives_the_rest_of_a_run_from_0(in_memory_mb):
    dataset = make(in_memory_mb=in_memory_mb)
    options = {"batch_size": 5, "seed": 9, "flip": True, "num_mismatched": 3}
    options["caption_dropout"] = 0.4
    whole = take(dataset, 20, **options)
    for start in (1, 3, 13):
        assert_equal(take(dataset, 20 - start, **options, start_step=start), whole[start:])


def test_streamed_batches_equal_those_from_memory():
    options = {"seed": 2, "flip": True, "start_step": 2, "num_mismatched": 3}
    assert_equal(take(make(in_memory_mb=0), 10, **options), take(make(), 10, **options))


@pytest.mark.parametrize("in_memory_mb", [0, 1])
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_deal_out_the_examples_of_one(processes, in_memory_mb):
    """Each has those of a stretch of the batch, as its devices have."""
    dataset = make(in_memory_mb=in_memory_mb)
    options = {"batch_size": 6, "seed": 5, "flip": True, "start_step": 1, "num_mismatched": 3}
    options["caption_dropout"] = 0.4
    whole = take(dataset, 7, **options)
    parts = [
        take(dataset, 7, **options, process_index=p, process_count=processes)
        for p in range(processes)
    ]
    for step, batch in enumerate(whole):
        for name, values in batch.items():
            shares = [part[step][name] for part in parts]
            assert {len(share) for share in shares} == {6 // processes}
            np.testing.assert_array_equal(np.concatenate(shares), values)


def test_captions_belong_to_the_picture_and_vary_over_epochs():
    dataset = make()
    batches = take(dataset, 60)
    ids = np.concatenate([batch["caption_ids"] for batch in batches])
    pictures = numbers(batches)
    np.testing.assert_array_equal(owner(dataset, ids), pictures)
    for i in range(COUNT):
        assert len(set(ids[pictures == i])) == 1 + i % 3


@pytest.mark.parametrize("num_mismatched", [1, 3])
def test_mismatched_captions_are_of_all_other_pictures(num_mismatched):
    count = 6
    dataset = make(count)
    batches = take(dataset, 4, batch_size=100, num_mismatched=num_mismatched)
    ids = np.concatenate([batch["mismatched_ids"] for batch in batches])
    pictures = numbers(batches)
    for column in ids.T:
        wrong = owner(dataset, column)
        assert not (wrong == pictures).any()
        assert len(set(zip(wrong, pictures, strict=True))) == count * (count - 1)
        counts = np.bincount(wrong, minlength=count)
        assert counts.min() > 0.5 * counts.mean()
    for i, first in enumerate(ids.T):  # each drawn for itself
        for second in ids.T[:i]:
            assert 0.05 < np.mean(first == second) < 0.25


def test_more_wrong_captions_change_nothing_else():
    dataset = make()
    for one, three in zip(
        take(dataset, 9, flip=True), take(dataset, 9, flip=True, num_mismatched=3), strict=True
    ):
        assert three.pop("mismatched_ids").shape[1] == 3 * one.pop("mismatched_ids").shape[1]
        assert_equal([one], [three])


def test_dropped_captions_are_the_empty_one_and_nothing_else_changes():
    """Each example by a draw of its own: the same picture is dropped in one epoch, kept in another.

    More are dropped at a higher probability, never fewer: the same draw decides.
    """
    dataset = make()
    empty = len(dataset.flat_captions)
    options = {"batch_size": 100, "flip": True, "num_mismatched": 2, "num_swaps": 1}
    runs = {p: take(dataset, 6, **options, caption_dropout=p) for p in (0.0, 0.2, 0.6)}
    pictures, dropped = numbers(runs[0.0]), {}
    for p, batches in runs.items():
        dropped[p] = np.concatenate([batch["caption_ids"] == empty for batch in batches])
        assert abs(dropped[p].mean() - p) < 0.06
        for batch, plain in zip(batches, runs[0.0], strict=True):
            own, ids = batch["caption_ids"] == empty, plain["caption_ids"]
            assert_equal([batch], [plain | {"caption_ids": np.where(own, empty, ids)}])
            assert (batch["mismatched_ids"] < empty).all()
    assert not (dropped[0.2] & ~dropped[0.6]).any()
    for i in range(COUNT):
        assert 0 < dropped[0.2][pictures == i].mean() < 0.5


def test_batches_are_those_of_every_version_and_platform():
    """With other numbers, runs that were begun before would not go on as they would have."""
    options = {"seed": 3, "flip": True, "num_mismatched": 2, "num_swaps": 1, "start_step": 5}
    first, second = take(make(), 2, **options)
    assert numbers([first, second]).tolist() == [8, 4, 5, 1, 8, 7, 1, 2]
    assert first["caption_ids"].tolist() == [16, 7, 9, 1]
    assert second["caption_ids"].tolist() == [17, 14, 2, 5]
    assert first["mismatched_ids"].tolist() == [[6, 0], [2, 6], [0, 16], [8, 3]]
    assert second["mismatched_ids"].tolist() == [[19, 12], [17, 18], [22, 6], [21, 0]]
    wanted = [[0.15653, 0.049474], [0.368748, 0.513147], [0.908099, 0.626965], [0.808595, 0.730578]]
    np.testing.assert_allclose(first["swap_noise"][:, 0], wanted, atol=1e-6)


def test_mismatched_captions_have_other_words_where_there_are_any():
    texts = [["a cat"]] * 6 + [["a dog"]] * 6
    config = DataConfig(name="pets", resolution=SIDE)
    dataset = CaptionedImages("pets", Source(12), config, texts, False)
    words = np.array(dataset.flat_captions)
    batches = take(dataset, 4, batch_size=100, num_mismatched=2)
    same = [words[b["caption_ids"], None] == words[b["mismatched_ids"]] for b in batches]
    assert np.mean(same) < 0.02  # (5/11)^8: drawn again at most eight times
    alike = CaptionedImages("pets", Source(12), config, [["a cat"]] * 12, False)
    for batch in take(alike, 3):
        assert (batch["caption_ids"] != batch["mismatched_ids"][:, 0]).all()


@pytest.mark.parametrize("in_memory_mb", [0, 1])
def test_half_of_the_pictures_are_mirrored_when_asked(in_memory_mb):
    dataset = make(in_memory_mb=in_memory_mb)
    pixels = Source(COUNT).pixels
    mirrored = []
    for batch in take(dataset, 4, batch_size=100, flip=True):
        for image in batch["images"]:
            plain = pixels[image[0, 0, 0]]
            is_flipped = np.array_equal(image, plain[:, ::-1])
            assert is_flipped != np.array_equal(image, plain)
            mirrored.append(is_flipped)
    assert 0.4 < np.mean(mirrored) < 0.6


def test_flips_change_neither_order_nor_captions_nor_the_data_set():
    dataset = make()
    before = dataset.images.copy()
    plain, flipped = take(dataset, 9), take(dataset, 9, flip=True)
    for one, two in zip(plain, flipped, strict=True):
        np.testing.assert_array_equal(one["images"][:, 0, 0], two["images"][:, 0, 0])
        np.testing.assert_array_equal(one["caption_ids"], two["caption_ids"])
        np.testing.assert_array_equal(one["mismatched_ids"], two["mismatched_ids"])
    np.testing.assert_array_equal(dataset.images, before)


def test_worker_processes_give_the_same_batches():
    options = {"seed": 1, "flip": True, "start_step": 2, "num_mismatched": 3}
    dataset = make(in_memory_mb=0)
    expected = take(dataset, 6, **options)
    assert_equal(take(dataset, 6, **options, num_workers=2), expected)


@pytest.mark.parametrize(
    ("count", "options", "words"),
    [
        (COUNT, {"batch_size": 5, "process_count": 2}, "batch size 5 does not divide by 2 proc"),
        (COUNT, {"batch_size": 0}, "batch size 0 is less than 1"),
        (1, {}, "data set numbers has 1 picture; training needs two"),
    ],
)
def test_what_cannot_be_batched_is_an_error_at_once(count, options, words):
    with pytest.raises(UserError, match=words):
        train_batches(make(count), **{"batch_size": 4, **options})
