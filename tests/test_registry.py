"""Tables of choices: every name that a config field may say, and what other packages add."""

import dataclasses
import subprocess
import sys

import pytest

from flaxgan.config import Config, check, set_field
from flaxgan.errors import UserError
from flaxgan.losses import ADVERSARIAL, AdversarialLoss
from flaxgan.registry import OWNERS, table_of
from flaxgan.training.augment import POLICIES

LOSS = AdversarialLoss(
    real=lambda real: -real,
    fake=lambda real, fake: fake,
    g=lambda real, fake: -fake,
    chance=0.0,
    gap=None,
)


@pytest.mark.parametrize("field", OWNERS)
def test_every_table_names_what_it_has_for_a_name_that_it_has_not(field):
    table = table_of(field)
    assert len(table) >= 2
    with pytest.raises(UserError) as error:
        table["xyzzy"]
    assert str(error.value) == f"{table.field} must be one of {', '.join(table)}, not 'xyzzy'"
    first = next(iter(table))
    with pytest.raises(UserError, match=f"did you mean {first}"):
        table[first + "x"]


@pytest.mark.parametrize("field", [field for field in OWNERS if field != "data.name"])
def test_every_field_that_a_table_owns_is_checked_in_one_line(field):
    several = isinstance(value_of(Config(), field), tuple)
    value = ("xyzzy",) if several else "xyzzy"
    with pytest.raises(UserError) as error:
        check(set_field(Config(), field, value))
    names = ", ".join(table_of(field))
    assert str(error.value) == f"{field} must be one of {names}, not 'xyzzy'"


def value_of(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize("field", OWNERS)
def test_every_member_can_be_imported_and_is_of_its_kind(field):
    table = table_of(field)
    for name, member in table.items():
        table._checked(name, member)


def test_the_allowed_names_are_in_the_help():
    done = subprocess.run(
        [sys.executable, "train.py", "--help"], capture_output=True, text=True, check=True
    )
    text = " ".join(done.stdout.split())
    for field in set(OWNERS) - {"data.name", "d_opt.name"}:
        assert ", ".join(table_of(field)) in text, field


def test_other_members_are_registered_replaced_and_removed():
    assert ADVERSARIAL.register("wasserstein", LOSS) is LOSS
    try:
        assert ADVERSARIAL["wasserstein"] is LOSS
        assert list(ADVERSARIAL)[-1] == "wasserstein"
        again = dataclasses.replace(LOSS, chance=1.0)  # a config file is run more than once
        ADVERSARIAL.register("wasserstein", again)
        assert ADVERSARIAL["wasserstein"] is again
        check(set_field(Config(), "loss.adversarial", "wasserstein"))
    finally:
        ADVERSARIAL.unregister("wasserstein")
    assert "wasserstein" not in ADVERSARIAL


def test_flaxgans_own_members_stay_what_they_are():
    with pytest.raises(UserError, match=r"loss\.adversarial hinge is built into flaxgan"):
        ADVERSARIAL.register("hinge", LOSS)
    ADVERSARIAL.unregister("hinge")
    assert "hinge" in ADVERSARIAL
    with pytest.raises(UserError, match="must be of type AdversarialLoss, not function"):
        ADVERSARIAL.register("other", lambda real, fake: fake)
    with pytest.raises(UserError, match="must be of type Policy, not AdversarialLoss"):
        POLICIES.register("other", LOSS)


PACKAGE = """
from flaxgan.losses.adversarial import AdversarialLoss
WASSERSTEIN = AdversarialLoss(real=lambda real: -real, fake=lambda real, fake: fake,
                              g=lambda real, fake: -fake, chance=0.0, gap=None)
"""


def test_entry_points_of_installed_packages_are_members(tmp_path, monkeypatch):
    """A package as pip leaves it: a module, and metadata that name entry points."""
    (tmp_path / "somebodys_losses.py").write_text(PACKAGE)
    about = tmp_path / "somebodys_losses-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-losses\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[flaxgan.adversarial_losses]\n"
        "wasserstein = somebodys_losses:WASSERSTEIN\n"
        "broken = somebodys_losses:NOTHING\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert "wasserstein" in ADVERSARIAL
        assert {"wasserstein", "broken"} <= set(ADVERSARIAL)
        assert ADVERSARIAL["wasserstein"].chance == 0.0
        with pytest.raises(UserError, match="broken: cannot import somebodys_losses:NOTHING"):
            ADVERSARIAL["broken"]
    finally:
        ADVERSARIAL.unregister("wasserstein")
