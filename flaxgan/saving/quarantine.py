"""Broken checkpoints are renamed, never deleted: `<step>` becomes `broken-<step>`."""

from pathlib import Path

import orbax.checkpoint as ocp

from flaxgan.errors import first_line
from flaxgan.saving.event_loop import ignore_late_callbacks
from flaxgan.saving.finding import Report
from flaxgan.saving.meta import read_json_object


def quarantine(folder: Path) -> Path:
    """Renames `<step>` to `broken-<step>`, with a number where that is taken."""
    aside = folder.with_name(f"broken-{folder.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"broken-{folder.name}-{number}")
    folder.rename(aside)
    return aside


def quarantine_unreadable_json(folder: Path, report: Report) -> int:
    """Renames checkpoints whose JSON cannot be read: one of them keeps Orbax from opening the rest.

    Returns:
      Number of checkpoints renamed.
    """
    count = 0
    for step in sorted(p for p in folder.glob("*") if p.name.isdecimal()):
        for path in (step / "meta" / "metadata", step / "metrics" / "metrics"):
            try:
                if path.exists():
                    read_json_object(path)
            except (OSError, ValueError) as error:
                aside = quarantine(step)
                report(
                    f"checkpoint {step} is not intact: {path.name}: {error}; moved to {aside.name}"
                )
                count += 1
                break
    return count


def quarantine_unreadable_metadata(folder: Path, report: Report) -> int:
    """Renames checkpoints whose own Orbax metadata cannot be read.

    Returns:
      Number of checkpoints renamed.
    """
    count = 0
    for step in sorted(p for p in folder.glob("*") if p.name.isdecimal() and p.is_dir()):
        try:
            reader = ocp.Checkpointer(ocp.CompositeCheckpointHandler())
            with reader, ignore_late_callbacks():
                reader.metadata(step.absolute())
        except Exception as error:  # Orbax raises many kinds for files of another form
            aside = quarantine(step)
            report(f"checkpoint {step} is not intact: {first_line(error)}; moved to {aside.name}")
            count += 1
    return count
