"""PyTorch, start to picture: `python -m benchmarks.torch_start MODEL TEXT PNG`."""

import sys
from pathlib import Path

import torch
from PIL import Image

from benchmarks.peers import bundled

if __name__ == "__main__":
    model, prompt, out = sys.argv[1:]
    torch.set_num_threads(1)  # one picture: more wait for one another, see `torch_side`
    draw = bundled.load(Path(model))
    Image.fromarray(draw.pictures(*draw.encode([prompt]))[0]).save(out)
