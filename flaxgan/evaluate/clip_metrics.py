"""How well pictures fit their captions, and CMMD: functions of CLIP's vectors, in float64."""

import numpy as np

from flaxgan.errors import UserError


def clip_score(image_emb: np.ndarray, text_emb: np.ndarray) -> np.ndarray:
    """100 max(cos, 0) of each picture and its caption; report the mean.

    Args:
      image_emb, text_emb: `[n, d]`, row i of both belongs together; any length.

    Returns:
      `[n]` in [0, 100].

    Reference: Hessel et al. 2021 (CLIPScore), eq. 1, with w = 100 as in torchmetrics, where theirs
      is 2.5, and without their "A photo depicts" before the captions. torchmetrics takes the
      maximum after the mean, which is the same unless a cosine is negative.
    """
    x, y = _unit(image_emb), _unit(text_emb)
    _check_pairs(x, y)
    return 100.0 * np.maximum(np.sum(x * y, axis=1), 0.0)


def r_precision(
    image_emb: np.ndarray, text_emb: np.ndarray, *, candidates: int = 100, seed: int = 0
) -> tuple[float, float]:
    """How often a picture is nearer to its own caption than to candidates - 1 others.

    The others are drawn per picture, without repetition, from the captions that differ from its
    own: captions are the same where their vectors are (`Clip.encode_text` gives equal captions
    equal bits). A tie of k counts 1 / k, so that vectors that know nothing score 1 / candidates.

    Args:
      image_emb, text_emb: `[n, d]`, row i of both belongs together; any length.
      candidates: captions per picture, its own included.
      seed: of the draws.

    Returns:
      Mean in [0, 1], and its standard error over pictures.

    Raises:
      UserError: fewer distinct captions than candidates.

    Reference: Xu et al. 2018 (AttnGAN), section 4, R = 1, 100 candidates; Park et al. 2021 with
      CLIP's vectors.
    """
    x, y = _unit(image_emb), _unit(text_emb)
    _check_pairs(x, y)
    number: dict[bytes, int] = {}  # distinct captions in order of appearance
    rows = np.ascontiguousarray(text_emb)
    own = np.array([number.setdefault(row.tobytes(), len(number)) for row in rows], int)
    if not 2 <= candidates <= len(number):
        raise UserError(
            f"r_precision with {candidates} candidates needs at least {max(candidates, 2)} "
            f"distinct captions, not {len(number)}: evaluate more, or lower candidates"
        )
    distinct = y[np.unique(own, return_index=True)[1]]
    rng = np.random.default_rng(seed)
    hits = np.zeros(len(x))
    for i, (image, mine) in enumerate(zip(x, own, strict=True)):
        others = rng.choice(len(distinct) - 1, candidates - 1, replace=False)
        others += others >= mine  # all but its own
        cosines = np.sum(distinct[np.append(others, mine)] * image, axis=1)
        if cosines[-1] >= cosines.max():
            hits[i] = 1.0 / np.sum(cosines == cosines[-1])
    return float(hits.mean()), float(hits.std(ddof=1) / np.sqrt(len(hits)))


def cmmd(
    x: np.ndarray, y: np.ndarray, *, sigma: float = 10.0, scale: float = 1000.0, chunk: int = 256
) -> float:
    """scale * MMD^2 of two sets under the kernel exp(-|a - b|^2 / (2 sigma^2)).

    The biased estimator, with each vector's kernel with itself: 0 for equal sets and never
    negative. Numbers of papers are those of CLIP ViT-L/14 at 336 pixels.

    Args:
      x, y: `[n1, d]` and `[n2, d]`, unit length.
      sigma: of the kernel.
      scale: of the result.
      chunk: rows of a kernel matrix at once.

    Returns:
      The distance.

    Reference: Jayasumana et al. 2024 (CMMD), eq. 4 as their code computes it; Gretton et al. 2012,
      eq. 5.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)

    def mean_loss(a: np.ndarray, b: np.ndarray) -> float:
        """Mean of 1 - kernel, which keeps the digits that differ: the kernel is near 1."""
        squares, total = np.sum(b**2, axis=1), 0.0
        for start in range(0, len(a), chunk):
            rows = a[start : start + chunk]
            distances = np.sum(rows**2, axis=1)[:, None] + squares - 2.0 * rows @ b.T
            total -= np.sum(np.expm1(-np.maximum(distances, 0.0) / (2.0 * sigma**2)))
        return total / (len(a) * len(b))

    return float(scale * (2.0 * mean_loss(x, y) - mean_loss(x, x) - mean_loss(y, y)))


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows in float64, scaled to unit length."""
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _check_pairs(x: np.ndarray, y: np.ndarray) -> None:
    if x.shape != y.shape:
        raise ValueError(f"vectors must be in pairs, not {x.shape} and {y.shape}")
