"""Starting from trained weights: what is taken, what stays, what is refused."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxgan
from flaxgan.commands.export import export
from flaxgan.config import Config, DataConfig, ModelConfig, TextConfig, load_config
from flaxgan.drawing import bundled
from flaxgan.drawing.loading import load_sampler
from flaxgan.errors import UserError
from flaxgan.models import build_models
from flaxgan.run.experiment import build_experiment, new_state
from flaxgan.run.loop import train
from flaxgan.run.transfer import Source, find_source, read_source, start_from, take
from flaxgan.saving.generator_file import discriminator_file, named_leaves
from flaxgan.saving.restore import restore_networks
from flaxgan.text.conditioning import TextStats
from flaxgan.training import parallel
from flaxgan.training.state import Health, TrainState
from tests.commands.test_export import with_config

pytest.importorskip("python_avatars")
pytest.importorskip("resvg_py")
MLP = Path(__file__).parents[2] / "configs" / "mlp28.py"


def config_of(**fields) -> Config:
    """The MLP pair: two steps, with a second average."""
    config = load_config(MLP, tiny=True)
    fields = {"total_kimg": 0.016, "save_every_kimg": 0.008, "ema_slow_halflife_kimg": 1.0} | fields
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, resolution=8),  # as in `small_config`
        train=dataclasses.replace(config.train, **fields),
        eval=dataclasses.replace(config.eval, num_images=16),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run, checkpoints of steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("runs") / "old"
    assert train(config_of(), workdir) is None
    return workdir


@pytest.fixture(scope="module")
def networks(run):
    return restore_networks(run / "checkpoints" / "2")[0]


@pytest.fixture(scope="module")
def fresh():
    """The state of a new run on two devices."""
    return new_state(build_experiment(config_of(seed=5)), jax.devices()[:2])


@pytest.fixture
def file(run, tmp_path):
    """An exported run, with its discriminator."""
    return export(run, tmp_path / "model.safetensors", discriminator=True)


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def rounded(tree):
    return jax.tree.map(lambda x: np.float32(np.float16(x)), tree)


# parameters


def on_devices(tree):
    sharding = parallel.replicated_sharding(jax.devices())
    return jax.tree.map(lambda x: jax.device_put(np.float32(x), sharding), tree)


def test_parameters_are_taken_by_path_and_shape():
    params = on_devices({"a": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}, "b": np.zeros(())})
    tensors = {
        "a/kernel": np.arange(6.0).reshape(2, 3),
        "a/bias": np.ones(4),  # of another shape
        "b": np.array(7.0),
        "c": np.ones(100),
    }
    new, taken = take(params, tensors)
    np.testing.assert_array_equal(new["a"]["kernel"], tensors["a/kernel"])
    assert new["b"] == 7
    np.testing.assert_array_equal(new["a"]["bias"], np.zeros(3))
    assert taken == (7, 10, ("a/bias",))
    for old, leaf in zip(jax.tree.leaves(params), jax.tree.leaves(new), strict=True):
        assert (leaf.dtype, leaf.sharding) == (old.dtype, old.sharding)


def buffers(tree):
    return [
        shard.data.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(tree)
        for shard in leaf.addressable_shards
    ]


def test_no_two_leaves_share_a_buffer(fresh, file, networks):
    """Or a donated one would be overwritten under the other; a file gives one array for three."""
    source = read_source(file)
    assert source.generator is source.average is source.slow_average
    state = start_from(source, fresh, config_of(), lambda line: None)
    places = buffers(state)
    assert len(places) == len(set(places)) > 3 * 8
    assert not set(places) & {tensor.ctypes.data for tensor in source.generator.values()}
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(state)} == {2}


# what there is to start from


def test_a_run_gives_all_its_networks(run, networks, fresh):
    lines = []
    source = find_source(config_of(init_from=str(run)), run.parent / "new")
    state = start_from(source, fresh, config_of(), lines.append)
    for name in ("g_params", "d_params", "ema_params", "ema_slow_params"):
        assert_equal(jax.device_get(getattr(state, name)), networks[name])
    assert_equal(state.replace(**dict.fromkeys(networks)), fresh.replace(**dict.fromkeys(networks)))
    counts = [sum(x.size for x in jax.tree.leaves(networks[n])) for n in ("g_params", "d_params")]
    assert lines == [
        f"started from {run}/checkpoints/2: generator {counts[0]:,} of {counts[0]:,} parameters; "
        f"discriminator {counts[1]:,} of {counts[1]:,} parameters"
    ]


def test_one_checkpoint_and_the_newest_intact_one(run, networks, tmp_path):
    first = read_source(run / "checkpoints" / "1")
    assert first.name.endswith("1")
    second = named_leaves(networks["g_params"])
    assert any((first.generator[name] != leaf).any() for name, leaf in second.items())
    broken = shutil.copytree(run, tmp_path / "broken")
    for path in (broken / "checkpoints" / "2" / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    lines = []
    assert_equal(read_source(broken, lines.append).generator, first.generator)
    assert len(lines) == 1
    assert "checkpoints/2 is not intact" in lines[0]
    shutil.rmtree(broken / "checkpoints" / "1")
    with pytest.raises(UserError, match="2 is not intact"):
        read_source(broken)


def test_a_file_gives_its_average_for_all_generators(file, networks, fresh):
    state = start_from(read_source(file), fresh, config_of(), lambda line: None)
    average = rounded(networks["ema_params"])
    for name in ("g_params", "ema_params", "ema_slow_params"):
        assert_equal(jax.device_get(getattr(state, name)), average)
    assert_equal(jax.device_get(state.d_params), rounded(networks["d_params"]))


def test_without_its_discriminator_one_starts_fresh(file, fresh):
    discriminator_file(file).unlink()
    lines = []
    state = start_from(read_source(file), fresh, config_of(), lines.append)
    assert_equal(state.d_params, fresh.d_params)
    (line,) = lines
    assert "no discriminator came with it; D starts fresh: --g-opt.warmup-kimg 5" in line


def test_a_bundled_model(file, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    shutil.copy(file, tmp_path / "weights" / "emoji.safetensors")
    config = config_of(init_from="emoji")
    source = find_source(config, tmp_path / "new")
    assert (source.name, source.discriminator) == ("the bundled model emoji", None)
    shutil.copy(discriminator_file(file), tmp_path / "weights" / "emoji.discriminator.safetensors")
    assert find_source(config, tmp_path / "new").discriminator is not None
    assert list(bundled.bundled_models()) == ["emoji"]
    assert flaxgan.load("emoji").step == 2


# files of discriminators


def test_a_discriminator_is_exported_beside_its_generator(run, file, networks, tmp_path):
    beside = tmp_path / "model.discriminator.safetensors"
    assert discriminator_file(file) == beside
    assert file.read_bytes() == export(run, tmp_path / "alone.safetensors").read_bytes()
    assert not (tmp_path / "alone.discriminator.safetensors").exists()
    exact = export(run, tmp_path / "exact.safetensors", dtype="float32", discriminator=True)
    assert_equal(read_source(exact).discriminator, named_leaves(networks["d_params"]))
    again = export(exact, tmp_path / "again.safetensors", discriminator=True)
    assert discriminator_file(again).read_bytes() == beside.read_bytes()


def test_the_command_says_which_files_it_wrote(run, tmp_path, monkeypatch, capsys):
    from flaxgan.commands.export import main

    monkeypatch.chdir(tmp_path)
    main(["--checkpoint", str(run), "--discriminator", "--out", "a.safetensors"])
    names = ("a.safetensors", "a.discriminator.safetensors")
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {name}, {Path(name).stat().st_size:,} bytes" for name in names
    ]


def test_neither_file_is_written_where_one_is_in_the_way(run, tmp_path):
    (tmp_path / "a.discriminator.safetensors").write_text("mine")
    with pytest.raises(UserError, match=r"a\.discriminator\.safetensors exists; .*--overwrite"):
        export(run, tmp_path / "a.safetensors", discriminator=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["mine"]


def test_a_file_without_its_discriminator_has_none_to_export(file, tmp_path):
    discriminator_file(file).unlink()
    with pytest.raises(UserError, match=r"model\.safetensors has no discriminator beside it"):
        export(file, tmp_path / "b.safetensors", discriminator=True)


def test_a_discriminator_is_no_generator(file):
    for read in (read_source, load_sampler):
        with pytest.raises(UserError, match="holds a discriminator: name the generator's file"):
            read(discriminator_file(file))


def damaged(file, run):
    data = bytearray(discriminator_file(file).read_bytes())
    data[-1] ^= 1
    discriminator_file(file).write_bytes(data)


def of_another_step(file, run):
    export(run / "checkpoints" / "1", file, overwrite=True)


def another_generator(file, run):
    shutil.copy(file, discriminator_file(file))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (damaged, r"model\.discriminator\.safetensors is damaged"),
        (of_another_step, r"not of the same checkpoint as model\.safetensors.*--discriminator"),
        (another_generator, r"model\.discriminator\.safetensors holds no discriminator"),
    ],
)
def test_a_discriminator_that_does_not_belong_is_refused(spoil, words, file, run):
    spoil(file, run)
    with pytest.raises(UserError, match=words):
        read_source(file)


def test_places_of_other_runs_stay_here(run, tmp_path):
    """But a bundled model's name goes with what was made from it."""
    for source, kept in (("/home/me/run", None), ("emoji", "emoji")):
        copy = shutil.copytree(run, tmp_path / source.strip("/"))
        for path in (copy / "checkpoints").glob("*/meta/metadata"):
            meta = json.loads(path.read_text())
            config = json.loads(meta["config"])
            config["train"]["init_from"] = source
            path.write_text(json.dumps(with_config(meta, json.dumps(config))))
        out = export(copy, tmp_path / f"{source.strip('/')[:1]}.safetensors")
        assert load_sampler(out).config.train.init_from == kept


