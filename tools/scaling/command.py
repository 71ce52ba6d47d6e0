"""The tables of docs/scaling.md, as text in Markdown."""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from flaxgan.commands import cli
from flaxgan.config import Config
from flaxgan.errors import UserError
from tools.scaling import compiled
from tools.scaling.counting import Work
from tools.scaling.predict import (
    HARDWARE,
    Hardware,
    all_reduce_seconds,
    compute_seconds,
    efficiency,
)
from tools.scaling.subjects import Size, configs, size, state_bytes, step_work, with_blocks

DEVICES = (8, 64, 512)
CHECKED_DEVICES = 8
CASES = ((0.4, 0.0), (0.2, 0.0), (0.4, 1.0))  # (MFU, overlap) of an efficiency's three figures
LOCAL_BATCH = {"DF-GAN-256": 32, "GAT-B-256": 2, "GAT-L-256": 1}  # images, weak scaling
GLOBAL_BATCH = 512  # images, strong scaling
# blocks compiled in place of all, which would take long; (): the model as it is
COMPILED = {"DF-GAN-256": (), "GAT-B-256": (1, 2), "GAT-L-256": (1, 2)}
STATE_DEVICES = (1, 2, 4, 8, 64)
MEMORY = {"DF-GAN-256": (), "GAT-B-256": (1,)}
MEMORY_BATCH = 8  # images, over all devices


def cost_table(names: Iterable[str]) -> str:
    """Parameters, operations and bytes of each model."""
    rows = []
    for name in names:
        found, work = _size(name), _work(name)
        rows.append(
            (
                name,
                f"{found.g_params:,}",
                f"{found.d_params:,}",
                f"{work.flops / 1e9:,.1f}",
                f"{sum(found.gradient_bytes) / 1e6:,.2f}",
                f"{work.averaged_bytes / 1e6:,.2f}",
                f"{found.state_bytes / 1e9:,.2f}",
            )
        )
    return _table(
        "model",
        "G parameters",
        "D parameters",
        "GFLOP per image and step",
        "gradients, MB",
        "averaged per step, MB",
        "train state, GB",
        rows=rows,
    )


def hardware_table() -> str:
    """The figures that predictions start from."""
    rows = [
        (
            hardware.name,
            f"{hardware.peak / 1e12:,.1f}",
            f"{hardware.memory / 1e9:,.0f}",
            f"{hardware.link / 1e9:,.0f}",
            f"{hardware.island:,}",
            f"{hardware.network / 1e9:g}",
        )
        for hardware in HARDWARE
    ]
    return _table(
        "device and links",
        "bf16, TFLOP/s",
        "memory, GB",
        "link, GB/s one way",
        "devices in an island",
        "network, GB/s one way",
        rows=rows,
    )


def all_reduce_table() -> str:
    """Milliseconds to average all gradients, beside those of the arithmetic for one image."""

    def row(name: str, hardware: Hardware) -> list[str]:
        one = 1e3 * compute_seconds(_work(name).flops, hardware, CASES[0][0])
        times = [
            1e3 * sum(all_reduce_seconds(x, count, hardware) for x in _size(name).gradient_bytes)
            for count in DEVICES
        ]
        return [f"{x:,.1f}" for x in (one, *times)]

    head = (f"one image at {CASES[0][0]:.0%} of the peak, ms", *_devices("{} devices, ms"))
    return _by_hardware(head, row)


def weak_table() -> str:
    """Efficiency where every device has the same batch."""

    def row(name: str, hardware: Hardware) -> list[str]:
        local = LOCAL_BATCH[name]
        return [str(local), *(_efficiencies(name, local, n, hardware) for n in DEVICES)]

    return _by_hardware(("images per device", *_devices("{} devices")), row)


