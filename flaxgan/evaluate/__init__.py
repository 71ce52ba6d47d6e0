"""Evaluators: each reads the averaged generator and yields (name, value)."""
