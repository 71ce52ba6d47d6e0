"""flaxgan beside PyTorch, on the same work in one run: `python benchmarks/versus_torch.py`."""
