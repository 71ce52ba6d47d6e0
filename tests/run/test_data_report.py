"""What is said of the data before training: a wrong caption has to be seen there."""

import numpy as np
import pytest

from flaxgan.config import TextConfig
from flaxgan.data import open_dataset
from flaxgan.run.data_report import advised_tokens, cut_lines, describe_data
from flaxgan.text import build_text_encoder
from tests.data.own_pictures.folders import captioned_folder, config_of, encoded, write_files

LONG = "this picture was taken on an ordinary day by somebody who wanted to show a "


def encoder_of(max_tokens):
    return build_text_encoder(TextConfig(encoder="bytes", max_tokens=max_tokens))


def lines_of(path, tmp_path, max_tokens=64, **fields):
    config = config_of(path, tmp_path / "tfds", **fields)
    encoder = encoder_of(max_tokens) if config.caption_key else None
    return describe_data(config, open_dataset(config, "train"), encoder)


def test_layout_pictures_captions_and_examples(tmp_path):
    captioned_folder(tmp_path / "p", 20)
    write_files(tmp_path / "p", {"3.txt": "one\ntwo\n" + "word " * 60})
    lines = lines_of(tmp_path / "p", tmp_path)
    train = len(open_dataset(config_of(tmp_path / "p", tmp_path / "tfds"), "train"))
    assert lines[0] == f"data: {tmp_path / 'p'}: pictures with text files"
    assert (
        lines[1] == f"  {train} pictures in split 'train', 1-3 captions each, {train + 2} distinct"
    )
    name, caption = lines[2].strip().split(": ")
    assert caption == f"'picture {name.removesuffix('.png')}'"
    assert len(lines) == 5
    assert lines[4].startswith("warning: 5")  # one of at most twenty


def test_classes_and_weights(tmp_path):
    for i in range(30):
        folder = ("5_cat", "2_dog")[i % 3 == 0]
        write_files(tmp_path / "p", {f"{folder}/{i}.png": encoded(i)})
    lines = lines_of(tmp_path / "p", tmp_path)
    assert lines[1].startswith("  repeats in folder names count as weights: 2 x '2_dog', 5 x")
    dataset = open_dataset(config_of(tmp_path / "p", tmp_path / "tfds"), "train")
    cats = sum(caption == "cat" for caption in dataset.flat_captions)
    dogs = len(dataset) - cats
    assert lines[2] == (
        f"  {len(dataset)} pictures in split 'train', weights 2 to 5, 1 captions each, 2 distinct"
    )
    assert lines[3] == f"  from {dogs} of 'dog' to {cats} of 'cat'"


def test_without_captions(tmp_path):
    write_files(tmp_path / "p", {f"{i}.png": encoded(i) for i in range(12)})
    lines = lines_of(tmp_path / "p", tmp_path, caption_key="")
    assert lines[-1].endswith("in split 'train', no captions")


def test_captions_that_become_one_are_warned_of():
    captions = [f"{LONG}{colour} square" for colour in ("red", "green", "blue")]
    (line,) = cut_lines(captions, encoder_of(32))
    assert line.startswith("warning: 100.0% of the distinct captions are longer than text.max_tok")
    assert "cut there, 3 distinct captions become 1; --text.max-tokens 88 keeps most" in line
    (line,) = cut_lines(captions, encoder_of(96))
    assert line == (
        "  0.0% of the distinct captions are longer than text.max_tokens, 96 (longest 87)"
    )


def test_few_long_captions_are_only_counted():
    captions = [f"short {i}" for i in range(200)]
    long = LONG * 3
    (line,) = cut_lines([*captions, long], encoder_of(64))
    assert line.startswith("  0.5% of the distinct captions")
    (line,) = cut_lines([*captions, f"{long}a", f"{long}b"], encoder_of(64))
    assert line.startswith("warning: 1.0% of the distinct captions")  # two become one
    (line,) = cut_lines([f"a {i}" for i in range(9000)], encoder_of(64))
    assert "0.0% of 4,096 captions" in line


@pytest.mark.parametrize(("lengths", "tokens"), [([], 8), ([8], 8), ([9], 16)])
def test_advised_tokens(lengths, tokens):
    assert advised_tokens(np.array(lengths, int)) == tokens


def test_advice_fits_nineteen_of_twenty():
    assert advised_tokens(np.array([10] * 95 + [90] * 5)) == 16
    assert advised_tokens(np.array([10] * 94 + [90] * 6)) == 96
