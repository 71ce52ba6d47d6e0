"""Networks: `build_models(config)` gives a generator and a discriminator of one family.

Every family keeps one protocol, which is all that the objective knows:
- `generator(z [b, z], text) -> images [b, h, w, c]`, float32;
- `discriminator.encode_text(text) -> TextFeatures | None`,
  `.image_features(images, keys) -> features` (`keys [b]` switch dropout on, None off),
  `.logits(features, text features) -> [b]`, float32,
  `.embed_image(features)` and `.embed_text(text features) -> [b, e]`, if `embed_dim` > 0, for
  contrastive losses,
  and `.score(images, text, keys)`, all in turn;
  `.image_stages()`: the parameters of each stage that an image goes through, from the image on, as
  paths of parts of the parameter tree ("trunk/block0"); what train.freeze_d_blocks counts.
Split so, a step judges the same images with right and wrong captions at the cost of one trunk.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from flaxgan.config import Config
from flaxgan.errors import UserError

__all__ = ["build_models"]

# a config can come out of somebody else's checkpoint: no network of it may take for ever to build
MOST_BLOCKS, WIDEST, LARGEST_SIDE = 1024, 2**16, 8192


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
    _check("model.family", model.family, ("dfgan", "r3gan", "gat", "mlp"))
    _check("model.output", model.output, ("tanh", "linear"))
    for name, least in {
        **dict.fromkeys(("z_dim", "g_channels", "d_channels", "patch", "w_dim"), 1),
        **dict.fromkeys(("g_blocks", "d_blocks"), 1),
        **dict.fromkeys(("embed_dim", "token_match", "group_width"), 0),
    }.items():
        most = MOST_BLOCKS if name.endswith("blocks") else WIDEST
        value = getattr(model, name)
        if value < least:
            raise UserError(f"model.{name} must be >= {least}, not {value}")
        if value > most:
            raise UserError(f"model.{name} must be at most {most}, not {value}")
    if resolution > LARGEST_SIDE:
        raise UserError(f"data.resolution must be at most {LARGEST_SIDE}, not {resolution}")
    if not model.expansion > 0:
        raise UserError(f"model.expansion must be > 0, not {model.expansion}")
    if sentence_dim is not None and sentence_dim < 1:
        raise UserError(f"sentence_dim must be >= 1, not {sentence_dim}")
    if model.token_match:
        _check("model.family with model.token_match", model.family, ("dfgan", "r3gan"))
        _check("text.encoder with model.token_match", config.text.encoder, ("words", "bytes"))
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
        _check("model.embed_dim for mlp", model.embed_dim, (0,))
        _check("model.remat for mlp", model.remat, (False,))
        return (
            mlp.Generator(text_encoder=encoders[0], output=model.output, **common),
            mlp.Discriminator(text_encoder=encoders[1], **common),
        )
    common["remat"] = model.remat
    if model.family == "r3gan":
        return _build_r3gan(config, encoders, common)
    if model.family == "gat":
        return _build_gat(config, encoders, common)
    from flaxgan.models import dfgan

    _check("data.resolution for dfgan", resolution, (32, 64, 128, 256))
    _check("model.token_match for dfgan", model.token_match, (0, 4))
    return (
        dfgan.Generator(
            nf=model.g_channels, text_encoder=encoders[0], output=model.output, **common
        ),
        dfgan.Discriminator(
            nf=model.d_channels,
            text_encoder=encoders[1],
            embed_dim=model.embed_dim,
            token_match=model.token_match,
            **common,
        ),
    )


def _build_r3gan(
    config: Config, encoders: list[nn.Module | None], common: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    from flaxgan.models import r3gan

    model, resolution = config.model, config.data.resolution
    if resolution not in [r3gan.START * model.patch * 2**i for i in range(resolution.bit_length())]:
        raise UserError(
            f"data.resolution must be 4 x model.patch x a power of two for r3gan, "
            f"not {resolution} with model.patch {model.patch}"
        )
    sides = r3gan.stage_sides(resolution, model.patch)
    _check("model.token_match for r3gan", model.token_match, (0, *sides))
    for base, attention in (("g_channels", "attention"), ("d_channels", "d_attention")):
        widths = r3gan.widths(getattr(model, base), len(sides))
        for width in widths:
            hidden = max(1, round(model.expansion * width))
            if model.group_width and hidden % model.group_width:
                raise UserError(
                    f"model.group_width must divide model.expansion x {width} channels = {hidden} "
                    f"(model.{base} x 1, 2, 4 or 8), not be {model.group_width}"
                )
        for side in getattr(model, attention):
            _check(f"model.{attention}", side, tuple(sides))
            width = widths[sides.index(side)]
            if width % (4 * r3gan.heads_of(width)):
                raise UserError(
                    f"model.{attention} {side}: that map has {width} channels, which must be a "
                    f"multiple of 4 x {r3gan.heads_of(width)} heads: change model.{base}"
                )
    shared = {
        **common,
        "patch": model.patch,
        "expansion": model.expansion,
        "group_width": model.group_width,
    }
    return (
        r3gan.Generator(
            widths=r3gan.widths(model.g_channels, len(sides)),
            blocks=model.g_blocks,
            w_dim=model.w_dim,
            attention=model.attention,
            text_encoder=encoders[0],
            output=model.output,
            **shared,
        ),
        r3gan.Discriminator(
            widths=r3gan.widths(model.d_channels, len(sides)),
            blocks=model.d_blocks,
            attention=model.d_attention,
            embed_dim=model.embed_dim,
            token_match=model.token_match,
            text_encoder=encoders[1],
            **shared,
        ),
    )


def _build_gat(
    config: Config, encoders: list[nn.Module | None], common: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    from flaxgan.models import gat

    model, resolution = config.model, config.data.resolution
    if resolution % model.patch:
        raise UserError(
            f"data.resolution must be a multiple of model.patch {model.patch} for gat, "
            f"not {resolution}"
        )
    for name in ("g_channels", "d_channels"):
        width = getattr(model, name)
        if width % 4 or width % (4 * gat.heads_of(width)):
            raise UserError(
                f"model.{name} must be a multiple of 4 x {gat.heads_of(width)} for gat, not {width}"
            )
    return (
        gat.Generator(
            width=model.g_channels,
            depth=model.g_blocks,
            patch=model.patch,
            w_dim=model.w_dim,
            text_encoder=encoders[0],
            output=model.output,
            **common,
        ),
        gat.Discriminator(
            width=model.d_channels,
            depth=model.d_blocks,
            patch=model.patch,
            embed_dim=model.embed_dim,
            text_encoder=encoders[1],
            **common,
        ),
    )


def _learned_text_encoder(config: Config) -> nn.Module | None:
    if config.text.encoder not in ("bytes", "words"):
        return None
    from flaxgan.text.learned import BYTE_VOCABULARY
    from flaxgan.text.transformer import TextTransformer

    return TextTransformer(
        dim=config.text.dim,
        depth=config.text.depth,
        max_tokens=config.text.max_tokens,
        vocabulary=BYTE_VOCABULARY if config.text.encoder == "bytes" else None,
    )


def _check(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        options = ", ".join(str(option) for option in allowed)
        raise UserError(f"{name} must be one of {options}, not {value}")
