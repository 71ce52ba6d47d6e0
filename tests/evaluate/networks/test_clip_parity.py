"""CLIP against transformers: random weights that it saved, every block, and its preprocessing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxgan.evaluate.clip_metrics import clip_score
from flaxgan.evaluate.networks import clip, vit
from flaxgan.evaluate.networks.hf_weights import Weights

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # of torch and transformers themselves
]
SMALL_VISION = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 15,  # leaves four pixels over
}
SMALL_TEXT = {
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "vocab_size": 60,
    "max_position_embeddings": 21,
}


@pytest.fixture(scope="module")
def reference(torch):
    """(torch, transformers)."""
    return torch, pytest.importorskip("transformers")


def save_random(reference, folder, *, spread, **config):
    """A model with all parameters random, biases and norms too, saved by transformers."""
    torch, transformers = reference
    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig(**config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if "norm" in name and "weight" in name else 0.0, 0.3)
            elif parameter.ndim == 2 and "embedding" not in name:
                parameter.normal_(0.0, spread / parameter.shape[1] ** 0.5)
            elif parameter.ndim:
                parameter.normal_(0.0, 0.5 if "embedding.weight" in name else 0.05)
    model.save_pretrained(folder)
    return model


def load(folder):
    vision, text = clip.read_config(folder / "config.json")
    weights = Weights(folder)
    params = clip.convert(weights, vision, text)
    weights.check(vision, params[0], jnp.zeros((1, vision.side, vision.side, 3)))
    weights.check(text, params[1], jnp.zeros((1, 5), jnp.int32))
    return vision, text, *params


def relative(ours, theirs):
    theirs = theirs.detach().numpy()
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def run(module, params, inputs):
    """The output, and that of every block."""
    output, state = jax.jit(
        lambda p, x: module.apply(
            {"params": p}, x, capture_intermediates=lambda m, _: isinstance(m, vit.Block)
        )
    )(params, inputs)
    inner = state["intermediates"]
    return output, [inner[f"block{i}"]["__call__"][0] for i in range(module.layers)]


def compare(reference, model, folder, tokens, batch):
    """Largest relative difference of blocks, and of final vectors, of both towers."""
    torch, _ = reference
    vision, text, vision_params, text_params = load(folder)
    pixels = np.random.default_rng(0).normal(size=(batch, vision.side, vision.side, 3))
    pixels = pixels.astype(np.float32)
    blocks, finals = [], []
    with torch.no_grad():
        out = model.vision_model(
            torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), output_hidden_states=True
        )
        final = model.visual_projection(out.pooler_output)
        mine, inner = run(vision, vision_params, pixels)
        blocks += map(relative, inner, out.hidden_states[1:])
        finals.append(relative(mine, final / final.norm(dim=-1, keepdim=True)))
        out = model.text_model(torch.from_numpy(tokens).long(), output_hidden_states=True)
        final = model.text_projection(out.pooler_output)
        mine, inner = run(text, text_params, tokens)
        blocks += map(relative, inner, out.hidden_states[1:])
        finals.append(relative(mine, final / final.norm(dim=-1, keepdim=True)))
    assert len(blocks) == vision.layers + text.layers
    print(f"blocks {max(blocks):.1e}, vectors {max(finals):.1e}")
    return max(blocks), max(finals)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("end", [2, 57])
def test_small_models(reference, tmp_path, activation, end):
    model = save_random(
        reference,
        tmp_path,
        spread=1.5,
        projection_dim=24,
        vision_config=SMALL_VISION | {"hidden_act": activation},
        text_config=SMALL_TEXT | {"hidden_act": activation, "eos_token_id": end},
    )
    tokens = np.random.default_rng(1).integers(3, 57, (6, 21), dtype=np.int32)
    for row, at in zip(tokens, (20, 5, 1, 9, 13, 20), strict=True):
        row[at] = 57
        row[at + 1 :] = 58 if end != 2 and at == 9 else 57  # a larger token behind the end
    assert max(compare(reference, model, tmp_path, tokens, 3)) < 2e-5


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_vit_b32(reference, tmp_path, activation):
    """The size that most papers use, by the defaults of both sides."""
    model = save_random(
        reference,
        tmp_path,
        spread=1.0,
        vision_config={"hidden_act": activation},
        text_config={"hidden_act": activation},
    )
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    kept = {"hidden_act": activation, "model_type": "clip"}
    path.write_text(json.dumps(config | {"vision_config": kept, "text_config": kept}))
    tokens = np.random.default_rng(1).integers(0, 49406, (3, 77), dtype=np.int32)
    for row, at in zip(tokens, (76, 8, 20), strict=True):
        row[at:] = 49407
    assert max(compare(reference, model, tmp_path, tokens, 2)) < 5e-5


def test_old_config_files(reference, tmp_path):
    """What transformers makes of text_config_dict, which some of OpenAI's files have."""
    _, transformers = reference
    config = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {"hidden_size": 512, "eos_token_id": 2, "num_attention_heads": 8},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {"hidden_size": 1024, "num_attention_heads": 16, "patch_size": 16},
        "vision_config_dict": None,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    vision, text = clip.read_config(path)
    theirs = transformers.CLIPConfig.from_pretrained(tmp_path)
    for mine, other in ((vision, theirs.vision_config), (text, theirs.text_config)):
        assert (mine.width, mine.layers) == (other.hidden_size, other.num_hidden_layers)
        assert (mine.heads, mine.hidden) == (other.num_attention_heads, other.intermediate_size)
        assert (mine.activation, mine.eps) == (other.hidden_act, other.layer_norm_eps)
        assert mine.dim == theirs.projection_dim
    assert (vision.side, vision.patch) == (224, 16)
    assert text.end == theirs.text_config.eos_token_id


