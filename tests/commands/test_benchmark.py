"""The benchmark: its operation counts against pencil and paper, its output against its parts."""

import itertools
import json
from pathlib import Path

import pytest

from flaxgan.commands import benchmark
from flaxgan.config import load_config

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
MLP = Path(__file__).parents[2] / "configs" / "mlp28.py"


def matmul_flops(*widths):
    """Of a chain of dense layers, for one image: a multiplication and an addition per weight."""
    return [2.0 * a * b for a, b in itertools.pairwise(widths)]


def test_operations_and_output(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(benchmark.MATMUL_SIZE, "cpu", 256)  # of 2048, one takes a second
    path = tmp_path / "speed.json"
    argv = ["--config", str(MLP), "--tiny", "--seconds", "0.05", "--json", str(path)]
    benchmark.main(argv)
    rates = json.loads(path.read_text())
    config = load_config(MLP, tiny=True)
    g = matmul_flops(config.model.z_dim, 256, 512, 1024, 784)
    d = matmul_flops(784, 1024, 512, 256, 1)
    # forward, gradient of weights, gradient of inputs (not of the first layer's, but where D leads
    # back to G): D on real and on fake images of one G, then G through D
    d_update = sum(g) + 2 * (3 * sum(d) - d[0])
    g_update = (3 * sum(g) - g[0]) + 2 * sum(d)
    assert rates["sampling"]["flops"] == pytest.approx(sum(g), rel=0.05)
    assert rates["step"]["flops"] > 0.98 * (d_update + g_update)
    # Adam, twice, the average, and leaving out what is not finite: 10 to 30 operations on every
    # parameter, for four images a device
    parameters = (sum(g) + sum(d)) / 2
    optimiser = 4 * (rates["step"]["flops"] - (d_update + g_update))
    assert 10 * parameters < optimiser < 30 * parameters
    assert rates["matmul"]["flops"] == 2 * 256**3
    assert all(rates[name]["per_second"] > 0 for name in ("step", "sampling", "input", "matmul"))
    assert rates["input"]["flops"] is None

    lines = capsys.readouterr().out.splitlines()
    assert lines[-6].startswith("mlp28_tiny: 2 x cpu")
    assert [line.split()[0] for line in lines[-4:]] == ["step", "sampling", "input", "matmul"]


def test_rates_are_calls_over_time(monkeypatch):
    now = 0.0

    def run(count):
        nonlocal now
        now += 0.25 * count

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now)
    assert benchmark._calls_per_second(run, seconds=5.0) == pytest.approx(4.0)
    assert benchmark.Rate(4.0, 3.0).flops_per_second == 12.0
