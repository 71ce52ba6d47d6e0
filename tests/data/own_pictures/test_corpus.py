"""A corpus of odd and broken files: nothing crashes, nothing valid is lost, the rest is named."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from flaxgan.config import DataConfig
from flaxgan.data import open_dataset
from flaxgan.data.own_pictures.convert import Target, convert_shards
from flaxgan.data.own_pictures.listing import list_pictures
from flaxgan.errors import UserError
from tests.data.own_pictures.corpus import CASES, IGNORED, IMPORTED, PNG, write

RESOLUTION = 16
INNER = "folder.png/inner.png"
REJECTED = [case for case in CASES.values() if case.outcome not in (IMPORTED, IGNORED)]


def test_there_are_many_cases_and_none_twice():
    assert len(CASES) >= 60
    assert len({case.report_name for case in CASES.values()}) == len(CASES)
    assert len({case.put for case in CASES.values() if "caption" not in case.name}) > 60


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Name -> (pixels, captions) of what was imported; name -> (reason, detail) of the others."""
    folder, data_dir = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("tfds")
    write(folder, CASES.values())
    config = DataConfig(path=str(folder), data_dir=str(data_dir), resolution=RESOLUTION)
    found = {}
    for split in ("train", "test"):
        dataset = open_dataset(config, split)
        for i in range(len(dataset)):
            name = dataset._source[i]["file"].decode()
            assert found.setdefault((name, split), (dataset.image(i), dataset.captions(i)))
    (report,) = data_dir.rglob("rejected.jsonl")
    rows = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    rejected = {row["name"]: (row["reason"], row["detail"]) for row in rows}
    assert len(rejected) == len(rows)
    yield found, rejected
    shutil.rmtree(folder)  # pytest would follow none of its loops, but names are long


def assert_all(check, cases):
    """Checks every case, then names all that failed and why."""
    failed = {}
    for case in cases:
        try:
            check(case)
        except (Exception, pytest.fail.Exception) as error:  # whatever it is, the case is named
            failed[case.name] = f"{type(error).__name__}: {error}"
    assert not failed, "\n".join(f"{name}: {why}" for name, why in failed.items())


def test_outcomes(imported):
    assert_all(lambda case: check_outcome(case, *imported), CASES.values())


def check_outcome(case, found, rejected):
    captions = [value[1] for (name, _), value in found.items() if name == case.report_name]
    pixels = [value[0] for (name, _), value in found.items() if name == case.report_name]
    if case.outcome == IMPORTED:
        assert case.report_name not in rejected, rejected[case.report_name]
        assert captions == [list(case.captions)]
        if case.colours is not None:
            quarter = RESOLUTION // 4
            centres = pixels[0][quarter :: 2 * quarter, quarter :: 2 * quarter].reshape(4, 3)
            error = np.abs(centres.astype(float) - np.rint(case.colours)).max()
            assert error <= case.tolerance, centres
        return
    assert not captions
    assert rejected.get(case.report_name, (IGNORED,))[0] == case.outcome
    assert "\n" not in "".join(rejected.get(case.report_name, ()))


def test_nothing_else_is_there(imported):
    found, rejected = imported
    expected = {case.report_name for case in CASES.values() if case.outcome == IMPORTED} | {INNER}
    assert sorted(name for name, _ in found) == sorted(expected)
    assert set(rejected) == {case.report_name for case in REJECTED}


def test_strict_stops_and_names_file_and_reason(tmp_path_factory):
    assert_all(lambda case: check_strict(case, tmp_path_factory.mktemp("strict")), REJECTED)


def check_strict(case, folder):
    write(folder, [case])
    Path(os.path.join(folder, "zz.png")).write_bytes(PNG)
    (folder / "zz.txt").write_text("good")
    listing = list_pictures(folder)
    target = Target(RESOLUTION)
    with pytest.raises(UserError) as error:
        convert_shards(listing.shards, folder / "out", target, strict=True)
    assert str(error.value).startswith(f"{case.report_name}: {case.outcome}")
    assert "leave out --data.strict" in str(error.value)
    convert_shards(listing.shards, folder / "out", target)
    with pytest.raises(UserError, match=r"leave out --data\.strict"):  # also when found before
        convert_shards(listing.shards, folder / "out", target, strict=True)


@pytest.mark.parametrize("before", [False, True], ids=["at first", "after an import"])
def test_strict_data_sets(tmp_path, before):
    folder = tmp_path / "pictures"
    folder.mkdir()
    good = [case for case in CASES.values() if case.outcome == IMPORTED]
    write(folder, [*itertools.islice(good, 12), CASES["JPEG cut in its scan"]])
    config = {"path": str(folder), "data_dir": str(tmp_path / "tfds"), "resolution": RESOLUTION}
    if before:
        open_dataset(DataConfig(**config), "train")
    with pytest.raises(UserError, match=r"\d+\.jpg: damaged picture .*leave out --data\.strict"):
        open_dataset(DataConfig(**config, strict=True), "train")
