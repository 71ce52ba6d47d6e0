"""One training run: its experiment, its loop, what it starts from, and what watches over it."""
