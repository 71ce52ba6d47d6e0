"""Training in several processes: the same as in one, whatever becomes of them."""

from pathlib import Path

import numpy as np
import pytest
from process_group import ROOT

from flaxgan.checkpoint import find_steps

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
STEPS = 6
CONFIG = f"""
import dataclasses
from flaxgan.config import load_config
def get_config():
    config = load_config({str(ROOT / "configs" / "mlp28.py")!r}, tiny=True)
    opts = [dataclasses.replace(o, name="sgd", lr=0.05) for o in (config.g_opt, config.d_opt)]
    train = dataclasses.replace(config.train, total_kimg=STEPS * 8 / 1000, batch_size=8,
                                save_every_kimg=0.016, grid_every_kimg=0.032, log_every_steps=1,
                                ema_slow_halflife_kimg=0.05)
    return dataclasses.replace(config, train=train, g_opt=opts[0], d_opt=opts[1])
"""


def write_config(folder: Path, steps: int = STEPS) -> Path:
    path = folder / f"config{steps}.py"
    path.write_text(CONFIG.replace("STEPS", str(steps)))
    return path


def command(config: Path, workdir: Path, *flags: str) -> list[str]:
    return [
        str(ROOT / "train.py"),
        "--config",
        str(config),
        "--workdir",
        str(workdir),
        *flags,
    ]


def final_state(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by name."""
    import orbax.checkpoint as ocp

    from flaxgan.generator_file import named_leaves

    step = find_steps(workdir / "checkpoints")[-1]
    path = (workdir / "checkpoints" / str(step) / "state").absolute()
    tree = ocp.PyTreeCheckpointHandler().restore(
        path,
        args=ocp.args.PyTreeRestore(
            restore_args=__import__("jax").tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
                ocp.PyTreeCheckpointHandler().metadata(path).tree,
            )
        ),
    )
    return {name: np.asarray(leaf) for name, leaf in named_leaves(tree).items()}
