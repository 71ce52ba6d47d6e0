"""Sizes of models: they can be built, grow from s to l, and are counted right."""

import dataclasses
import itertools

import pytest

from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig
from flaxgan.errors import UserError
from flaxgan.models import FAMILIES, build_models
from flaxgan.models.variants import VARIANTS, cost
from tools.model_sizes import main


def config_of(fields, resolution=32, encoder="words"):
    return Config(
        data=DataConfig(resolution=resolution),
        text=TextConfig(encoder=encoder, max_tokens=8, dim=32, depth=1),
        model=dataclasses.replace(ModelConfig(z_dim=8), **fields),
    )


WITH_SIZES = [name for name, family in FAMILIES.items() if family.sizes]


@pytest.mark.parametrize("family", WITH_SIZES)
def test_no_field_of_a_size_is_smaller_than_before(family):
    sizes = [VARIANTS[f"{family}_{size}"] for size in "sbl"]
    configs = [config_of(fields) for fields in sizes]
    for config in configs:
        build_models(config)  # it fulfils the rules of its family
    for one, two in itertools.pairwise(configs):
        numbers = [
            (getattr(one.model, name), getattr(two.model, name))
            for name in set().union(*sizes) - {"family", "attention", "patch"}
        ]
        assert all(x <= y for x, y in numbers)
        assert one.model.g_channels < two.model.g_channels
        assert one.model.d_channels < two.model.d_channels


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=[] if name == "dfgan" else [pytest.mark.slow])
        for name in WITH_SIZES
    ],
)
def test_each_size_is_larger_than_the_one_before(family):
    small, base, large = (cost(config_of(VARIANTS[f"{family}_{size}"])) for size in "sbl")
    for one, two in ((small, base), (base, large)):
        assert all(1.2 * x < y for x, y in zip(one, two, strict=True))


def test_counts_of_the_mlp_are_those_by_hand():
    """Layers 8 -> 256 -> 512 -> 1024 -> 3072, and 3072 -> 1024 -> 512 -> 256 -> 1, with biases."""
    found = cost(config_of({"family": "mlp"}, encoder="none"))
    widths = [8, 256, 512, 1024, 32 * 32 * 3]
    products = [a * b for a, b in itertools.pairwise(widths)]
    assert found.g_params == sum(products) + sum(widths[1:])
    back = [*reversed(widths[1:]), 1]
    products_back = [a * b for a, b in itertools.pairwise(back)]
    assert found.d_params == sum(products_back) + sum(back[1:])
    # two operations a product; leaky ReLU, bias and tanh add little
    assert 1.0 <= found.g_flops / (2 * sum(products)) < 1.02
    assert 1.0 <= found.d_flops / (2 * sum(products_back)) < 1.02


def test_the_command_names_what_a_family_cannot_draw(capsys):
    with pytest.raises(UserError, match="resolution"):
        main(["--resolution", "48"])
    assert capsys.readouterr().out == ""
