"""Upper bounds of what a step costs, without noise: counted in the program that jax hands to XLA.

Nothing is compiled. A time would say more, but not the same twice on a busy machine.
"""

import re

import jax
import pytest

from flaxgan.config import load_config
from flaxgan.training import parallel
from tests.conftest import CONFIGS
from tools.scaling.subjects import abstract_run

# million operations for an image of the tiny twin, and gathers of embeddings: one for D, one for G
COSTS = [
    pytest.param("mlp28", 49.3, 0, id="mlp28"),
    pytest.param("avatars32_cpu", 71.6, 2, id="avatars32_cpu", marks=pytest.mark.slow),
    pytest.param("dfgan_avatars32_cpu", 170.0, 0, id="dfgan_avatars32_cpu", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "mflops", "gathers"), COSTS)
def test_a_step_costs_no_more(name, mflops, gathers):
    path = next(path for path in CONFIGS if path.stem == name)
    config, devices = load_config(path, tiny=True), jax.devices()[:2]
    mode, size = "pmap", config.train.batch_size
    networks, state, batch = abstract_run(config, size)
    state = jax.tree.map(
        lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
        state,
        parallel.state_sharding(state, mode, devices),
    )
    step = parallel.compile_step(networks.step, mode, devices)
    lowered = step.lower(state, parallel.abstract_batch(batch, mode, devices))
    found = lowered.cost_analysis()["flops"] / (size // len(devices)) / 1e6
    assert 0.8 * mflops < found < 1.01 * mflops  # much less: lower the bound
    assert len(re.findall(r"stablehlo\.all_gather", lowered.as_text())) == gathers
