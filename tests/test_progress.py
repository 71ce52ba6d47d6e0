import io

from rich.console import Console

from flaxgan import progress


def test_a_name_is_shown_as_it_is(monkeypatch):
    """In a bar, too, where rich would read markup; on any terminal, or rich draws no bar."""
    for name, value in (("TERM", "xterm"), ("TTY_INTERACTIVE", "1"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    output = io.StringIO()
    terminal = Console(file=output, force_terminal=True, width=120)
    monkeypatch.setattr(progress, "Console", lambda: terminal)
    with progress.progress_bar("decoding my [gamma 1]/[/b] :cat:", 2) as advance:
        advance(1)
    assert "decoding my [gamma 1]/[/b] :cat: " in output.getvalue()


def test_a_log_gets_a_line_every_ten_seconds(monkeypatch, capsys):
    times = iter([100.0, 105.0, 110.0, 111.0, 120.5])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    with progress.progress_bar("drawing", 2_500) as advance:
        for _ in range(4):
            advance(500)
    assert capsys.readouterr().out == "drawing: 1,000 of 2,500\ndrawing: 2,000 of 2,500\n"


def test_a_short_job_says_nothing(capsys):
    with progress.progress_bar("drawing", 2) as advance:
        advance(1)
        advance(1)
    assert capsys.readouterr().out == ""