# another model


def state_of(g_params, d_params):
    arrays = on_devices({"g": g_params, "e": g_params, "d": d_params})
    stats = TextStats(mean=jnp.zeros(2), sd=jnp.ones(2))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        seed=jnp.zeros((), jnp.uint32),
        g_params=arrays["g"],
        d_params=arrays["d"],
        ema_params=arrays["e"],
        g_opt_state=(),
        d_opt_state=(),
        health=Health.good(),
        text_stats=stats,
    )


def source_of(config, generator, discriminator=None):
    return Source("old", config, generator, generator, generator, discriminator)


HERE = Config(model=ModelConfig(family="r3gan"), text=TextConfig(encoder="e5"))


def test_what_fits_is_taken_and_the_rest_is_named():
    there = dataclasses.replace(
        HERE, data=DataConfig(resolution=32), text=TextConfig(encoder="words")
    )
    generator = {f"block{i}": np.zeros(1) for i in range(4)} | {"large": np.zeros(1500)}
    state = state_of(generator, {"a": np.zeros(2), "b": np.zeros(3)})
    tensors = {"large": np.ones(1500), "block0": np.ones(2)}
    lines = []
    new = start_from(source_of(there, tensors, {"b": np.ones(3)}), state, HERE, lines.append)
    for params in (new.g_params, new.ema_params):
        assert params["large"].sum() == 1500
        assert params["block0"] == 0
    assert new.text_stats is state.text_stats
    assert lines == [
        "started from old: generator 1,500 of 1,504 parameters (new: block0, block1, block2, …); "
        "discriminator 3 of 5 parameters (new: a); data.resolution 32 there, 64 here; "
        "text.encoder words there, e5 here"
    ]


