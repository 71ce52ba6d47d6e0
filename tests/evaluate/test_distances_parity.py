"""The distances against the packages that papers quote, on the same features.

`-s` prints the table: what was compared, our value, theirs, absolute and relative difference.
"""

import warnings

import numpy as np
import pytest
import scipy.linalg

from flaxgan.evaluate.frechet import Moments, frechet_distance, frechet_distance_moments
from flaxgan.evaluate.kernel import kid, mmd2_unbiased
from flaxgan.evaluate.manifold import nearest_distance, prdc

pytestmark = pytest.mark.parity


@pytest.fixture(autouse=True, scope="module")
def references(torch):
    """They import torchvision."""


def compare(name, ours, theirs, rel):
    gap = abs(ours - theirs)
    print(f"| {name} | {ours:.10g} | {theirs:.10g} | {gap:.1e} | {gap / abs(theirs):.1e} |")
    assert ours == pytest.approx(theirs, rel=rel)


def network_like(count, dim, seed, shift=0.0):
    """ReLU features, float32: positive, sparse, correlated, with a falling spectrum."""
    mix = np.random.default_rng(99).normal(size=(dim, dim)) * np.logspace(0, -1.5, dim)[:, None]
    draw = np.random.default_rng(seed).normal(size=(count, dim)) + shift
    return np.maximum(0.4 + draw @ mix / dim**0.5, 0).astype(np.float32)


def by_moments(x1, x2):
    moments = []
    for x in (x1, x2):
        m = Moments.empty(x.shape[1])
        for start in range(0, len(x), 500):
            m = m.update(x[start : start + 500])
        moments.append(m)
    return frechet_distance_moments(*moments)


@pytest.mark.parametrize(("count", "dim"), [(3000, 64), (2000, 512), (6000, 2048)])
def test_frechet(count, dim):
    """Full rank, where the square root of a matrix is stable."""
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    x1, x2 = network_like(count, dim, 0), network_like(count, dim, 1, shift=0.1)
    statistics = []
    for x in (x1, x2):  # as pytorch-fid: its features are collected in float64
        x = x.astype(np.float64)
        statistics += [x.mean(axis=0), np.cov(x, rowvar=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its sqrtm(disp=False)
        theirs = fid_score.calculate_frechet_distance(*statistics)
    compare(
        f"Fréchet, features, {count} x {dim}: pytorch-fid", frechet_distance(x1, x2), theirs, 1e-6
    )
    compare(f"Fréchet, moments, {count} x {dim}: pytorch-fid", by_moments(x1, x2), theirs, 1e-6)
    if dim <= 512:
        root = scipy.linalg.sqrtm(statistics[1] @ statistics[3])
        gap = statistics[0] - statistics[2]
        literal = gap @ gap + np.trace(statistics[1] + statistics[3] - 2 * root.real)
        compare(f"Fréchet, {count} x {dim}: SciPy sqrtm", frechet_distance(x1, x2), literal, 1e-6)


def test_frechet_of_torchmetrics(torch):
    fid = pytest.importorskip("torchmetrics.image.fid")
    x1, x2 = network_like(800, 128, 2), network_like(700, 128, 3, shift=0.1)
    parts = []
    for x in (x1, x2):
        x = x.astype(np.float64)
        parts += [torch.tensor(x.mean(axis=0)), torch.tensor(np.cov(x, rowvar=False))]
    theirs = fid._compute_fid(*parts).item()
    compare("Fréchet, 800 x 128: torchmetrics", by_moments(x1, x2), theirs, 1e-6)


@pytest.mark.parametrize(("count", "dim"), [(500, 64), (1500, 1280)])
def test_kid_of_torch_fidelity(torch, count, dim):
    """Its function draws the same subsets from the same seed."""
    theirs = pytest.importorskip("torch_fidelity.metric_kid")
    x1, x2 = network_like(count, dim, 4), network_like(count + 30, dim, 5, shift=0.1)
    expected = theirs.kid_features_to_metric(
        *(torch.tensor(x.astype(np.float64)) for x in (x1, x2)),
        kid_subsets=20,
        kid_subset_size=400,
        rng_seed=2020,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        verbose=False,
    )
    result = kid(x1, x2, subsets=20, subset_size=400, seed=2020)
    name = f"KID {{}}, {count} x {dim}, 20 x 400: torch-fidelity"
    mean, std = expected[theirs.KEY_METRIC_KID_MEAN], expected[theirs.KEY_METRIC_KID_STD]
    compare(name.format("mean"), result.mean, mean, 1e-9)
    compare(name.format("std"), result.std, std, 1e-9)


def test_mmd_of_torchmetrics(torch):
    theirs = pytest.importorskip("torchmetrics.image.kid")
    x1, x2 = network_like(600, 256, 6), network_like(600, 256, 7, shift=0.1)
    expected = theirs.poly_mmd(*(torch.tensor(x.astype(np.float64)) for x in (x1, x2))).item()
    compare("MMD^2, 600 x 256: torchmetrics", mmd2_unbiased(x1, x2, chunk=100), expected, 1e-9)


@pytest.mark.parametrize(("count", "dim", "k"), [(500, 64, 5), (800, 1280, 5), (700, 8, 3)])
def test_prdc(count, dim, k):
    """Counts of pictures: equal, not close."""
    reference = pytest.importorskip("prdc")
    real = network_like(count, dim, 8)
    fake = (0.9 * network_like(count - 100, dim, 9, shift=0.05)).astype(np.float32)
    fake[:20] = real[:20] * 1.001  # near copies
    expected = reference.compute_prdc(real, fake, nearest_k=k)
    result = prdc(real, fake, k=k, chunk=128)
    for field, value in expected.items():
        name = f"{field}, {count} x {dim}, k = {k}: prdc"
        compare(name, getattr(result, field), float(value), 1e-12)


def test_precision_recall_of_torch_fidelity(torch):
    """Its balls are closed: the same where no distance ties with a radius."""
    theirs = pytest.importorskip("torch_fidelity.metric_prc")
    real, fake = network_like(500, 64, 10), 0.9 * network_like(450, 64, 11, shift=0.1)
    precision, recall = theirs.calculate_precision_recall_full(
        *(torch.tensor(x.astype(np.float64)) for x in (fake, real)), neighborhood=3
    )
    result = prdc(real, fake, k=3)
    compare("precision, 500 x 64, k = 3: torch-fidelity", result.precision, precision, 1e-6)
    compare("recall, 500 x 64, k = 3: torch-fidelity", result.recall, recall, 1e-6)


def test_nearest_neighbours_of_scikit_learn():
    neighbors = pytest.importorskip("sklearn.neighbors")
    queries, gallery = network_like(300, 256, 12), network_like(900, 256, 13)
    search = neighbors.NearestNeighbors(n_neighbors=1, algorithm="kd_tree").fit(gallery)
    expected, expected_indices = search.kneighbors(queries)
    distances, indices = nearest_distance(queries, gallery, chunk=70)
    np.testing.assert_array_equal(indices, expected_indices[:, 0])
    worst = np.argmax(np.abs(distances - expected[:, 0]))
    name = "nearest distance, 300 to 900 x 256, the worst: scikit-learn"
    compare(name, distances[worst], expected[worst, 0], 1e-6)
