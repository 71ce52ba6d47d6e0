"""A generator trained alone comes nearer to the pictures; the command scores it."""

import jax
import pytest

from flaxgan.errors import UserError
from flaxgan.run.experiment import build_experiment
from tests.run.test_loop import small_config
from tools.probe import main, train_alone

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")


@pytest.fixture(scope="module")
def experiment():
    return build_experiment(small_config())


@pytest.mark.slow
def test_it_comes_nearer_and_more_noises_come_nearest(experiment):
    """As many pictures as each run sees; the start is that of both."""
    options = {"images": 320, "lr": 1e-3}
    params, speed, one = train_alone(experiment, noises=1, **options)
    *_, four = train_alone(experiment, noises=4, **options)
    *_, untrained = train_alone(experiment, noises=1, images=16, lr=1e-9)
    assert four < one < 0.8 * untrained
    assert speed > 0
    assert len(jax.tree.leaves(params)) > 4


def test_the_command(capsys):
    flags = ["--data.resolution", "8", "--images", "32", "--noises", "2"]
    main(["--config", "mlp28", "--tiny", *flags])
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert "images/s" in first
    assert "fd_pixels8" in second
    main(["--help"])
    assert "--noises" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "many", "inf"])
def test_numbers_that_are_none(value):
    with pytest.raises(UserError, match=f"--images must be a number above 0, not {value}"):
        main(["--config", "mlp28", "--images", value])
