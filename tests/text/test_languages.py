"""Prompts in another language than the captions: docs/prompts_zh.txt, docs/languages.md."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flaxgan.commands.sample import _warn_of_prompts
from flaxgan.config import TextConfig
from flaxgan.text import encode_captions, sentence_stats
from flaxgan.text.conditioning import standardise

from .conftest import build

FILE = Path(__file__).parents[2] / "docs" / "prompts_zh.txt"
PAIRS = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_the_file_holds_chinese_and_english():
    assert len(PAIRS) == 24
    chinese, english = zip(*PAIRS, strict=True)
    assert all("\u4e00" <= c <= "\u9fff" for prompt in chinese for c in prompt)
    assert all(prompt.isascii() for prompt in english)
    assert len(set(chinese)) == len(set(english)) == 24


@pytest.mark.parametrize("standardised", [False, True])
def test_e5_puts_chinese_prompts_near_their_english_ones(standardised, tmp_path):
    """docs/languages.md: 24 of 24, and 23 of 24 as the vectors come."""
    encoder = build("e5")
    prompts = [prompt for pair in PAIRS for prompt in pair]
    text = encode_captions(encoder, prompts, TextConfig(cache_dir=str(tmp_path)))
    if standardised:
        text = standardise(text, sentence_stats(text.sentence_emb))
    emb = np.asarray(text.sentence_emb, np.float32)
    chinese, english = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (emb[::2], emb[1::2]))
    cosines = chinese @ english.T
    found = np.sum(cosines.argmax(axis=1) == np.arange(24))
    assert found >= (23 if standardised else 22)  # one less than measured: rounding
    own = np.diag(cosines).mean()
    others = cosines[~np.eye(24, dtype=bool)].mean()
    assert (own - others > 0.4) == standardised  # 0.36 and -0.15; 0.87 and 0.78


def test_which_encoders_warn_of_chinese_prompts(tiny_folder, capsys):
    """Not e5, which has tokens for it; a vocabulary of English does."""
    chinese = [pair[0] for pair in PAIRS]
    _warn_of_prompts(SimpleNamespace(text_encoder=build("e5")), chinese)
    assert capsys.readouterr().err == ""
    _warn_of_prompts(SimpleNamespace(text_encoder=build("minilm", tiny_folder)), chinese)
    assert capsys.readouterr().err.count("does not know many words of") == 24
