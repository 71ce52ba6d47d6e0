"""Every page of documentation: what it names exists, its links lead somewhere, its examples run."""

import ast
import contextlib
import dataclasses
import importlib
import re
import shlex
import sys
import tomllib
import typing
from pathlib import Path

import pytest

from flaxgan.commands.main import COMMANDS
from flaxgan.config import Config
from flaxgan.registry import OWNERS, table_of

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "flaxgan/weights/*.md")
    for path in ROOT.glob(pattern)
)
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
MOST_CHARACTERS = 120  # of a line, outside tables, code and addresses
SECTIONS = tuple(
    name for name, kind in typing.get_type_hints(Config).items() if dataclasses.is_dataclass(kind)
)
PLACEHOLDERS = {"--any.field"}
ROOMS = "flaxgan|configs|docs|tests|tools|benchmarks"


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def run_block(page: str, code: str) -> dict[str, typing.Any]:
    """Runs a block; returns the names that it defined."""
    names: dict[str, typing.Any] = {}
    exec(compile(code, page, "exec"), names)
    return names


def code_in(text: str) -> list[str]:
    """Fenced blocks, and spans in backticks outside of them."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return fenced + re.findall(r"`([^`\n]+)`", without_blocks(text))


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE)


def commands_in(text: str) -> list[list[str]]:
    """Command lines of bash blocks and of spans in backticks, as words."""
    lines = [line for block in blocks(text, "bash") for line in joined(block).splitlines()]
    lines += re.findall(r"`([^`\n]+)`", without_blocks(text))
    found = []
    for line in lines:
        for part in re.split(r"&&|;", line.split(" #")[0]):
            with contextlib.suppress(ValueError):  # an unpaired quotation mark: no command
                found.append(shlex.split(part))
    return [words for words in found if words]


def joined(block: str) -> str:
    return block.replace("\\\n", " ")


def config_flags() -> set[str]:
    def walk(cls, prefix):
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):
            kind = hints[field.name]
            if dataclasses.is_dataclass(kind):
                yield from walk(kind, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name}"

    return set(walk(Config, ""))


def flags_written_in(*paths: Path) -> set[str]:
    """String constants such as "--num" in Python files."""
    constants = {
        node.value
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in constants if re.fullmatch("--[a-z][a-z0-9-]*", text)}


ENTRY_POINT_GROUPS = {table_of(field).group for field in OWNERS}
FIELDS = config_flags()
FIELD_FLAGS = {"--" + name.replace("_", "-") for name in FIELDS}
COMMAND_FLAGS = flags_written_in(
    *ROOT.glob("*.py"), *ROOT.glob("flaxgan/**/*.py"), *ROOT.glob("tools/**/*.py")
)
TEST_FLAGS = flags_written_in(*ROOT.glob("tests/robustness/*.py"))


@pytest.mark.parametrize("page", TEXTS)
def test_lines_are_short(page):
    long, in_code = [], False
    for number, line in enumerate(TEXTS[page].splitlines(), 1):
        in_code ^= line.startswith("```")
        if in_code or line.lstrip().startswith("|"):
            continue
        if len(re.sub(r"https?://[^\s)]+", "", line)) > MOST_CHARACTERS:
            long.append(number)
    assert not long


@pytest.mark.parametrize("page", TEXTS)
def test_every_path_exists(page):
    paths = {
        path.rstrip(".")
        for code in code_in(TEXTS[page])
        for path in re.findall(rf"(?<![\w/.~-])(?:{ROOMS})/[\w./-]*", code)
    }
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", TEXTS)
def test_every_python_file_exists(page):
    """Files that are named without their folder."""
    known = {path.name for path in ROOT.glob("*.py")}
    for room in ROOMS.split("|"):
        known |= {path.name for path in (ROOT / room).rglob("*.py")}
    files = {
        name
        for code in code_in(TEXTS[page])
        for name in re.findall(r"(?<![\w.])([a-z]\w*\.py)\b", code)
    }
    files -= set(re.findall(r"^# (\w+\.py)$", TEXTS[page], re.MULTILINE))  # examples bring theirs
    assert files <= known


def test_selected_tests_exist():
    """`test_x.py -k word` selects something."""
    tests = {
        path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py")
    }
    found = 0
    for text in TEXTS.values():
        for name, word in re.findall(r"(test_\w+\.py)(?: -m slow)? -k (\w+)", text):
            found += 1
            assert re.search(rf"^def test_\w*{word}", tests[name], re.MULTILINE), (name, word)
    assert found > 10


@pytest.mark.parametrize("page", TEXTS)
def test_every_flag_exists(page):
    flags = {
        flag
        for code in code_in(TEXTS[page])
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*(?![\w-])", code)
        if not flag.startswith("--xla")
    }
    flags -= {"--check", "--directory"}  # of ruff, and of http.server
    assert flags - PLACEHOLDERS <= FIELD_FLAGS | COMMAND_FLAGS | TEST_FLAGS


def test_every_flag_belongs_to_its_command(monkeypatch, capsys):
    """What follows a command is listed by its --help."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["flaxgan"]
    module, function = entry.split(":")
    main = getattr(importlib.import_module(module), function)
    used: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for words in commands_in(text):
            name = command_of(words)
            if name is not None:
                flags = {word.split("=")[0] for word in words if word.startswith("--")}
                used.setdefault(name, set()).update(flags - PLACEHOLDERS)
    assert set(COMMANDS) <= set(used)
    used = {name: flags - {"--plugin"} for name, flags in used.items()}  # any command has it
    for name, flags in used.items():
        if name.startswith("tools."):
            parts = [*ROOT.glob(name.replace(".", "/") + ".py")]
            parts += ROOT.glob(name.replace(".", "/") + "/*.py")
            # some read a config and its fields, or choose a model, as the commands do
            assert flags <= flags_written_in(*parts) | FIELD_FLAGS | COMMAND_FLAGS, name
        elif name in ("train", "benchmark"):  # any field, and what several processes need
            assert flags <= FIELD_FLAGS | COMMAND_FLAGS, name
        else:
            monkeypatch.setattr(sys, "argv", ["flaxgan", name, "--help"])
            with contextlib.suppress(SystemExit):
                main()
            listed = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
            assert flags <= listed, name


