"""Starting from trained weights: where they come from, and which of them fit.

Parameters are taken where path and shape are equal, so that a source of another size, resolution
or text encoder contributes what fits. Where the resolution is another, D's stages are counted from
the smallest map on, as G's are named: so training goes on at twice the resolution (progressive
growing, Karras et al. 2018, without fading in).
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flaxgan.config import Config, ModelConfig
from flaxgan.drawing.bundled import ALL, bundled_file
from flaxgan.drawing.loading import config_of
from flaxgan.errors import UserError
from flaxgan.models import FAMILIES, build_models
from flaxgan.saving.finding import newest_intact
from flaxgan.saving.generator_file import SUFFIX, named_leaves, read_discriminator, read_params
from flaxgan.training.state import Params, TrainState

Tensors = Mapping[str, np.ndarray]  # parameters by path: "block0/conv0/kernel"
Report = Callable[[str], None]
Adopt = Callable[[Tensors, Config, Config], Tensors]  # see Family
# what decides on shapes; named where two sides differ
SHAPING = (
    *(f"model.{field.name}" for field in dataclasses.fields(ModelConfig) if field.name != "dtype"),
    *("data.resolution", "data.channels", "text.encoder", "text.dim", "text.depth"),
)


NETWORKS = ("generator", "average", "slow_average", "discriminator")  # fields of Source


@dataclasses.dataclass(frozen=True)
class Source:
    """Trained weights.

    Attributes:
      name: as shown to the user.
      config: of the run that made them.
      generator: parameters by path.
      average: parameters of the averaged generator.
      slow_average: those of the second average, or of the first where there is only one.
      discriminator: None where only the generator was kept.
    """

    name: str
    config: Config
    generator: Tensors
    average: Tensors
    slow_average: Tensors
    discriminator: Tensors | None


class Taken(NamedTuple):
    """How much of a network a source gave.

    Attributes:
      count: parameters taken, by number of values.
      total: of the network.
      new: paths of those that were not taken.
    """

    count: int
    total: int
    new: tuple[str, ...]


def find_source(config: Config, workdir: Path, report: Report = print) -> Source | None:
    """What `train.init_from` names; None where it is not set, or the run has a checkpoint.

    Args:
      config: of the new run.
      workdir: of the new run; one with a checkpoint goes on from that, whatever became of the
        source.
      report: called with one line for each broken checkpoint that is passed over.

    Raises:
      UserError: what is named is not there, or not intact.
    """
    what = config.train.init_from
    if what is None or any(p.name.isdecimal() for p in (workdir / "checkpoints").glob("*")):
        return None
    if what in ALL:
        source = read_source(bundled_file(what))
        return dataclasses.replace(source, name=f"the bundled model {what}")
    if not Path(what).exists():
        raise UserError(
            f"--init-from {what} is not there: name a run, one of its checkpoints, an exported "
            f"{SUFFIX} file or a bundled model ({', '.join(ALL)})"
        )
    return read_source(Path(what), report)


def read_source(path: Path, report: Report = print) -> Source:
    """Reads all networks of a run (its newest intact checkpoint), a checkpoint or a file.

    Raises:
      UserError: nothing of the kind is there, it is not intact, or the discriminator beside a file
        is of another run or moment.
    """
    if path.suffix == SUFFIX:
        return _read_file(path)
    from flaxgan.saving.restore import (
        restore_networks,  # Orbax is slow to import; a file needs none
    )

    def read(folder: Path) -> Source:
        trees, meta = restore_networks(folder)
        networks = {name: named_leaves(tree) for name, tree in trees.items()}
        average = networks["ema_params"]
        return Source(
            name=str(folder),
            config=config_of(folder, meta),
            generator=networks["g_params"],
            average=average,
            slow_average=networks.get("ema_slow_params", average),
            discriminator=networks["d_params"],
        )

    return newest_intact(path, read, report)


def start_from(
    source: Source, state: TrainState, config: Config, report: Report = print
) -> TrainState:
    """A new run's state with the networks of a source wherever path and shape are equal.

    Step and optimisers stay those of the start, and so do the text statistics: they are of this
    run's captions, and what a resumed run compares with its captions.

    Args:
      source: trained weights.
      state: at step 0; its leaves keep their sharding.
      config: of the new run.
      report: called with one line that says what was taken.

    Returns:
      The state; no two leaves share a buffer.

    Raises:
      UserError: another family, or under half of the generator's parameters match.
    """
    differences = _differences(source.config, config)
    there, here = source.config.model.family, config.model.family
    adopt = FAMILIES[here].adopt.get(there)
    if there == here or adopt is not None:
        source = _fitted(source, config, adopt)
    g_params, g_taken = take(state.g_params, source.generator)
    if (there != here and adopt is None) or 2 * g_taken.count < g_taken.total:
        share = f"{g_taken.count:,} of {g_taken.total:,} parameters of the generator match"
        why = "; ".join(differences) or f"{g_taken.new[0]} has another shape"
        raise UserError(f"cannot start from {source.name}: {share}; {why}")
    d_params, d_taken = take(state.d_params, source.discriminator or {})
    new = {
        "g_params": g_params,
        "d_params": d_params,
        "ema_params": take(state.ema_params, source.average)[0],
    }
    if state.ema_slow_params is not None:
        new["ema_slow_params"] = take(state.ema_slow_params, source.slow_average)[0]
    words = [f"started from {source.name}: generator {_describe(g_taken)}"]
    if source.discriminator is None:
        words.append("no discriminator came with it")
    else:
        words.append(f"discriminator {_describe(d_taken)}")
    if 2 * d_taken.count < d_taken.total:
        words.append("D starts fresh: --g-opt.warmup-kimg 5 lets it catch up first")
    report("; ".join([*words, *differences]))
    return state.replace(**new)


def take(params: Params, tensors: Tensors) -> tuple[Params, Taken]:
    """Parameters, with the values of a source where path and shape are equal.

    Args:
      params: arrays on devices.
      tensors: of the source, by path.

    Returns:
      The parameters, each in a buffer of its own and sharded as before; how much was taken.
    """
    leaves = named_leaves(params)
    matching = {
        name
        for name, leaf in leaves.items()
        if name in tensors and tensors[name].shape == leaf.shape
    }
    values = [
        tensors[name].astype(leaf.dtype) if name in matching else leaf
        for name, leaf in leaves.items()
    ]
    # in a compiled call, as in init_state: on CPU device_put leaves one NumPy buffer under several
    # arrays and devices, whatever may_alias says, and the step donates them all
    copies = jax.jit(
        lambda xs: [jnp.copy(x) for x in xs],
        out_shardings=[leaf.sharding for leaf in leaves.values()],
    )(values)
    taken = Taken(
        count=sum(leaves[name].size for name in matching),
        total=sum(leaf.size for leaf in leaves.values()),
        new=tuple(name for name in leaves if name not in matching),
    )
    return jax.tree.unflatten(jax.tree.structure(params), copies), taken


def _fitted(source: Source, config: Config, adopt: Adopt | None) -> Source:
    """The source, as far as its family knows what becomes of it at the new resolution.

    `adopt`: makes parameters of another family those of the new run's.
    """
    source = _with_tokens(source, config)
    if adopt is not None:
        networks = {
            name: adopt(getattr(source, name), source.config, config)
            for name in NETWORKS
            if getattr(source, name) is not None
        }
        return dataclasses.replace(source, **networks)
    if source.config.data.resolution == config.data.resolution:
        return source
    grow = FAMILIES[config.model.family].grow or (lambda tensors, there, here: tensors)
    networks = {
        name: grow(getattr(source, name), source.config, config)
        for name in NETWORKS
        if getattr(source, name) is not None
    }
    if source.discriminator is not None:
        networks["discriminator"] = _renumber_stages(
            networks["discriminator"], source.config, config
        )
    return dataclasses.replace(source, **networks)


def _with_tokens(source: Source, config: Config) -> Source:
    """The source with as many positions in its captions; those that it never had are zero."""
    there, here = source.config.text.max_tokens, config.text.max_tokens
    if there == here:
        return source

    def resized(tensors: Tensors) -> Tensors:
        return {
            name: _rows(tensor, here) if name.endswith("/positions") and len(tensor) == there
            else tensor
            for name, tensor in tensors.items()
        }  # fmt: skip

    networks = {name: getattr(source, name) for name in NETWORKS}
    return dataclasses.replace(
        source, **{name: resized(tensors) for name, tensors in networks.items() if tensors}
    )


def _rows(tensor: np.ndarray, count: int) -> np.ndarray:
    """The first rows, and zeros where there are too few."""
    more = max(count - len(tensor), 0)
    return np.pad(tensor[:count], [(0, more)] + [(0, 0)] * (tensor.ndim - 1))


def _renumber_stages(tensors: Tensors, there: Config, here: Config) -> Tensors:
    """D's parameters under the names that the same maps have in a network of another resolution."""
    stages = [build_models(config)[1].image_stages() for config in (there, here)]
    names: dict[str, str] = {}
    for old, new in zip(*(reversed(side) for side in stages), strict=False):
        free = list(new)
        for name in old:
            alike = [other for other in free if _kind(other) == _kind(name)]
            if alike:
                names[name] = alike[0]
                free.remove(alike[0])
    kept, moved = {}, {}
    for path, tensor in tensors.items():
        old_name = next((name for name in names if path.startswith(f"{name}/")), None)
        if old_name is None:
            kept[path] = tensor
        else:
            moved[names[old_name] + path.removeprefix(old_name)] = tensor
    return kept | moved


def _kind(name: str) -> str:
    """A name without its numbers: parts of one kind differ in these only."""
    return re.sub(r"\d+", "", name)


def _read_file(path: Path) -> Source:
    header, generator = read_params(path)
    return Source(
        name=str(path),
        config=config_of(path, header),
        generator=generator,
        average=generator,
        slow_average=generator,
        discriminator=read_discriminator(path, header),
    )


def _describe(taken: Taken) -> str:
    text = f"{taken.count:,} of {taken.total:,} parameters"
    if not taken.new:
        return text
    more = ", …" if len(taken.new) > 3 else ""
    return f"{text} (new: {', '.join(taken.new[:3])}{more})"


def _differences(there: Config, here: Config) -> list[str]:
    """Fields by which two configs differ in shapes, in words; the family alone if that differs."""
    pairs: dict[str, tuple[Any, Any]] = {}
    for field in SHAPING:
        get = operator.attrgetter(field)
        pairs[field] = get(there), get(here)
    found = [f"{field} {a} there, {b} here" for field, (a, b) in pairs.items() if a != b]
    return found[:1] if there.model.family != here.model.family else found
