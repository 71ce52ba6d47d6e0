import dataclasses
import json
import re
from pathlib import Path

import pytest

from flaxgan.config import Config, from_json, load_config, parse_args, parse_flags, to_json
from flaxgan.errors import UserError
from tests.conftest import ROOT


def test_flags_override_nested_fields_in_either_spelling():
    config = parse_flags(
        Config(), ["--train.total-kimg", "500", "--g_opt.lr=2e-4", "--train.no-tensorboard"]
    )
    assert config.train.total_kimg == 500.0
    assert config.g_opt.lr == 2e-4
    assert config.train.tensorboard is False
    assert config.d_opt == Config().d_opt


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--train.total-kmg", "5"], "did you mean --train.total-kimg"),
        (["--lr", "5"], "unknown flag --lr"),
        (["--train.total-kimg", "many"], "'many'"),
        (["--train.batch-size", "1.5"], "'1.5'"),
        (["--train.seed"], "--train.seed"),
        (["stray"], "stray"),
    ],
)
def test_bad_flags_name_the_flag(flags, words):
    with pytest.raises(UserError) as error:
        parse_flags(Config(), flags)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_json_round_trip(config_path: Path):
    config = load_config(config_path)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {"depth": 3}}', '{"model": 3}'])
def test_unreadable_json_is_one_error(text):
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        from_json(text)


WRONG_TYPES = {
    "data.resolution": ('"64"', "an integer of at most 2^53, not '64'"),
    "model.attention": ("8", "a list, each an integer of at most 2^53, not 8"),
    "data.strict": ("1", "true or false, not 1"),
    "train.total_kimg": ('float("nan")', "a number, not nan"),
    "train.seed": ("10**400", "an integer of at most 2^53, not a larger one"),
    "data.fit": ('"squeeze"', "one of crop, pad, not 'squeeze'"),
    "text.path": ("3", "text or none, not 3"),
    "loss": ("{}", "LossConfig, not {}"),
    "name": (r'"\ud800"', r"text, not '\ud800'"),
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_value_of_a_wrong_type_is_named_wherever_it_comes_from(tmp_path, field):
    literal, words = WRONG_TYPES[field]
    call = f"{field}={literal}"
    if "." in field:
        section, name = field.split(".")
        call = f"{section}=flaxgan.{section.capitalize()}Config({name}={literal})"
    path = tmp_path / "c.py"
    path.write_text(f"import flaxgan\ndef get_config():\n    return flaxgan.Config({call})")
    with pytest.raises(UserError, match=re.escape(f"{field} must be {words}")):
        load_config(path)
    if field != "loss":
        values = json.loads(to_json(Config()))
        section = values[field.split(".")[0]] if "." in field else values
        section[field.split(".")[-1]] = eval(literal)
        with pytest.raises(UserError, match=re.escape(f"{field} must be {words}")):
            from_json(json.dumps(values))


def test_lists_become_tuples(tmp_path):
    path = tmp_path / "c.py"
    text = 'flaxgan.Config(auto=["data.resolution"], model=flaxgan.ModelConfig(attention=[8]))'
    path.write_text(f"import flaxgan\ndef get_config():\n    return {text}")
    config = load_config(path)
    assert (config.auto, config.model.attention) == (("data.resolution",), (8,))


def test_every_config_has_a_tiny_twin_and_says_how_to_run_it(config_path: Path):
    config, tiny = load_config(config_path), load_config(config_path, tiny=True)
    assert config.name == config_path.stem
    assert tiny.model.family == config.model.family
    assert tiny.loss == config.loss
    assert tiny.train.total_kimg < 1
    assert f"--config configs/{config_path.name}" in config_path.read_text()


def test_workdir_is_below_runs_by_default(config_path: Path):
    config, workdir = parse_args(["--config", str(config_path), "--train.seed", "3"])
    assert workdir == Path("runs") / config.name
    assert config.train.seed == 3
    _, workdir = parse_args(["--workdir=elsewhere", "--config", str(config_path)])
    assert workdir == Path("elsewhere")


def test_what_a_run_starts_from_has_a_short_spelling():
    for flags in (["--init-from", "emoji"], ["--init-from=emoji"], ["--train.init-from", "emoji"]):
        config, _ = parse_args(["--config", str(ROOT / "configs" / "mlp28.py"), *flags])
        assert config.train.init_from == "emoji"


def test_configs_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().name = "other"
