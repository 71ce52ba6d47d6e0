"""What every metric asks of the features it is given."""

import numpy as np

from flaxgan.errors import UserError


def checked(*sets: np.ndarray, fewest: int) -> list[np.ndarray]:
    """The feature sets as arrays, if a metric can use them.

    Args:
      sets: each `[n, d]`.
      fewest: rows that each set must have.

    Raises:
      UserError: a set is not a matrix, is too small, holds NaN or inf, or has another width.
    """
    arrays = [np.asarray(features) for features in sets]
    for features in arrays:
        if features.ndim != 2:
            raise UserError(f"features must be [n, d], one row per picture, not {features.shape}")
        if len(features) < fewest:
            raise UserError(
                f"this metric needs at least {fewest} pictures per set, got {len(features)}"
            )
        if not np.isfinite(features).all():
            raise UserError("features hold NaN or inf: look for broken pictures or weights")
    if len(widths := {features.shape[1] for features in arrays}) > 1:
        raise UserError(f"features of widths {sorted(widths)}: both sets need the same network")
    return arrays
