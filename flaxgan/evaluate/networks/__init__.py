"""Frozen networks that judge pictures, each in Flax, with a reader for its published weights."""