def command_of(words: list[str]) -> str | None:
    """Which of our commands a line calls: "train", "tools.scaling"; None: none of them."""
    if words[0] == "srun":
        words = words[1:]
    match words:
        case ["flaxgan", name, *_] if re.fullmatch("[a-z]+", name):
            return name
        case ["python", "train.py" | "sample.py" as script, *_]:
            return script.removesuffix(".py")
        case ["python", "-m", module, *_] if module.startswith("tools."):
            return module
    return None


@pytest.mark.parametrize("page", TEXTS)
def test_every_field_exists(page):
    pattern = rf"(?<![\w.-])(?:{'|'.join(SECTIONS)})\.[a-z][a-z0-9_]*\b(?!\()"
    names = {name for code in code_in(TEXTS[page]) for name in re.findall(pattern, code)}
    files = {name for name in names if name.endswith((".py", ".safetensors"))}
    assert names - files <= FIELDS


@pytest.mark.parametrize("page", TEXTS)
def test_every_name_of_the_package_exists(page):
    """Dotted names such as `flaxgan.losses.ADVERSARIAL`."""
    names = {
        name
        for code in code_in(TEXTS[page])
        for name in re.findall(r"(?<![\w./-])(?:flaxgan|tools|tests)(?:\.[A-Za-z_]\w*)+", code)
        if not name.endswith((".py", ".md"))
    }
    for name in sorted(names - ENTRY_POINT_GROUPS):
        assert resolves(name), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something that one has."""
    parts = name.split(".")
    found = importlib.import_module(parts[0])
    for i, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:i]))
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True


def headings(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in anchors:
            number += 1
        anchors.add(name)
    return anchors


def links(page: str) -> list[tuple[str, str]]:
    """(target as path from the root, anchor) of every relative link; images too."""
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(TEXTS[page])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        here = ROOT / page
        whole = (here.parent / path).resolve() if path else here
        found.append((whole.relative_to(ROOT).as_posix(), anchor))
    return found


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page):
    for target, anchor in links(page):
        assert (ROOT / target).is_file(), target
        if anchor:
            assert anchor in headings(TEXTS[target]), f"{target}#{anchor}"


def test_two_clicks_from_the_readme_lead_to_every_page():
    first = {target for target, _ in links("README.md")}
    second = {target for page in first & set(TEXTS) for target, _ in links(page)}
    assert set(TEXTS) <= {"README.md"} | first | second


def test_the_index_has_every_page():
    listed = {target for target, _ in links("docs/README.md")}
    assert set(TEXTS) <= listed | {"docs/README.md"}


LIBRARY = blocks(TEXTS["docs/library.md"], "python")


# in an example: another network, which takes a fifth of the time to compile
DFGAN = 'family="dfgan", z_dim=64, g_channels=8, d_channels=8'
MLP = 'family="mlp", z_dim=64'


@pytest.mark.parametrize("number", range(len(LIBRARY)))
def test_the_library_examples_run(number, tmp_path, monkeypatch, capsys):
    code = LIBRARY[number].replace(DFGAN, MLP)
    assert (code != LIBRARY[number]) == ("make_train_step" in code)
    run_example(code, tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_the_training_loop_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (code,) = (code for code in LIBRARY if "make_train_step" in code)
    run_example(code, tmp_path, monkeypatch, capsys)


def run_example(code, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    names = run_block("docs/library.md", code)
    if "flaxgan.train(" in code:
        assert list((tmp_path / "runs" / "trial" / "checkpoints").iterdir())
    if "make_train_step" in code:
        assert names["images"].shape == (8, 32, 32, 3)
        assert names["images"].dtype == "uint8"
        assert int(names["state"].step) == 3
        assert capsys.readouterr().out.count("d_loss") == 3


def test_the_library_page_draws_trains_and_steps():
    for call in ("flaxgan.load(", "flaxgan.train(", "flaxgan.make_train_step("):
        assert sum(call in code for code in LIBRARY) == 1, call