@pytest.mark.parametrize(
    ("there", "matching", "words"),
    [
        (
            dataclasses.replace(HERE, data=DataConfig(resolution=32)),
            4,
            r"cannot start from old: 4 of 10 parameters .*; data\.resolution 32 there, 64 here$",
        ),
        (
            dataclasses.replace(HERE, text=TextConfig(encoder="words", dim=64)),
            4,
            r"text\.encoder words there, e5 here; text\.dim 64 there, 128 here$",
        ),
        (
            dataclasses.replace(HERE, model=ModelConfig(family="dfgan", g_channels=8)),
            10,  # as much of them as there is
            r"10 of 10 parameters .*; model\.family dfgan there, r3gan here$",
        ),
        (HERE, 4, r"match; b has another shape$"),
    ],
)
def test_what_hardly_fits_is_refused_and_both_sides_are_named(there, matching, words):
    state = state_of({"a": np.zeros(matching), "b": np.zeros(10 - matching)}, {})
    source = source_of(there, {"a": np.ones(matching), "b": np.ones(11)})
    with pytest.raises(UserError, match=words):
        start_from(source, state, HERE)


@pytest.mark.parametrize(("there", "here"), [(4, 6), (6, 4), (5, 5)])
def test_positions_of_captions_are_cut_or_filled_up(there, here):
    configs = [
        dataclasses.replace(HERE, text=TextConfig(encoder="words", max_tokens=8 * n))
        for n in (there, here)
    ]
    old = np.arange(8.0 * there * 3).reshape(8 * there, 3)
    state = state_of(
        {"text/positions": np.full((8 * here, 3), 7.0), "other/positions": np.zeros(2)},
        {"encoder/text/positions": np.full((8 * here, 3), 7.0)},
    )
    generator = {"text/positions": old, "other/positions": np.ones(2)}
    source = source_of(configs[0], generator, {"encoder/text/positions": old})
    new = start_from(source, state, configs[1], lambda line: None)
    both = 8 * min(there, here)
    for found in (
        new.g_params["text/positions"],
        new.ema_params["text/positions"],
        new.d_params["encoder/text/positions"],
    ):
        np.testing.assert_array_equal(found[:both], old[:both])
        np.testing.assert_array_equal(found[both:], 0)
    np.testing.assert_array_equal(new.g_params["other/positions"], 1)


def test_half_is_enough():
    state = state_of({"a": np.zeros(5), "b": np.zeros(5)}, {})
    assert start_from(source_of(HERE, {"a": np.ones(5)}), state, HERE).g_params["a"].sum() == 5


