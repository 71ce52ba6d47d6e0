"""One table over all encoders: what each must keep."""

import functools

import jax
import numpy as np
import pytest

from flaxgan.clean_text import MAX_CHARACTERS, clean
from flaxgan.config import TextConfig
from flaxgan.errors import UserError
from flaxgan.text import build_text_encoder, e5, encoders
from flaxgan.text.conditioning import Text
from flaxgan.text.learned import BYTE_VOCABULARY
from flaxgan.text.transformer import TextTransformer

from .conftest import build, write_folder

CAPTIONS = ["a red circle", "a blue square above the red circle", "一位戴帽子的先生", "é", ""]
LONG = "a red circle above the blue square " * 9
MAX_TOKENS = 24
ENCODERS = ["bytes", "words", "e5_tokens", "e5", "minilm", "folder"]


@pytest.fixture(params=ENCODERS)
def encoder(request):
    if request.param == "folder":
        return build("minilm", request.getfixturevalue("tiny_folder"), MAX_TOKENS)
    return build(request.param, None, MAX_TOKENS)


@functools.cache
def compiled(encoder):
    """Parameters and a jitted function; the learned encoder as a network with random weights."""
    if not encoder.learned:
        return encoder.params, jax.jit(encoder.encode)
    module = TextTransformer(
        dim=encoder.dim,
        depth=2,
        max_tokens=encoder.max_tokens + 8,
        vocabulary=BYTE_VOCABULARY if encoder.name == "bytes" else None,
    )
    init = functools.partial(module.init, method="features")
    example = np.zeros((1, 8), np.int32)
    text = encoder.look_up(Text(tokens=example, mask=example == 0))
    run = jax.jit(functools.partial(module.apply, method="features"))

    def features(variables, tokens, mask):
        found = run(variables, encoder.look_up(Text(tokens=tokens, mask=mask)))
        return found.tokens, found.sentence

    # rbg: threefry takes three times as long to compile, once for every parameter
    return jax.jit(init)(jax.random.key(0, impl="rbg"), text), features


def encode(encoder, tokens, mask):
    params, function = compiled(encoder)
    return map(np.asarray, function(params, tokens, mask))


def test_table_has_every_encoder():
    assert set(encoders.ENCODERS) - {"none"} == set(ENCODERS) - {"folder"}


def test_tokens_and_vectors_have_the_stated_shapes(encoder):
    tokens, mask = encoder.tokenize(CAPTIONS)
    assert tokens.dtype == np.int32
    assert mask.dtype == bool
    assert tokens.shape == mask.shape
    assert len(tokens) == len(CAPTIONS)
    assert tokens.shape[1] <= MAX_TOKENS
    assert tokens.shape[1] % 8 == 0
    assert mask[:, 0].all()  # the empty caption too
    assert (np.diff(mask.astype(int)) <= 0).all()  # padding is at the end
    assert not tokens[~mask].any()
    count = np.maximum(encoder.count_tokens(CAPTIONS), 1)
    np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(count, MAX_TOKENS))
    token_emb, sentence_emb = encode(encoder, tokens, mask)
    assert token_emb.shape == (*tokens.shape, encoder.dim)
    assert sentence_emb.shape == (len(CAPTIONS), encoder.dim)
    assert np.isfinite(token_emb).all()
    if not encoder.learned:
        np.testing.assert_allclose(np.linalg.norm(sentence_emb, axis=1), 1, rtol=1e-5)


def test_sentence_is_the_mean_of_its_tokens(encoder):
    tokens, mask = encoder.tokenize(CAPTIONS)
    token_emb, sentence_emb = encode(encoder, tokens, mask)
    for vectors, keep, sentence in zip(token_emb, mask, sentence_emb, strict=True):
        mean = vectors[keep].mean(axis=0)
        if not encoder.learned:
            mean /= np.linalg.norm(mean)
        np.testing.assert_allclose(sentence, mean, atol=1e-5)


def test_padding_does_not_change_the_vectors(encoder):
    """Whatever stands in the padding."""
    tokens, mask = encoder.tokenize(CAPTIONS)
    wide = ((0, 0), (0, 8))
    token_emb, sentence_emb = encode(encoder, tokens, mask)
    rubbish = np.where(mask, tokens, 7)
    padded, padded_mask = np.pad(rubbish, wide, constant_values=5), np.pad(mask, wide)
    padded_emb, padded_sentence = encode(encoder, padded, padded_mask)
    np.testing.assert_allclose(padded_sentence, sentence_emb, atol=2e-6)
    np.testing.assert_allclose(padded_emb[:, : tokens.shape[1]][mask], token_emb[mask], atol=2e-5)


def test_a_caption_does_not_see_its_batch(encoder):
    """Order, company and the length of the others do not matter."""
    # float16 of sums in another order
    atol = 1e-4 if encoder.name == "e5_tokens" else 2e-6
    _, together = encode(encoder, *encoder.tokenize(CAPTIONS))
    _, backwards = encode(encoder, *encoder.tokenize(CAPTIONS[::-1]))
    np.testing.assert_allclose(backwards[::-1], together, atol=atol)
    _, alone = encode(encoder, *encoder.tokenize(CAPTIONS[:1]))
    np.testing.assert_allclose(alone[0], together[0], atol=atol)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_long_captions_are_cut_and_keep_their_ends(encoder):
    (tokens, *_), (mask, *_) = encoder.tokenize([LONG, "a"])
    assert tokens.shape == (MAX_TOKENS,)
    assert mask.all()
    assert encoder.count_tokens([LONG])[0] > MAX_TOKENS
    (short, *_), (short_mask, *_) = encoder.tokenize([LONG[:12]])
    short = short[short_mask]
    if encoder.name == "bytes":
        assert bytes(tokens.astype(np.uint8)) == LONG.encode()[:MAX_TOKENS]
    else:  # the end token of a whole sentence comes last
        assert tokens[-1] == short[-1]
        assert tokens[0] == short[0]
        assert tokens[-1] not in tokens[:-1]


