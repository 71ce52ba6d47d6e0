"""Three sizes of every family, and what each costs: `python -m tools.model_sizes` has the table.

A size is a dict of fields of the model section:
`dataclasses.replace(config.model, **VARIANTS["r3gan_b"])`, or as flags: `--model.g-channels 64 …`.
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flaxgan.config import Config
from flaxgan.models import FAMILIES, build_models
from flaxgan.models.given_pictures import with_picture
from flaxgan.text.conditioning import Text

WORD_DIM = 384  # of multilingual-e5-small
VARIANTS: dict[str, dict[str, Any]] = {
    f"{name}_{size}": {"family": name, **fields}
    for name, family in FAMILIES.items()
    for size, fields in family.sizes.items()
}


class Cost(NamedTuple):
    """What a pair of networks costs.

    Attributes:
      g_params, d_params: parameters, text encoder included.
      g_flops, d_flops: floating-point operations to draw, and to judge, one image.
    """

    g_params: int
    d_params: int
    g_flops: float
    d_flops: float


def cost(config: Config) -> Cost:
    """Counts a pair of networks without running them; operations as XLA counts the program.

    Args:
      config: its data, text and model sections; frozen text has vectors of WORD_DIM.
    """
    generator, discriminator = build_models(config)
    z = jnp.zeros((1, config.model.z_dim))
    side, tokens = config.data.resolution, config.text.max_tokens
    images = jnp.zeros((1, side, side, config.data.channels))
    text = {
        "none": None,
        "words": Text(token_emb=jnp.zeros((1, tokens, WORD_DIM)), mask=jnp.ones((1, tokens), bool)),
        "bytes": Text(tokens=jnp.zeros((1, tokens), jnp.int32), mask=jnp.ones((1, tokens), bool)),
    }.get(config.text.encoder, Text(sentence_emb=jnp.zeros((1, WORD_DIM))))
    text = with_picture(generator, text, images)
    key = jax.random.key(0)
    g_params = jax.eval_shape(generator.init, key, z, text)
    d_params = jax.eval_shape(lambda k: discriminator.init(k, images, text, method="score"), key)

    def score(params: Any, images: jax.Array) -> jax.Array:
        return discriminator.apply(params, images, text, method="score")

    return Cost(
        _count(g_params),
        _count(d_params),
        _flops(lambda params, z: generator.apply(params, z, text), g_params, z),
        _flops(score, d_params, images),
    )


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _flops(function: Any, *args: Any) -> float:
    return float(jax.jit(function).lower(*args).cost_analysis()["flops"])


if __name__ == "__main__":  # a command of earlier versions
    where = "error: python -m flaxgan.models.variants is now: python -m tools.model_sizes"
    print(f"{where} (in a clone)", file=sys.stderr)
    sys.exit(2)
