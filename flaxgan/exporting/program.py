"""A sampler as one function of arrays, which every exported form is made from and checked against.

What a caption goes through on the host while flaxgan draws (look-ups, a frozen encoder) is part of
the function: token ids, their mask and noise go in, and images come out.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxgan.drawing.drawer import noise
from flaxgan.drawing.sampler import Sampler
from flaxgan.errors import UserError
from flaxgan.saving.generator_file import DTYPES
from flaxgan.text.conditioning import standardise

# what an exported form is checked with, as far as the generator reads prompts
PROMPTS = ("a man with a red beard", "a woman with long pink hair and round glasses", "蓝色", "")
LEVELS = 127.5  # of 255, for a difference of 1 between images in [-1, 1]


@dataclasses.dataclass(frozen=True)
class Program:
    """Images as a function of arrays.

    Attributes:
      params: a tree of NumPy arrays, as they are stored.
      draw: `draw(params, **inputs)`: `[b, h, w, c]` float32, about [-1, 1].
      inputs: name -> shape and dtype, in order; b is the batch.
    """

    params: Any
    draw: Callable[..., Array]
    inputs: dict[str, jax.ShapeDtypeStruct]


def program_of(sampler: Sampler, dtype: str = "float32") -> Program:
    """The program of a generator that draws from noise, and from prompts if it reads them.

    Args:
      sampler: of `flaxgan.load`.
      dtype: the generator's parameters are stored in; computed is in float32. Those of a frozen
        text encoder are stored as its own file has them.

    Raises:
      UserError: it enlarges pictures, or its text encoder is one of a plugin that cannot be traced.
    """
    if sampler.enlarges:
        raise UserError(
            f"{sampler.config.name} enlarges pictures: only generators that draw from noise can be "
            "written in this format; use --format safetensors"
        )
    (b,) = jax.export.symbolic_shape("b")
    encoder = sampler.text_encoder
    inputs, text_params, as_text = {}, {}, None
    if encoder is not None:
        if not hasattr(encoder, "as_function"):
            raise UserError(
                f"the text encoder {sampler.config.text.encoder} has no as_function, so that it "
                "cannot be exported; use --format safetensors"
            )
        text_params, as_text = encoder.as_function()
        shape = (b, encoder.max_tokens)
        inputs["tokens"] = jax.ShapeDtypeStruct(shape, jnp.int32)
        inputs["mask"] = jax.ShapeDtypeStruct(shape, jnp.bool_)
    inputs["z"] = jax.ShapeDtypeStruct((b, sampler.config.model.z_dim), jnp.float32)
    params = {
        "generator": stored(sampler.params, dtype),
        "stats": jax.tree.map(np.asarray, sampler.text_stats),
        "text": jax.tree.map(np.asarray, text_params),
    }

    def draw(
        params: Any, z: Array, tokens: Array | None = None, mask: Array | None = None
    ) -> Array:
        text = None
        if as_text is not None:
            text = standardise(as_text(params["text"], tokens, mask), params["stats"])
        return sampler.generator.apply({"params": widened(params["generator"])}, z, text)

    return Program(params, draw, inputs)


def stored(params: Any, dtype: str) -> Any:
    """Parameters as NumPy arrays of a dtype.

    Raises:
      UserError: one is not finite, or not in this dtype.
    """

    def cast(path: Any, leaf: Any) -> np.ndarray:
        with np.errstate(over="ignore"):
            array = np.asarray(leaf).astype(DTYPES[dtype])
        if not np.isfinite(array.astype(np.float32)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(f"{name} is not finite in {dtype}: use --dtype float32")
        return array

    return jax.tree_util.tree_map_with_path(cast, params)


def widened(params: Any) -> Any:
    """Floats of fewer bits as float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), params)


def examples(sampler: Sampler, count: int) -> dict[str, np.ndarray]:
    """Inputs of a program: the first `count` of PROMPTS, and noise of seed 0."""
    found = {"z": np.asarray(noise(np.arange(count), sampler.config.model.z_dim))}
    if sampler.text_encoder is not None:
        tokens, mask = sampler.text_encoder.tokenize(list(PROMPTS[:count]))
        more = [(0, 0), (0, sampler.text_encoder.max_tokens - tokens.shape[1])]
        found |= {"tokens": np.pad(tokens, more), "mask": np.pad(mask, more)}
    return found


def largest_difference(
    sampler: Sampler, draw: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> float:
    """How far the images of an exported form are from those of the Flax model, at most.

    Args:
      sampler: the original, with all its host code.
      draw: the exported form: inputs to images.

    Returns:
      Of images in [-1, 1], and relative to larger values. Batches of one and of all PROMPTS are
      drawn.
    """
    largest = 0.0
    for count in (1, len(PROMPTS)):
        inputs = examples(sampler, count)
        text = None
        if sampler.text_encoder is not None:
            text = standardise(sampler.encode(PROMPTS[:count]), sampler.text_stats)
        apply = jax.jit(sampler.generator.apply)
        expected = np.asarray(apply({"params": sampler.params}, inputs["z"], text))
        found = np.asarray(draw(inputs))
        if found.shape != expected.shape:
            raise RuntimeError(f"images of shape {found.shape}, not {expected.shape}")
        scale = max(1.0, float(np.abs(expected).max()))  # of one that diverged, rounding is larger
        largest = max(largest, float(np.abs(found - expected).max()) / scale)
    return largest


def check_close(difference: float, dtype: str, form: str) -> None:
    """Refuses an exported form that draws other pictures.

    Raises:
      UserError: they differ by more than rounding explains.
    """
    most = {"float32": 1.0, "float16": 4.0, "bfloat16": 16.0}[dtype]
    if not difference * LEVELS <= most:  # also where it is NaN
        raise UserError(
            f"the {form} draws other pictures than the checkpoint: they differ by up to "
            f"{difference * LEVELS:.1f} of 255 levels; please report it"
        )


def describe_difference(difference: float) -> str:
    """For the user's eyes."""
    levels = f"{difference * LEVELS:.2g} of 255 levels"
    return f"largest difference to the Flax model: {difference:.1e}, {levels}"
