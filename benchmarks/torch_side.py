"""PyTorch's side: `python -m benchmarks.torch_side WORK`."""

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import works
from benchmarks.peers import bundled, dfgan, mlp, r3gan
from benchmarks.peers.training import Training
from benchmarks.worker import serve
from flaxgan.config import Config

ROWS = 512  # pictures and captions in memory that batches are taken from
TRIALS = 7  # calls with each number of threads
RNG = np.random.default_rng(0)


def main(work: str) -> None:
    """Warms up, then answers: see `benchmarks.worker`."""
    torch.manual_seed(0)
    if work in works.SAMPLING:
        count = works.SAMPLING[work]
        draw = bundled.load(works.MODEL)
        words, mask = draw.encode([works.PROMPT] * count)
        call = functools.partial(draw.pictures, words, mask)
        serve(call, count, lambda: None, threads=best_threads(call))
        return
    config = works.config_of(work)
    step = {"dfgan64": dfgan_step, "flagship": flagship_step, "mlp28": mlp_step}[work](config)
    serve(step, config.train.batch_size, lambda: None, threads=best_threads(step))


def best_threads(call: Callable[[], Any]) -> int:
    """Sets the number of threads with which `call` is fastest now: one, or one for each core.

    OpenMP's threads wait for one another in a loop. Where other processes want the cores, two were
    ten times slower than one, and used more CPU time: to take as many as there are cores would
    compare flaxgan with that.
    """
    seconds = {}
    for count in sorted({1, len(os.sched_getaffinity(0))}):
        torch.set_num_threads(count)
        times = []
        for _ in range(TRIALS + 2):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        seconds[count] = statistics.median(times[2:])
    best = min(seconds, key=seconds.__getitem__)
    torch.set_num_threads(best)
    return best


def images_of(config: Config) -> Tensor:
    """`[ROWS, h, w, c]` uint8."""
    side = config.data.resolution
    size = (ROWS, side, side, config.data.channels)
    return torch.from_numpy(RNG.integers(0, 256, size, dtype=np.uint8))


def to_float(images: Tensor) -> Tensor:
    """uint8 NHWC to float NCHW in [-1, 1], channels_last."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def rows(count: int) -> Tensor:
    """Random rows of what is in memory."""
    return torch.from_numpy(RNG.integers(0, ROWS, count))


def _training(g: torch.nn.Module, d: torch.nn.Module, config: Config) -> Training:
    return Training(
        g,
        d,
        g_lr=config.g_opt.lr,
        d_lr=config.d_opt.lr,
        betas=(config.g_opt.b1, config.g_opt.b2),
        averages=1 + (config.train.ema_slow_halflife_kimg > 0),
    )


def mlp_step(config: Config) -> Callable[[], None]:
    """The MLP pair."""
    pixels, b, z = config.data.resolution**2, config.train.batch_size, config.model.z_dim
    training = _training(mlp.Generator(z, pixels), mlp.Discriminator(pixels), config)
    g, d, images = training.g, training.d, images_of(config)

    def step() -> None:
        real = to_float(images[rows(b)]).flatten(1)
        with torch.no_grad():
            fake = g(torch.randn(b, z))
        training.step(
            lambda: mlp.d_loss(d, real, fake), lambda: mlp.g_loss(d, g(torch.randn(b, z)))
        )

    return step


def dfgan_step(config: Config) -> Callable[[], None]:
    """DF-GAN with sentence vectors."""
    side, b, z = config.data.resolution, config.train.batch_size, config.model.z_dim
    sentence = works.SENTENCE_DIM
    g = dfgan.Generator(side, config.model.g_channels, z, sentence, config.model.output)
    training = _training(g, dfgan.Discriminator(side, config.model.d_channels, sentence), config)
    d, images, sentences = training.d, images_of(config), torch.randn(ROWS, sentence)

    def step() -> None:
        at = rows(b)
        real, own, wrong = to_float(images[at]), sentences[at], sentences[rows(b)]
        with torch.no_grad():
            fake = g(torch.randn(b, z), own)
        training.step(
            lambda: dfgan.d_loss(d, real, fake, own, wrong),
            lambda: dfgan.g_loss(d, g(torch.randn(b, z), own), own),
        )

    return step


def flagship_step(config: Config) -> Callable[[], None]:
    """R3GAN for text with all its losses."""
    b, z, loss = config.train.batch_size, config.model.z_dim, config.loss
    sizes = bundled.sizes_of(config)
    training = _training(r3gan.Generator(sizes), r3gan.Discriminator(sizes), config)
    g, d, images = training.g, training.d, images_of(config)
    count = b * (1 + loss.contrastive_negatives)
    lengths = np.clip(RNG.normal(23, 7, ROWS), 4, sizes.max_tokens).astype(int)
    masks = torch.from_numpy(np.arange(sizes.max_tokens) < lengths[:, None])
    tokens = torch.from_numpy(RNG.integers(0, 4096, masks.shape))
    table = torch.randn(4096, sizes.word_dim)
    weights = (loss.contrastive_g_weight, loss.imle_weight)

    def step() -> None:
        at = rows(count)
        real = to_float(images[at[:b]])
        captions = r3gan.Captions(table[tokens[at]], masks[at], at)
        with torch.no_grad():
            fake = g(torch.randn(b, z), captions.words[:b], captions.mask[:b])
        noises = torch.randn(1 + loss.imle_noises, b, z)
        training.step(
            functools.partial(r3gan.d_loss, d, real, fake, captions, loss.gamma),
            functools.partial(r3gan.g_loss, g, d, real, noises[0], noises[1:], captions, weights),
        )

    return step


if __name__ == "__main__":
    main(sys.argv[1])