def test_fingerprints_tell_encoders_apart(tiny_folder, tmp_path):
    prints = [build("minilm", tiny_folder, n).fingerprint for n in (16, 24)]
    prints += [build("e5", tiny_folder, 24).fingerprint, build("bytes", None, 24).fingerprint]
    prints += [build("words", None, n).fingerprint for n in (16, 24)]
    other = write_folder(tmp_path / "weights", seed=1)
    prints.append(build("minilm", other, 24).fingerprint)
    other = write_folder(tmp_path / "config", layer_norm_eps=1e-12)
    prints.append(build("minilm", other, 24).fingerprint)
    other = write_folder(tmp_path / "tokenizer")
    path = other / "tokenizer.json"
    path.write_text(path.read_text().replace('"square": 8', '"square": 7'))
    prints.append(build("minilm", other, 24).fingerprint)
    assert len(set(prints)) == len(prints)
    same = write_folder(tmp_path / "same")
    assert build("minilm", same, 24).fingerprint == prints[1]


def test_fraction_of_unknown_words(tiny_folder):
    encoder = build("minilm", tiny_folder, 24)
    assert encoder.unknown_fraction("a red elephant circle") == 0.25
    assert encoder.unknown_fraction("") == 0.0
    assert build("e5", None, MAX_TOKENS).unknown_fraction("一位先生") < 0.3


def test_e5_prefix_is_put_before_captions_of_a_folder(tiny_folder):
    tokens, _ = build("minilm", tiny_folder).tokenize(["query: a"])
    prefixed, _ = build("e5", tiny_folder).tokenize(["a"])
    np.testing.assert_array_equal(prefixed, tokens)


def test_clean():
    assert clean("e\u0301\x00a\n\ud800") == "é a  "
    assert len(clean("字" * 9999)) == MAX_CHARACTERS
    assert clean("字" * 9999).encode()


@pytest.mark.parametrize("name", ["bytes", "words"])
def test_a_learned_encoder_is_not_run_outside_the_networks(name):
    with pytest.raises(TypeError, match="learned"):
        build(name, None, MAX_TOKENS).encode(None, None, None)


def test_words_have_the_vectors_of_e5_before_its_layers():
    """One vector for each token, wherever it stands; float16 of the frozen table."""
    words, frozen = (build(name, None, MAX_TOKENS) for name in ("words", "e5"))
    tokens, mask = words.tokenize(["red blue", "blue red"])
    text = words.look_up(Text(tokens=tokens, mask=mask))
    assert text.token_emb.dtype == np.float16
    table = frozen.params["word"]
    row = tokens[0, 1]
    nibbles = table.nibbles[row].astype(np.float32)
    low_first = np.concatenate([nibbles % 16, nibbles // 16], axis=1) - 8
    expected = (low_first * table.scale[row].astype(np.float32)[:, None]).reshape(-1)
    np.testing.assert_allclose(text.token_emb[0, 1], expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(text.token_emb[0, 1], text.token_emb[1, 2])
    assert words.unknown_fraction("red") == 0.0


def test_interned_words_are_the_vectors_that_are_looked_up():
    words = build("words", None, MAX_TOKENS)
    tokens, mask = words.tokenize(["a red hat", "a hat of a hat", ""])
    text = Text(tokens=tokens, mask=mask)
    rows, table = words.intern(text)
    assert rows.tokens.dtype == np.int32
    assert len(table) == len(np.unique(tokens))
    np.testing.assert_array_equal(table[rows.tokens], words.look_up(text).token_emb)
    np.testing.assert_array_equal(rows.mask, mask)


def test_none_is_no_encoder():
    assert build_text_encoder(TextConfig(encoder="none")) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"encoder": "clip"},
            "text.encoder must be one of none, e5, minilm, bytes, words, e5_tokens, not 'clip'",
        ),
        ({"encoder": "bytes", "max_tokens": 0}, "text.max_tokens must be >= 1, not 0"),
        ({"encoder": "bytes", "dim": 24}, "text.dim must be a multiple of 16, not 24"),
        ({"encoder": "e5", "max_tokens": 7}, r"text.max_tokens must be in \[8, 512\], not 7"),
        ({"encoder": "e5", "batch_size": 0}, "text.batch_size must be >= 1, not 0"),
    ],
)
def test_wrong_values_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        build_text_encoder(TextConfig(**fields))


def test_a_few_texts_need_no_whole_vocabulary():
    """A model of the pieces that are part of a text cuts it as that of all pieces does."""
    file = e5.read(e5.find_file(None), 0)
    few, whole = e5.Tokenizer(file), e5.Tokenizer(file)
    rng = np.random.default_rng(0)
    some = [text for text, _ in file.pieces.entries(rng.integers(0, len(file.pieces.scores), 200))]
    texts = [
        *CAPTIONS,
        " ",
        "▁",
        "zzzzqqqxxjj",
        "🎉 👩\u200d🦰",
        "\u0e01\u0e23",
        "\U0010ffff",
        "1.5e-7",
    ]
    texts += ["".join(rng.choice(some, 8)).replace(e5.SPACE, " ") for _ in range(40)]
    texts = [e5.normalise_text(text, file.replacements) for text in texts]
    whole([""] * e5.FEW_TEXTS)
    assert whole(texts) == few(texts[:30]) + few(texts[30:])
