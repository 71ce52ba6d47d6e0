"""How many jax devices a step gets on CPU, and who may say otherwise."""

import os

import pytest

from flaxgan.commands import cli
from flaxgan.commands.cpu_devices import cpu_devices
from flaxgan.config import load_config
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "count"), [("mlp28", 1), ("avatars32_cpu", 2), ("dfgan_avatars32_cpu", 2)]
)
def test_bundled_configs_on_two_cores(name, count):
    config = load_config(ROOT / "configs" / f"{name}.py")
    assert cpu_devices(config.train.batch_size, 2, config.model.family) == count


@pytest.mark.parametrize(
    ("batch", "cores", "family", "count"),
    [
        (511, 2, "mlp", 1),  # does not divide
        (512, 2, "mlp", 2),
        (510, 2, "mlp", 1),  # 255 uses of a parameter
        (16, 8, "r3gan", 8),
        (12, 8, "r3gan", 6),
        (0, 8, "mlp", 8),
        (1, 8, "", 1),
    ],
)
def test_rule(batch, cores, family, count):
    assert cpu_devices(batch, cores, family) == count


@pytest.mark.parametrize("variable", ["XLA_FLAGS", "JAX_NUM_CPU_DEVICES"])
def test_the_user_decides(variable, monkeypatch, capsys):
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    value = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}.get(variable, "3")
    monkeypatch.setenv(variable, value)
    cli.prepare_process(16, family="mlp", say=True)
    assert os.environ[variable] == value
    assert os.environ.get("XLA_FLAGS", value) == value
    assert capsys.readouterr().out == ""


def test_what_is_chosen_is_said(monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    monkeypatch.setattr(cli, "core_count", lambda: 2)
    cli.prepare_process(16, family="mlp", say=True)
    assert os.environ["XLA_FLAGS"] == "--xla_force_host_platform_device_count=1"
    assert "on CPU: 1 jax device(s) of 2 core(s) for mlp, batch 16" in capsys.readouterr().out