def grid_of(resolution, family="r3gan"):
    return Config(
        data=DataConfig(resolution=resolution),
        model=ModelConfig(family=family, g_channels=8, d_channels=8),
        text=TextConfig(encoder="none"),
    )


def fresh_d(config):
    _, discriminator = build_models(config)
    side = config.data.resolution
    images = jnp.zeros((1, side, side, 3))
    init = functools.partial(discriminator.init, method="score")
    shapes = jax.eval_shape(init, jax.random.key(0), images, None)["params"]
    draw = np.random.default_rng(side)  # which takes no compiling
    return jax.tree.map(lambda x: draw.normal(size=x.shape).astype(np.float32), shapes)


def d_from(there, here):
    """D's parameters of a start at another resolution, those of the source, and untouched ones."""
    old, new = fresh_d(there), fresh_d(here)
    old = jax.tree.map(lambda x: x + 0.5, old)  # those that start at zero too
    state = state_of({"g": np.zeros(1)}, new)
    source = source_of(there, {"g": np.ones(1)}, named_leaves(old))
    started = start_from(source, state, here, lambda line: None).d_params
    return jax.device_get(started), jax.device_get(old), jax.device_get(new)


def test_maps_of_one_side_give_to_each_other_across_resolutions():
    """8 x 8 and 4 x 4 are maps 1 and 2 at 32 px (patches of 2 x 2), 2 and 3 at 64 px."""
    # widths are counted from the largest map: 8, 16, 32 there, 8, 16, 32, 64 here
    there, here = grid_of(32), grid_of(64)
    here = dataclasses.replace(here, model=dataclasses.replace(here.model, d_channels=4))
    started, old, new = d_from(there, here)
    for i in range(3):
        assert_equal(started[f"trunk_{i + 1}_0"], old[f"trunk_{i}_0"])
    for i in range(2):
        assert_equal(started[f"narrow_{i + 1}"], old[f"narrow_{i}"])
    assert_equal(started["pool"], old["pool"])
    for name in ("from_image", "trunk_0_0", "narrow_0"):
        assert_equal(started[name], new[name])


def test_a_smaller_resolution_leaves_the_largest_map_out():
    there = grid_of(64)
    there = dataclasses.replace(there, model=dataclasses.replace(there.model, d_channels=4))
    started, old, new = d_from(there, grid_of(32))
    for i in range(3):
        assert_equal(started[f"trunk_{i}_0"], old[f"trunk_{i + 1}_0"])
    assert_equal(started["from_image"], new["from_image"])


def test_one_resolution_keeps_its_names():
    started, old, _ = d_from(grid_of(64, "dfgan"), grid_of(64, "dfgan"))
    assert_equal(started, old)


# in training


def test_a_run_that_starts_from_another(run, networks, tmp_path, capsys):
    """Its first checkpoint has the other's networks and nothing else of it; the frozen stages of D
    stay as they are; and it goes on without the other."""
    source = shutil.copytree(run, tmp_path / "source")
    config = config_of(seed=3, init_from=str(source), freeze_d_blocks=2, keep_last=9)
    workdir = tmp_path / "new"
    assert train(config, workdir) is None
    assert f"started from {source}/checkpoints/2: " in capsys.readouterr().out
    experiment = build_experiment(config)
    state = new_state(experiment, jax.devices())
    first, start = restored(workdir, 0, state), jax.device_get(state)
    for name, tree in networks.items():
        assert_equal(getattr(first, name), tree)
    assert_equal(first.replace(**dict.fromkeys(networks)), start.replace(**dict.fromkeys(networks)))
    assert first.step == 0
    moments = jax.tree.leaves((first.g_opt_state, first.d_opt_state))
    assert not any(leaf.any() for leaf in moments)

    shutil.rmtree(source)
    longer = dataclasses.replace(
        config, train=dataclasses.replace(config.train, total_kimg=0.024, init_from="gone")
    )
    assert train(longer, workdir) is None
    said = capsys.readouterr().out
    assert "resumed at step 2, 16 images seen; --init-from is not read again" in said
    assert "started from" not in said
    last = restored(workdir, 3, state)
    for name, before in named_leaves(networks["d_params"]).items():
        after = named_leaves(last.d_params)[name]
        if name.startswith(("hidden_0/", "hidden_1/")):
            np.testing.assert_array_equal(after, before)
        else:
            assert (after != before).any(), name
    moments = named_leaves(last.d_opt_state)
    assert any("hidden_2" in name and leaf.any() for name, leaf in moments.items())
    assert not any("hidden_0" in name for name in moments)


def restored(workdir, step, state):
    from flaxgan.saving.restore import restore_item

    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    found, _ = restore_item(workdir / "checkpoints" / str(step), "state", target)
    return jax.device_get(found)
