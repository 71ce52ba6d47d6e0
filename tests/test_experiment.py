"""What batches of an experiment hold."""

import dataclasses
import itertools

import numpy as np
import pytest

from flaxgan.config import Config, DataConfig, LossConfig, TrainConfig
from flaxgan.data.source import CaptionedImages
from flaxgan.experiment import Experiment
from flaxgan.text.conditioning import Text

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
    if conditional:
        parts["captions"] = Text(sentence_emb=np.arange(2.0 * PICTURES)[:, None])
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
    batch = experiment.batch({**arrays, "mismatched_ids": wrong})
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
    experiment = dataclasses.replace(experiment, captions=text, swaps=swaps)
    arrays = {
        "images": np.zeros((2, 8, 8, 3)),
        "caption_ids": np.array([0, 4]),
        "mismatched_ids": np.array([[8, 9], [10, 11]]),
        "swap_noise": np.zeros((2, 3, 2)),
    }
    batch = experiment.batch(arrays)
    expected = [8, 9, 100, 100, 100, 10, 11, 10, 10, 10]
    np.testing.assert_array_equal(batch.negatives.tokens[:, 0], expected)
    assert batch.negatives.mask.shape == (10, 2)
    assert experiment.batches().__next__().negatives.tokens.shape == (5 * BATCH, 2)


def test_no_captions_without_text():
    loss = LossConfig(mismatch_weight=0.0, contrastive_negatives=2)
    batch = next(experiment_of(loss, conditional=False).batches())
    assert batch.text is batch.mismatched is batch.negatives is None
