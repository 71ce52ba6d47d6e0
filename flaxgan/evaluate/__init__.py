"""Evaluators: each reads the averaged generator and yields (name, value).

`METRICS` is the table of what `eval.metrics` may name.
"""

from flaxgan.evaluate.metric import METRICS, Metric, Task

__all__ = ["METRICS", "Metric", "Task"]