SIZES = [(32, 32), (64, 64), (224, 224), (256, 256), (512, 512), (300, 451), (97, 65), (225, 224)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_preprocessing(reference, size):
    """Levels of CLIPImageProcessor (its PIL form), of noise: the hardest picture."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    theirs = CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"]
    ours = jax.jit(lambda x: clip.preprocess(x, 224, clip.MEAN, clip.STD))(image[None])
    theirs = np.asarray(theirs).transpose(0, 2, 3, 1)
    levels = np.abs(np.asarray(ours) - theirs) * np.array(clip.STD) * 255
    print(f"levels: largest {levels.max():.3f}, other than 0: {np.mean(levels > 0.5):.1e}")
    assert levels.max() < 1.01
    assert np.mean(levels > 0.5) < 1e-3  # halves, which PIL rounds in fixed point
    assert levels[levels < 0.5].max() < 1e-3  # of the standardisation


def test_tokens_and_captions(reference, tmp_path):
    """From strings to vectors, through a tokenizer of the form that CLIP's files have."""
    torch, transformers = reference
    from test_clip import write_tokenizer

    size = write_tokenizer(tmp_path)
    end = size - 1
    model = save_random(
        reference,
        tmp_path,
        spread=1.5,
        projection_dim=24,
        vision_config=SMALL_VISION,
        text_config=SMALL_TEXT | {"vocab_size": size, "eos_token_id": end},
    )
    captions = ["a red hat", "A  Blue hat", "", "a red hat " * 20]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="<|endoftext|>"
    )
    batch = tokenizer(captions, padding=True, truncation=True, max_length=21, return_tensors="pt")
    with torch.no_grad():
        out = model.get_text_features(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        )
    theirs = getattr(out, "pooler_output", out)
    ours = clip.load_clip(str(tmp_path))
    found = ours.encode_text(captions)
    assert relative(found, theirs / theirs.norm(dim=-1, keepdim=True)) < 2e-5
    assert ours.logit_scale == pytest.approx(float(model.logit_scale.exp()), rel=1e-6)


class Features:
    """Stands in for a CLIP model and its processor: features are what goes in."""

    config = None

    def to(self, device):
        return self

    def __call__(self, images=None, text=None, **_):
        import torch

        if text is None:
            return {"pixel_values": torch.stack(images)}
        rows = torch.tensor([[float(x) for x in row.split()] for row in text]).double()
        return {"input_ids": rows, "attention_mask": rows}

    def get_image_features(self, pixels):
        return pixels[:, :, 0, 0]

    def get_text_features(self, tokens, mask):
        return tokens


def test_score_of_torchmetrics(reference):
    torch, _ = reference
    functional = pytest.importorskip("torchmetrics.functional.multimodal.clip_score")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9, 16)).astype(np.float32) + 0.4
    theirs, count = functional._clip_score_update(
        list(torch.from_numpy(x[:, :, None, None]).double()),
        [" ".join(map(repr, map(float, row))) for row in y],
        Features(),
        Features(),
    )
    assert count == 9
    assert theirs.min() < 0 < theirs.max()  # they take the maximum after the mean
    np.testing.assert_allclose(clip_score(x, y), np.maximum(theirs.numpy(), 0), rtol=1e-6)
