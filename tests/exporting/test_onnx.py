"""A generator as ONNX: each primitive against jax, whole generators against Flax."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from flaxgan.commands import export
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.exporting.onnx_file import open_session, to_onnx
from flaxgan.exporting.onnx_graph import HANDLERS, model_of
from flaxgan.exporting.program import examples
from flaxgan.models.layers import (
    conv3x3_of_upsampled,
    conv4x4_stride2,
    convolve,
    down_121,
    up_121,
    up_nearest,
)
from flaxgan.text import e5
from tests.drawing.conftest import write_tiny

draw = np.random.default_rng(0)
TABLE = draw.normal(size=(7, 6)).astype(np.float32)
PACKED = e5.QuantisedTable(
    scale=draw.normal(size=(7, 2)).astype(np.float16),
    nibbles=draw.integers(0, 256, (7, 2, 16), dtype=np.uint8),
)
KERNEL = draw.normal(size=(3, 3, 6, 4)).astype(np.float32)
KERNEL4 = draw.normal(size=(4, 4, 6, 4)).astype(np.float32)
GROUPED = draw.normal(size=(3, 3, 3, 4)).astype(np.float32)

# x is [b, 4, 4, 6], n is [b, 5] of 0 to 6; what a row uses is what it tests
FUNCTIONS = {
    "arithmetic": lambda x, n: (x + 1) * (x - 2) / (abs(x) + 3) - x**2 + x**3 + jnp.square(x),
    "powers": lambda x, n: (abs(x) + 0.1) ** 1.5 + 2.0 ** jnp.sign(x),
    "functions": lambda x, n: jnp.tanh(x) + jnp.exp(-abs(x)) + jax.nn.sigmoid(x) - jnp.sin(-x),
    "roots": lambda x, n: jax.lax.rsqrt(abs(x) + 1) + jnp.sqrt(abs(x)) * jnp.cos(x),
    "logarithms": lambda x, n: jnp.log(abs(x) + 1) + jnp.log1p(abs(x)),
    "gelus": lambda x, n: jax.nn.gelu(x) + jax.nn.gelu(x, approximate=False) + jax.lax.erf(x),
    "rounding": lambda x, n: jnp.floor(3 * x) + jnp.ceil(2 * x),
    "relu": lambda x, n: jax.nn.leaky_relu(x, 0.2) + jax.nn.relu(x) + jnp.minimum(x, 0.5),
    "clip": lambda x, n: jax.lax.clamp(-0.5, x, 0.5),
    "compare": lambda x, n: jnp.where((n > 2) & (n != 5) | (n <= 0), n, -n) * (n >= 1) * (n < 6),
    "logic": lambda x, n: jnp.where(~(n == 3), 1.0, 2.0),
    "all": lambda x, n: jnp.where((x > 0).any(axis=-1) & (x < 2).all(axis=-1), 1, 0),
    "softmax": lambda x, n: jax.nn.softmax(x) - x.min(axis=1).prod(axis=-1)[..., None, None],
    "sum": lambda x, n: x.sum(axis=(1, 2)) + jax.lax.stop_gradient(x.mean(axis=(1, 3))).max(),
    "shapes": lambda x, n: x.reshape(-1, 16, 6).transpose(0, 2, 1)[:, :, None].swapaxes(0, 1)[2],
    "lists": lambda x, n: jnp.concatenate(
        [jnp.stack(jnp.split(x, 2, axis=-1), 1), x[:, :2, None, :, :3]], 2
    ),
    "cuts": lambda x, n: x[:, 1:3] - jax.lax.rev(x, (1,))[:, :2] + x[:, 3, 1][:, None, None],
    "steps": lambda x, n: jax.lax.slice_in_dim(x, 1, 4, 2, axis=1),
    "pads": lambda x, n: jnp.pad(x, ((0, 0), (1, 2), (0, 0), (0, 1)), constant_values=0.5),
    "edges": lambda x, n: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="edge"),
    "counting": lambda x, n: x * jnp.arange(x.shape[0])[:, None, None, None] + jnp.arange(6),
    "a size": lambda x, n: x / x.shape[0] + jnp.arange(x.shape[0] * 2).sum(),
    "types": lambda x, n: x.astype(jnp.float16).astype(jnp.float32) + n.sum().astype(jnp.float32),
    "repeated": lambda x, n: jnp.broadcast_to(n[:, None, :4, None], x.shape).reshape(-1, 96).sum(1),
    "expanded": lambda x, n: x[:, None].squeeze(1) + jnp.expand_dims(n[:, 0], (1, 2, 3)),
    "matmul": lambda x, n: x @ TABLE.T,
    "einsum": lambda x, n: jnp.einsum("bijc,bklc->bijkl", x, x),
    "einsum of sums": lambda x, n: jnp.einsum("bijc,bijd->bcd", x, x),
    "einsum of heads": lambda x, n: jnp.einsum("bihc,bjhc->bhij", x, x),
    "einsum of a table": lambda x, n: jnp.einsum("bijc,dc->dbij", x, TABLE),
    "half": lambda x, n: jax.lax.dot_general(
        x.astype(jnp.float16), x.astype(jnp.float16), (((3,), (3,)), ((0, 1), (0, 1))),
        preferred_element_type=jnp.float32,
    ),
    "look up": lambda x, n: jnp.asarray(TABLE)[n],
    "look up columns": lambda x, n: jnp.take(jnp.asarray(TABLE), n, axis=1),
    "look up packed": lambda x, n: e5.look_up(jax.tree.map(jnp.asarray, PACKED), n),
    "convolution": lambda x, n: convolve(x, KERNEL, "SAME"),
    "grouped": lambda x, n: convolve(x, GROUPED, 1, groups=2),
    "strided": lambda x, n: conv4x4_stride2(x, KERNEL4),
    "upsampled": lambda x, n: conv3x3_of_upsampled(x, KERNEL) + up_nearest(x)[..., :4],
    "resampled": lambda x, n: down_121(up_121(up_121(x))),
    "checkpoint": lambda x, n: jax.checkpoint(lambda y: jax.nn.silu(y) ** 2)(x),
    "barrier": lambda x, n: jax.lax.optimization_barrier((x, n))[0],
}  # fmt: skip


def specs():
    (b,) = jax.export.symbolic_shape("b")
    return {
        "x": jax.ShapeDtypeStruct((b, 4, 4, 6), jnp.float32),
        "n": jax.ShapeDtypeStruct((b, 5), jnp.int32),
    }


def translate(function):
    return model_of(lambda params, x, n: function(x, n), {}, specs(), ["y"], {})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_generators_compute(name):
    function = FUNCTIONS[name]
    model = translate(function)
    onnx.checker.check_model(model, full_check=True)
    session = open_session(model.SerializeToString())
    for count in (1, 3):
        x = draw.normal(size=(count, 4, 4, 6)).astype(np.float32)
        n = draw.integers(0, 6, (count, 5), dtype=np.int32)
        expected = np.asarray(jax.jit(function)(x, n))
        given = {"x": x, "n": n}
        (found,) = session.run(["y"], {i.name: given[i.name] for i in session.get_inputs()})
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def test_every_translation_has_a_row():
    seen = set()

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            seen.add(equation.primitive.name)
            for value in equation.params.values():
                if hasattr(value, "eqns"):
                    walk(value)
                elif hasattr(value, "jaxpr"):
                    walk(value.jaxpr)

    for function in FUNCTIONS.values():
        walk(jax.jit(function).trace(*specs().values()).jaxpr.jaxpr)
    unused = set(HANDLERS) - seen
    assert unused <= {"copy"}, unused


def test_what_has_no_translation_is_named():
    with pytest.raises(UserError, match="the operation sort is not translated"):
        translate(lambda x, n: jnp.sort(x, axis=-1))
    with pytest.raises(UserError, match="transposed convolutions"):
        translate(lambda x, n: jax.lax.conv_transpose(x, KERNEL, (2, 2), "SAME"))


@pytest.mark.parametrize("family", ["r3gan", "gat"])
def test_generators(family, tmp_path, monkeypatch):
    sampler = load_sampler(write_tiny(tmp_path, family=family, discriminator=False))
    data, difference = to_onnx(sampler)
    assert difference < 1e-4
    inputs = examples(sampler, 3)
    (images,) = open_session(data).run(["images"], inputs)
    assert images.shape == (3, 16, 16, 3)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    # another prompt, the same noise
    changed = {**inputs, "tokens": inputs["tokens"][::-1], "mask": inputs["mask"][::-1]}
    (others,) = open_session(data).run(["images"], changed)
    assert np.abs(images[0] - others[0]).max() > 1e-4


def test_the_command(tiny_file, tmp_path, capsys):
    sizes = []
    for dtype in ("float32", "float16"):
        out = tmp_path / f"{dtype}.onnx"
        words = ["--format", "onnx", "--dtype", dtype, "--out", str(out)]
        export.main(["--checkpoint", str(tiny_file), *words])
        assert "largest difference to the Flax model: " in capsys.readouterr().out
        sizes.append(out.stat().st_size)
        assert out.with_name(f"{out.name}.sha256").exists()
    assert sizes[0] - sizes[1] > 20_000
    props = {x.key: x.value for x in onnx.load(tmp_path / "float32.onnx").metadata_props}
    assert props["name"] == "tiny"
    with pytest.raises(UserError, match="--dtype must be one of float32, float16"):
        export.main(["--checkpoint", str(tiny_file), "--format", "onnx", "--dtype", "bfloat16"])


def test_without_the_packages(tiny_file, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = ["--format", "onnx", "--out", str(tmp_path / "a.onnx")]
    with pytest.raises(UserError, match=r'onnxruntime: pip install "flaxgan\[onnx\]"'):
        export.main(["--checkpoint", str(tiny_file), *words])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["avatars", "emoji"])
def test_the_bundled_models(name):
    pytest.importorskip("tokenizers")
    from flaxgan.drawing.bundled import bundled_file

    data, difference = to_onnx(load_sampler(bundled_file(name)), "float16")
    assert difference * 127.5 < 0.5
    assert len(data) < 70e6
