"""A small real run, saved by Orbax; each case reads a copy of which something was changed."""

import contextlib
import functools
import os
from pathlib import Path

import numpy as np

from tests.robustness.fuzzing import mutate
from tests.robustness.fuzzing.kinds import attempt, tiny_config

STEPS = (10, 20)


class Checkpoints:
    """A workdir with config.json and two checkpoints."""

    limit = 60

    def __init__(self, shared):
        import jax
        import jax.numpy as jnp
        import optax

        from flaxgan.config import to_json
        from flaxgan.drawing import sampler
        from flaxgan.models import build_models
        from flaxgan.saving.checkpoint import Checkpoints as Folder
        from flaxgan.saving.generator_file import named_leaves
        from flaxgan.saving.restore import ema_target
        from flaxgan.training.state import Health, TrainState

        config = tiny_config("none")  # few arrays: each costs Orbax milliseconds
        generator, _ = build_models(config)
        ema = sampler._abstract_ema(generator, config, None)
        tx = optax.trace(0.9)
        self.config, self.states = config, {}
        for step in STEPS:
            draw = np.random.default_rng(step)
            params = jax.tree.map(
                lambda x, draw=draw: jnp.asarray(draw.normal(size=x.shape), jnp.float32),
                ema["params"],
            )
            self.states[step] = TrainState(
                step=jnp.int32(step),
                seed=jnp.uint32(5),
                g_params=params,
                d_params={"a": jax.tree.leaves(params)[0] + 1},
                ema_params=jax.tree.map(lambda x: x * 2, params),
                g_opt_state=tx.init(params),
                d_opt_state=tx.init({"a": jnp.zeros(2)}),
                health=Health.good(),
                text_stats=None,
            )
        state = self.states[STEPS[0]]
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        self.target = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state
        )
        self.ema_target = ema_target(self.target.ema_params, None)
        self.named = named_leaves
        self.leaves = {s: _numpy(named_leaves(state)) for s, state in self.states.items()}
        self.run_folder = shared / "runs" / "tiny"
        if not self.run_folder.exists():
            folder = Folder(self.run_folder / "checkpoints")
            for step, saved in self.states.items():
                meta = {"config": to_json(config), "next_index": step}
                folder.save(saved, meta, {"fd_pixels8": float(step)})
            folder.close()
            (self.run_folder / "config.json").write_text(to_json(config))

    def run(self, rng, folder):
        run = folder / "runs" / "tiny"
        copy_of_links(self.run_folder, run)
        newest = run / "checkpoints" / str(STEPS[-1])
        mutate.tree(rng, rng.choice((run, newest, newest, newest / "state", newest / "ema")))
        return [*self._read_only(rng, run), *self._resume(run)]

    def _read_only(self, rng, run):
        from flaxgan.commands.generator import describe
        from flaxgan.drawing.loading import load_sampler
        from flaxgan.run import transfer
        from flaxgan.saving.finding import newest_intact, newest_run
        from flaxgan.saving.restore import restore_ema

        reports = []
        found, error = attempt(newest_run, run.parent)
        outcomes = [error]
        read = rng.choice(("ema", "source", "sampler"))
        if read == "ema":
            read_ema = functools.partial(restore_ema, target=self.ema_target)
            item, error = attempt(newest_intact, found or run, read_ema, reports.append)
            if error is None:
                self._same({f"ema_params/{n}": x for n, x in self.named(item[0]["params"]).items()})
        elif read == "source":
            source, error = attempt(transfer.read_source, found or run, reports.append)
            if error is None:
                self._same({f"g_params/{n}": x for n, x in source.generator.items()})
                self._same({f"d_params/{n}": x for n, x in (source.discriminator or {}).items()})
        else:
            sampler, error = attempt(load_sampler, found or run, reports.append)
            if error is None:
                self._same({f"ema_params/{n}": x for n, x in self.named(sampler.params).items()})
                assert describe(sampler)
                assert sampler.images_seen >= 0
        assert all(len(line.splitlines()) == 1 for line in reports), "a report of several lines"
        return [*outcomes, error]

    def _resume(self, run):
        from flaxgan.saving.checkpoint import Checkpoints as Folder
        from flaxgan.saving.workdir import prepare_workdir

        reports = []
        _, error = attempt(prepare_workdir, self.config, run)
        outcomes = [error]
        folder, error = attempt(Folder, run / "checkpoints", report=reports.append)
        if error is not None:
            return [*outcomes, error]
        with contextlib.closing(folder):
            restored, error = attempt(folder.restore_newest, self.target)
            if error is None and restored is not None:
                self._same(self.named(restored[0]))
        assert all(len(line.splitlines()) == 1 for line in reports), "a report of several lines"
        return [*outcomes, error]

    def _same(self, found):
        """It is the state of one of the steps, bit for bit."""
        problems = []
        for leaves in self.leaves.values():
            differing = [
                name
                for name, value in found.items()
                if name not in leaves
                or np.asarray(value).dtype != leaves[name].dtype
                or not np.array_equal(np.asarray(value), leaves[name])
            ]
            if not differing:
                return
            problems.append(differing[0])
        raise AssertionError(f"restored something else in {problems[0]}, without an error")


def copy_of_links(source: Path, target: Path):
    """A copy of a folder whose files are links: mutations put other files in their place."""
    for path, _, files in os.walk(source):
        place = target / os.path.relpath(path, source)
        place.mkdir(parents=True)
        for name in files:
            os.link(os.path.join(path, name), place / name)


def _numpy(leaves):
    return {name: np.asarray(value) for name, value in leaves.items()}
