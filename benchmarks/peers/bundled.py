"""The bundled model `avatars` drawn by PyTorch: its file, e5's words, and pictures."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import safetensors
import torch
from torch import Tensor

from benchmarks.peers import r3gan
from benchmarks.peers.from_flax import state_dict
from benchmarks.peers.text import Bert
from flaxgan.text import e5

WORD_DIM = 384


def sizes_of(config: Any) -> r3gan.Sizes:
    """Of both networks, from a `flaxgan.config.Config` or what JSON has of one."""
    model, text = config.model, config.text
    return r3gan.Sizes(
        resolution=config.data.resolution,
        g_channels=model.g_channels,
        d_channels=model.d_channels,
        z_dim=model.z_dim,
        w_dim=model.w_dim,
        patch=model.patch,
        attention=model.attention,
        embed_dim=model.embed_dim,
        word_dim=WORD_DIM,
        text_dim=text.dim,
        text_depth=text.depth,
        max_tokens=text.max_tokens,
        direct=text.direct,
    )


class Pictures(NamedTuple):
    """Draws from prompts.

    Attributes:
      config: of the training run.
      generator: with its parameters.
      mean, sd: of the word vectors of training.
      bert: the layers of e5 that words pass through.
      file, tokenizer: of e5.
    """

    config: SimpleNamespace
    generator: r3gan.Generator
    mean: Tensor
    sd: Tensor
    bert: Bert
    file: e5.E5File
    tokenizer: e5.Tokenizer

    @torch.inference_mode()
    def encode(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """Word vectors `[b, t, d]`, standardised, and their mask."""
        t, file = self.config.text.max_tokens, self.file
        texts = [e5.normalise_text(prompt, file.replacements) for prompt in prompts]
        found = self.tokenizer(texts)
        tokens, mask = np.zeros((len(texts), t), np.int32), np.zeros((len(texts), t), bool)
        for row, pieces in enumerate(found):
            ids = [file.bos, *pieces, file.eos][:t]
            tokens[row, : len(ids)], mask[row, : len(ids)] = ids, True
        kept = torch.from_numpy(mask)
        words = torch.from_numpy(e5.look_up(file.word, tokens))
        vectors = self.bert(words, kept).half().float()  # flaxgan keeps float16
        return torch.where(
            kept[..., None], (vectors - self.mean) / self.sd, -self.mean / self.sd
        ), kept

    @torch.inference_mode()
    def pictures(self, words: Tensor, mask: Tensor, z: Tensor | None = None) -> np.ndarray:
        """`[b, h, w, 3]` uint8."""
        if z is None:
            z = torch.randn(len(words), self.config.model.z_dim)
        images = self.generator(z, words, mask)
        images = images.add_(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
        return images.permute(0, 2, 3, 1).contiguous().numpy()


def load(path: Path) -> Pictures:
    """Reads an exported file."""
    with safetensors.safe_open(path, "np") as file:
        about = json.loads(file.metadata()["flaxgan_generator"])
        tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    config = json.loads(about["config"], object_hook=lambda x: SimpleNamespace(**x))
    generator = r3gan.Generator(sizes_of(config)).eval()
    named = {name.removeprefix("params/"): x for name, x in tensors.items() if "params/" in name}
    generator.load_state_dict(state_dict(nested(named)))
    generator.to(memory_format=torch.channels_last)
    mean, sd = (torch.from_numpy(tensors[f"text_stats/{name}"]) for name in ("mean", "sd"))
    words = e5.read(e5.find_file(config.text.path), config.text.layers)
    bert = Bert(config.text.layers).eval()
    bert.load_state_dict(state_dict(words.params))
    return Pictures(config, generator, mean, sd, bert, words, e5.Tokenizer(words))


def nested(named: dict[str, Any]) -> dict[str, Any]:
    """Names with slashes to dicts in dicts."""
    tree: dict[str, Any] = {}
    for name, value in named.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
