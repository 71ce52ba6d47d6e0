"""Networks: `build_models(config)` gives a generator and a discriminator of one family.

Every family keeps one protocol, which is all that the step knows:
- `generator(z [b, z], text) -> images [b, h, w, c]`, float32;
- `discriminator.encode_text(text) -> sentence [b, d] | None`,
  `.image_features(images, keys) -> features` (`keys [b]` switch dropout on, None off),
  `.logits(features, sentence) -> [b]`, float32, and `.score(images, text, keys)`, all in turn.
Split so, a step judges the same images with right and wrong captions at the cost of one trunk.
"""

import flax.linen as nn
import jax.numpy as jnp

from flaxgan.config import Config
from flaxgan.errors import UserError

__all__ = ["build_models"]


def build_models(config: Config, *, sentence_dim: int | None = None) -> tuple[nn.Module, nn.Module]:
    """Builds (generator, discriminator).

    Args:
      config: its model, data (resolution, channels) and text sections are read.
      sentence_dim: width of frozen sentence vectors; only checked, as layers find it out.

    Raises:
      UserError: a value that no model supports.
    """
    resolution, channels, model = config.data.resolution, config.data.channels, config.model
    _check("data.channels", channels, (1, 3))
    _check("model.dtype", model.dtype, ("float32", "bfloat16"))
    _check("model.family", model.family, ("dfgan", "mlp"))
    _check("model.output", model.output, ("tanh", "linear"))
    for name in ("z_dim", "g_channels", "d_channels"):
        if getattr(model, name) < 1:
            raise UserError(f"model.{name} must be >= 1, not {getattr(model, name)}")
    if sentence_dim is not None and sentence_dim < 1:
        raise UserError(f"sentence_dim must be >= 1, not {sentence_dim}")
    common = {
        "resolution": resolution,
        "channels": channels,
        "dtype": jnp.dtype(model.dtype),
    }
    encoders = [_learned_text_encoder(config) for _ in range(2)]
    if model.family == "mlp":
        from flaxgan.models import mlp

        if resolution < 8:
            raise UserError(f"data.resolution must be >= 8 for mlp, not {resolution}")
        return (
            mlp.Generator(text_encoder=encoders[0], output=model.output, **common),
            mlp.Discriminator(text_encoder=encoders[1], **common),
        )
    from flaxgan.models import dfgan

    _check("data.resolution for dfgan", resolution, (32, 64, 128, 256))
    return (
        dfgan.Generator(
            nf=model.g_channels, text_encoder=encoders[0], output=model.output, **common
        ),
        dfgan.Discriminator(nf=model.d_channels, text_encoder=encoders[1], **common),
    )


def _learned_text_encoder(config: Config) -> nn.Module | None:
    if config.text.encoder != "bytes":
        return None
    from flaxgan.text.byte_encoder import ByteEncoder

    return ByteEncoder(
        dim=config.text.dim, depth=config.text.depth, max_tokens=config.text.max_tokens
    )


def _check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        options = ", ".join(str(option) for option in allowed)
        raise UserError(f"{name} must be one of {options}, not {value}")
