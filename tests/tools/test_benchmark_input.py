"""The benchmark of import and feeding: figures of the right kind, from its own photographs."""

import numpy as np
import pytest
from PIL import Image

from flaxgan.errors import UserError
from tools import benchmark_input


def test_photos_are_of_the_size_and_bytes_of_photographs(tmp_path):
    benchmark_input.make_photos(tmp_path, 2)
    files = sorted(tmp_path.glob("*.jpg"))
    sizes, pixels = [], []
    for file in files:
        with Image.open(file) as image:
            sizes.append(image.size)
            pixels.append(np.asarray(image))
    assert sizes == [benchmark_input.PHOTO] * 2
    assert all(50_000 < file.stat().st_size < 500_000 for file in files)
    assert not np.array_equal(*pixels)


def test_it_measures_each_resolution(tmp_path, capsys):
    benchmark_input.make_photos(tmp_path, 140, size=(64, 48))
    benchmark_input.main([str(tmp_path), "--resolutions", "16", "32", "--seconds", "0.1"])
    head, *rows = capsys.readouterr().out.splitlines()[-3:]
    assert head.split() == ["resolution", "decode", "imported", "streamed", "in_memory"]
    for row, resolution in zip(rows, (16, 32), strict=True):
        values = [float(value.replace(",", "")) for value in row.split()]
        assert values[0] == resolution
        assert min(values[1:]) > 0
        assert values[4] > values[3]  # memory is faster than decoding


def test_rates_count_what_the_iterator_says():
    import itertools
    import time

    def counts():
        for _ in itertools.count():
            time.sleep(0.01)
            yield 5

    assert benchmark_input._rate(counts(), 0.2) == pytest.approx(500, rel=0.3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pictures", "5"], "--pictures must be at least 128, not 5"),
        (["--seconds", "0"], "--seconds must be > 0"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_bad_flags(flags, message):
    with pytest.raises(UserError, match=message):
        benchmark_input.main(flags)