def strong_table() -> str:
    """Efficiency where all devices share one batch."""

    def row(name: str, hardware: Hardware) -> list[str]:
        return [_efficiencies(name, GLOBAL_BATCH // n, n, hardware) for n in DEVICES]

    return _by_hardware(
        tuple(f"{n} devices, images each: {GLOBAL_BATCH // n}" for n in DEVICES), row
    )


def compiled_table(mode: str) -> str:
    """XLA's counts of the compiled step, one image on each device, against those of this package.

    Args:
      mode: see `parallel.compile_step`.
    """
    rows = []
    for name, config in _reduced(COMPILED):
        program = compiled.compile_for(config, CHECKED_DEVICES, mode, CHECKED_DEVICES)
        counted, found = step_work(config).flops, compiled.flops(program)
        collectives = compiled.collective_bytes(program.as_text())
        rows.append(
            (
                name,
                f"{counted / 1e9:,.2f}",
                f"{found / 1e9:,.2f}",
                f"{found / counted:.4f}",
                f"{sum(size(config).gradient_bytes):,}",
                ", ".join(f"{kind} {n:,}" for kind, n in sorted(collectives.items())),
                f"{compiled.memory(program).temporaries / 1e9:.2f}",
            )
        )
    return _table(
        "model",
        "counted, GFLOP per device",
        "XLA, GFLOP per device",
        "ratio",
        "gradients, bytes",
        "XLA's collectives, bytes",
        "temporaries, GB",
        rows=rows,
    )


def memory_table() -> str:
    """XLA's plan of memory on one device for one global batch, with the state whole and spread."""
    rows = []
    for name, config in _reduced(MEMORY):
        for count in (1, 2, 4, 8):
            whole, spread = (
                compiled.memory_per_device(config, count, mode, MEMORY_BATCH)
                for mode in ("shard_map", "jit")
            )
            pairs = [
                (getattr(whole, field), getattr(spread, field))
                for field in ("arguments", "temporaries", "total")
            ]
            rows.append((name, str(count), *(f"{a / 1e9:.2f} / {b / 1e9:.2f}" for a, b in pairs)))
    return _table(
        "model", "devices", "state and batch, GB", "temporaries, GB", "in all, GB", rows=rows
    )


def state_table() -> str:
    """Bytes of the train state on each device where mode "jit" spreads it."""
    rows = []
    for name, config in configs().items():
        cells = [f"{state_bytes(config, count) / 1e9:.3f}" for count in STATE_DEVICES]
        rows.append((name, *cells))
    return _table("model", *(f"{count} devices" for count in STATE_DEVICES), rows=rows)


def _reduced(blocks: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Config]]:
    """Models by name, each as it is or with few blocks, which stand for the rest."""
    for name, numbers in blocks.items():
        config = configs()[name]
        if not numbers:
            yield name, config
        for number in numbers:
            yield f"{name}, {number} of {config.model.g_blocks} blocks", with_blocks(config, number)


def _efficiencies(name: str, local_batch: int, count: int, hardware: Hardware) -> str:
    flops, gradients = local_batch * _work(name).flops, _size(name).gradient_bytes
    found = (
        efficiency(flops, gradients, count, hardware, mfu=mfu, overlap=overlap)
        for mfu, overlap in CASES
    )
    return " / ".join(f"{x:.0%}" for x in found)


@functools.cache
def _work(name: str) -> Work:
    return step_work(configs()[name])


@functools.cache
def _size(name: str) -> Size:
    return size(configs()[name])


def _devices(text: str) -> tuple[str, ...]:
    return tuple(text.format(n) for n in DEVICES)


def _by_hardware(head: Sequence[str], row: Callable[[str, Hardware], list[str]]) -> str:
    rows = [
        (name, hardware.name, *row(name, hardware)) for name in configs() for hardware in HARDWARE
    ]
    return _table("model", "device and links", *head, rows=rows)


def _table(*head: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "cost": lambda: cost_table(configs()),
    "hardware": hardware_table,
    "all_reduce": all_reduce_table,
    "weak": weak_table,
    "strong": strong_table,
    "state": state_table,
    "compiled": lambda: compiled_table("shard_map"),
    "memory": memory_table,
}
QUICK = (
    "cost",
    "hardware",
    "all_reduce",
    "weak",
    "strong",
    "state",
)  # the others compile for minutes


def replace_table(text: str, name: str, table: str) -> str:
    """Puts a table between the marks `<!-- name -->` and `<!-- /name -->`.

    Raises:
      UserError: the marks are not there, once.
    """
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, count = re.subn(
        pattern, lambda match: f"{match[1]}{table}\n{match[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise UserError(f"<!-- {name} --> … <!-- /{name} --> must be there once, not {count} times")
    return text


def main(argv: Sequence[str]) -> None:
    """The command line: [--tables NAME,NAME] [--write FILE]."""
    parser = cli.Parser(
        prog="python -m tools.scaling", description="Tables about training on many devices."
    )
    parser.add_argument(
        "--tables",
        default=",".join(QUICK),
        help=f"of {', '.join(TABLES)}; the last two compile for minutes",
    )
    parser.add_argument("--write", type=Path, help="file whose marked tables are replaced")
    args = parser.parse_args(argv)
    names = args.tables.split(",")
    for name in names:
        if name not in TABLES:
            raise UserError(f"--tables must be of {', '.join(TABLES)}, not {name!r}")
    for name in names:
        table = TABLES[name]()
        if args.write is None:
            print(f"{name}\n\n{table}\n", flush=True)
            continue
        try:
            text = args.write.read_text(encoding="utf-8")
            args.write.write_text(replace_table(text, name, table), encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {args.write}: {error.strerror}") from error
