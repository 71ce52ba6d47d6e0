"""CONTRIBUTING.md: its four examples, as they stand, train and draw from outside the package."""

import json
import os
import re
import subprocess
import sys

import pytest

from flaxgan.commands.main import run_command
from flaxgan.errors import UserError
from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of the examples, away from the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", TEXT, re.DOTALL)
    assert [name for name, _ in blocks] == [
        *("my_loss.py", "my_family.py", "my_data.py", "my_metric.py"),
        *("my_parts.py", "my_config.py"),
    ]
    for name, code in blocks:
        (folder / name).write_text(code)
    return folder


def flaxgan(folder, *words):
    return python(folder, "-m", "flaxgan", *words)


def python(folder, *words):
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TFDS_DATA_DIR": str(folder / "tfds"),
            # of one device, which takes less to compile
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=2", "device_count=1"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_examples_train_and_draw(folder):
    done = flaxgan(folder, "train", "--plugin", "my_parts", "--config", "my_config.py")
    assert done.returncode == 0, done.stderr
    run = folder / "runs" / "my_config"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("mean_color" in line for line in lines) >= 2
    assert {"d_loss", "penalty"} <= set(lines[1])
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["options"] == ["hidden=16"]
    words = ["sample", "--checkpoint", str(run), "--prompt", "a red dot", "--out", "dot.png"]
    drawn = flaxgan(folder, *words, "--plugin", "my_parts")
    assert drawn.returncode == 0, drawn.stderr
    assert (folder / "dot.png").stat().st_size > 0
    # a checkpoint brings no code: without the module, as here, the family is unknown, and said so
    families = "dfgan, r3gan, gat, mlp, upsampler, inpainter"
    unknown = f"model.family must be one of {families}, not 'shallow'"
    with pytest.raises(UserError, match=unknown):
        run_command(words)


WRONG = {
    "--model.options hidden=many": "hidden must be an integer",
    "--model.options depth=3": "model.options must be among hidden for shallow",
    "--model.g-channels 64": "model.g_channels is not read by the shallow family",
    "--data.resolution 128": "data.resolution must be <= 64 for shallow, not 128",
    "--loss.adversarial wassertein": "did you mean wasserstein?",
}
# one process for all of them: a start takes as long as the five answers
ANSWERS = """
import sys
from flaxgan.commands.main import main
for flags in tuple(sys.argv[1:]):
    words = ["train", "--plugin", "my_parts", "--config", "my_config.py", "--workdir", "bad"]
    sys.argv[1:] = [*words, *flags.split()]
    try:
        main()
    except SystemExit as stopped:
        print(stopped.code, file=sys.stderr)
"""


def test_wrong_values_of_other_members_are_said_in_one_line(folder):
    done = python(folder, "-c", ANSWERS, *WRONG)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(WRONG), done.stderr
    for (flags, words), line, code in zip(WRONG.items(), lines[::2], lines[1::2], strict=True):
        assert words in line, flags
        assert code == "2", flags
    assert not (folder / "bad").exists()
