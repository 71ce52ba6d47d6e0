"""Counts against closed forms and XLA, times against hand-computed ones, the document's figures."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from flaxgan.config import load_config
from flaxgan.errors import UserError
from flaxgan.training import parallel
from tools.scaling import command, compiled, predict, subjects
from tools.scaling.counting import Work, count

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


def convolve(x, kernel, *, stride=1, padding="VALID", groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# image of 8 x 8 with 4 channels, 3 x 3 kernel to 6 channels, batch 2: places of output and kernel
# that meet, along one side, and what each costs
CONVOLUTIONS = [
    ({}, 6 * 3, 4),
    ({"padding": "SAME"}, 8 * 3 - 2, 4),  # the first and the last output see two places
    ({"groups": 2}, 6 * 3, 2),
    ({"stride": 2}, 3 * 3, 4),
    ({"stride": 2, "padding": "SAME"}, 4 * 3 - 1, 4),
    ({"stride": 2, "groups": 2}, 3 * 3, 2),
]


@pytest.mark.parametrize(("options", "pairs", "inputs"), CONVOLUTIONS, ids=str)
def test_convolutions_and_their_gradients(options, pairs, inputs):
    forward = 2.0 * 2 * pairs**2 * inputs * 6
    args = zeros(2, 8, 8, 4), zeros(3, 3, inputs, 6)
    conv = functools.partial(convolve, **options)
    assert count(conv, *args).flops == forward

    def loss(x, kernel):
        return jnp.sum(jnp.sin(conv(x, kernel)))

    assert count(jax.grad(loss, argnums=(0, 1)), *args).flops == 3 * forward


def test_dense_layers_and_their_gradients():
    x, first, second = zeros(5, 7), zeros(7, 11), zeros(11, 3)

    def loss(x, first, second):
        return jnp.sum((jnp.tanh(x @ first) @ second) ** 2)

    costs = 2.0 * 5 * 7 * 11, 2.0 * 5 * 11 * 3
    assert count(loss, x, first, second).flops == sum(costs)
    # of the weights; the first layer has no gradient of its input
    gradient = jax.grad(loss, argnums=(1, 2))
    assert count(gradient, x, first, second).flops == 3 * sum(costs) - costs[0]
    batched = functools.partial(jnp.einsum, "bnhd,bmhd->bhnm")
    assert count(batched, zeros(2, 5, 3, 8), zeros(2, 7, 3, 8)).flops == 2.0 * 2 * 3 * 5 * 7 * 8


def test_what_is_computed_once_counts_once():
    x, one = zeros(4, 4), 2.0 * 4**3
    assert count(lambda x: (x @ x) + (x @ x), x).flops == one
    assert count(lambda x: (x @ x) + jax.jit(jnp.matmul)(x, x), x).flops == one
    assert count(lambda x: (x @ x) + jax.lax.stop_gradient(x) @ x, x).flops == one
    assert count(lambda x: (x @ x) + (x @ x.T), x).flops == 2 * one
    assert count(lambda x: ((x @ x), x)[1], x).flops == 0
    assert count(lambda x: jax.lax.scan(lambda y, _: (y @ x, None), x, length=7)[0], x).flops == (
        7 * one
    )

    def layer(x):
        return jnp.sin(jnp.sin(x @ x) @ x)

    def flops(layer):
        return count(jax.value_and_grad(lambda x: layer(x).sum()), x).flops

    assert flops(layer) == 6 * one
    assert flops(jax.checkpoint(layer)) == 8 * one
    with pytest.raises(ValueError, match="inside a while"):
        count(lambda x: jax.lax.while_loop(lambda y: y.sum() < 1, lambda y: y @ y, x), x)


def test_averaged_bytes():
    def mean(tree):
        return jax.lax.pmean(tree, "data")

    tree = {"a": zeros(3, 5), "b": jax.ShapeDtypeStruct((7,), jnp.bfloat16)}
    assert count(mean, tree, axis=("data", 4)).averaged_bytes == 4 * 15 + 2 * 7


def test_counts_agree_with_xla():
    """Where products are all but all of the work; padding and strides included."""

    def loss(params, x):
        for kernel, stride in zip(params["conv"], (1, 2), strict=True):
            x = jnp.maximum(convolve(x, kernel, stride=stride, padding="SAME"), 0.1 * x.mean())
        return jnp.sum((x.reshape(len(x), -1) @ params["dense"]) ** 2)

    params = {"conv": [zeros(3, 3, 16, 32), zeros(4, 4, 32, 64)], "dense": zeros(8 * 8 * 64, 64)}
    args = params, zeros(4, 16, 16, 16)
    xla = compiled.flops(jax.jit(jax.grad(loss)).lower(*args).compile())
    counted = count(jax.grad(loss), *args).flops
    assert counted < xla < 1.03 * counted


def test_collectives_of_a_known_program():
    mesh = Mesh(np.array(jax.devices()), ("data",))

    def program(x, y):
        whole = jax.lax.all_gather(y, "data", tiled=True)  # [24] int8
        part = jax.lax.psum_scatter(x * whole.sum(), "data", tiled=True)  # of [16, 3] float32
        return jax.lax.psum((x * 2.0, part.sum()), "data")  # [16, 3] and [] float32

    mapped = jax.shard_map(
        program,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    args = zeros(16, 3), jax.ShapeDtypeStruct((24,), np.int8)
    hlo = jax.jit(mapped).lower(*args).compile().as_text()
    assert compiled.collective_bytes(hlo) == {
        "all-gather": 24,
        "reduce-scatter": 4 * 48,
        "all-reduce": 4 * 48 + 4,
    }


def test_a_compiled_step(monkeypatch):
    """It averages its gradients and metrics, and holds the state on every device."""
    monkeypatch.setattr(parallel, "all_devices", jax.devices)
    config = load_config(ROOT / "configs" / "mlp28.py", tiny=True)
    size = subjects.size(config)
    program = compiled.compile_for(config, 4, "shard_map", 8)
    averaged = subjects.step_work(config, 4).averaged_bytes
    assert compiled.collective_bytes(program.as_text()) == {"all-reduce": averaged}
    assert 0 <= averaged - sum(size.gradient_bytes) < 1000  # of metrics

    monkeypatch.setattr(compiled, "compile_for", lambda *args: program)
    memory = compiled.memory_per_device(config, 4, "shard_map", 8)
    assert size.state_bytes < memory.arguments < 1.01 * size.state_bytes
    assert memory.aliased == pytest.approx(size.state_bytes, rel=0.01)
    assert memory.total == memory.arguments + memory.outputs - memory.aliased + memory.temporaries


def test_too_few_devices(monkeypatch):
    monkeypatch.setattr(parallel, "all_devices", jax.devices)
    config = load_config(ROOT / "configs" / "mlp28.py", tiny=True)
    with pytest.raises(UserError, match="99 devices are needed, there are 8"):
        compiled.memory_per_device(config, 99)


def test_lazy_penalties_are_averaged_over_steps(monkeypatch):
    def count(step, *args, **options):
        return Work(10.0 if step.keywords["with_penalty"] else 2.0, 3.0)

    monkeypatch.setattr(subjects.counting, "count", count)
    config = load_config(ROOT / "configs" / "mlp28.py", tiny=True)
    for every, flops in ((1, 10.0), (2, 6.0), (4, 4.0)):
        lazy = dataclasses.replace(config.loss, penalty_every_steps=every)
        assert subjects.step_work(dataclasses.replace(config, loss=lazy)) == (flops, 3.0)


def test_ring_by_hand():
    ring = functools.partial(predict.ring_seconds, hop_s=0.0)
    assert ring(8e9, 1, 1e9) == 0.0
    assert ring(8e9, 2, 1e9) == pytest.approx(8.0)  # half of it, there and back
    assert ring(8e9, 8, 1e9) == pytest.approx(14.0)
    assert predict.ring_seconds(0.0, 8, 1e9, hop_s=1.0) == pytest.approx(14.0)
    assert predict.ring_seconds(0.0, 64, 1e9, hop_s=1.0, axes=3) == pytest.approx(18.0)


def test_islands_by_hand():
    share = predict.LINK_SHARE
    switch = predict.Hardware("", 1.0, 1.0, 8e9 / share, 8, 1e9 / share)
    hops = 2 * 7 * predict.HOP_S
    assert predict.all_reduce_seconds(8e9, 8, switch) == pytest.approx(1.75 + hops)
    # 1 GB of each device over a ring of 4 islands
    hops += 2 * 3 * predict.NETWORK_HOP_S
    assert predict.all_reduce_seconds(8e9, 32, switch) == pytest.approx(1.75 + 1.5 + hops)
    torus = predict.Hardware("", 1.0, 1.0, 8e9 / share, 64, 1.0, axes=2, closed_from=16)
    assert predict.all_reduce_seconds(8e9, 4, torus) == pytest.approx(3.0, abs=1e-4)
    assert predict.all_reduce_seconds(8e9, 16, torus) == pytest.approx(1.875, abs=1e-4)
    with pytest.raises(ValueError, match="12 devices do not fill islands of 8"):
        predict.all_reduce_seconds(1.0, 12, switch)


def test_efficiency_by_hand(monkeypatch):
    monkeypatch.setattr(predict, "HOP_S", 0.0)
    device = predict.Hardware("", 10.0, 1.0, 1.0 / predict.LINK_SHARE, 2, 1.0)
    found = functools.partial(predict.efficiency, 12.0, (1.0, 2.0), 2, device, mfu=0.3)
    assert found(overlap=0.0) == pytest.approx(4.0 / 7.0)  # 4 s of arithmetic, 3 s of averaging
    assert found(overlap=0.5) == pytest.approx(4.0 / 5.0)
    assert found(overlap=1.0) == 1.0


def rows_of(table):
    text = re.search(rf"<!-- {table} -->\n(.*?)\n<!-- /{table} -->", DOCUMENT, re.DOTALL)[1]
    return {line.split(" | ")[0]: line for line in text.removeprefix("| ").split("\n| ")}


def test_the_document_has_every_table_once():
    for name in command.TABLES:
        assert command.replace_table(DOCUMENT, name, "new").count("\nnew\n") == 1
    with pytest.raises(UserError, match="must be there once, not 0 times"):
        command.replace_table(DOCUMENT, "nothing", "new")
    assert f"<!-- hardware -->\n{command.hardware_table()}\n" in DOCUMENT


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name.startswith("GAT") else ())
        for name in subjects.configs()
    ],
)
def test_the_document_has_the_parameters(name):
    size = subjects.size(subjects.configs()[name])
    cells = f"{name} | {size.g_params:,} | {size.d_params:,} | "
    assert rows_of("cost")[name].startswith(cells)
    assert f" | {sum(size.gradient_bytes) / 1e6:,.2f} | " in rows_of("cost")[name]


@pytest.mark.slow
def test_the_document_has_the_operations_of_dfgan():
    row = command.cost_table(["DF-GAN-256"]).splitlines()[-1]
    assert row.removeprefix("| ") == rows_of("cost")["DF-GAN-256"]


def flops_from_few_blocks(config):
    """Every block costs the same, and so does each of the four heads that images are read from.

    A head is two dense layers, run forwards for D and G, and backwards twice for G.
    """
    one, two = (subjects.step_work(subjects.with_blocks(config, blocks)).flops for blocks in (1, 2))
    model, side = config.model, config.data.resolution // config.model.patch
    to_image = side**2 * model.g_channels * model.patch**2 * config.data.channels
    head = 4 * 2.0 * (to_image + model.w_dim * model.g_channels)
    return one + (model.g_blocks - 1) * (two - one - head) + 3 * head


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GAT-B-256", "GAT-L-256"])
def test_the_document_has_the_operations_of_gat(name):
    flops = flops_from_few_blocks(subjects.configs()[name])
    assert f" | {flops / 1e9:,.1f} | " in rows_of("cost")[name]


def test_command_line(tmp_path, capsys):
    command.main(["--tables", "hardware"])
    assert capsys.readouterr().out == f"hardware\n\n{command.hardware_table()}\n\n"
    file = tmp_path / "tables.md"
    file.write_text("before\n<!-- hardware -->\nold\n<!-- /hardware -->\nafter\n")
    command.main(["--tables", "hardware", "--write", str(file)])
    assert file.read_text() == (
        f"before\n<!-- hardware -->\n{command.hardware_table()}\n<!-- /hardware -->\nafter\n"
    )
    with pytest.raises(UserError, match="--tables must be of cost, hardware"):
        command.main(["--tables", "none"])
    with pytest.raises(UserError, match="cannot write"):
        command.main(["--tables", "hardware", "--write", str(tmp_path / "missing.md")])
