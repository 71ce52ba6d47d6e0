"""Mutated input of every kind, and what watches while the library reads it: see fuzz.py."""
