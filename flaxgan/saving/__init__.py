"""What is kept on disk: checkpoints, single-file networks, digests, and the folder of a run."""
