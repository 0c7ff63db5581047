import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import kstest, qmc

from nngp_prior.numerics.random import generator, scrambled_sobol, systematic


def test_streams_differ_by_name_and_seed_and_repeat() -> None:
    first = generator(3, "replicate", 0).random(4)
    assert np.array_equal(first, generator(3, "replicate", 0).random(4))
    for other in (generator(3, "replicate", 1), generator(4, "replicate", 0), generator(3, "pilot", 0)):
        assert not np.array_equal(first, other.random(4))


def test_names_do_not_run_into_each_other() -> None:
    assert generator(1, "a", "b").random() != generator(1, "ab").random()


@pytest.mark.parametrize("count", [128, 512])
def test_every_coordinate_is_stratified(count: int) -> None:
    points = scrambled_sobol(300, count, [np.random.default_rng(0)])[:, 0]
    assert np.array_equal(np.sort((points * count).astype(int), axis=1), np.tile(np.arange(count), (300, 1)))


def test_two_coordinates_form_a_net() -> None:
    """Of 64 points of the first two coordinates, one lies in each elementary box of area 1/64."""
    points = scrambled_sobol(2, 64, [np.random.default_rng(1)])[:, 0]
    for split in range(7):
        boxes = (points[0] * 2**split).astype(int) * 2 ** (6 - split) + (points[1] * 2 ** (6 - split)).astype(int)
        assert len(np.unique(boxes)) == 64


def test_as_even_as_scipys() -> None:
    """Integration error of a smooth function, root mean square over scramblings, against SciPy's own scrambling."""

    def error(points: np.ndarray) -> float:
        return float(np.prod(1 + (points - 0.5) / 2, axis=0).mean() - 1)

    rngs = [np.random.default_rng(seed) for seed in range(200)]
    ours = np.std([error(points) for points in scrambled_sobol(4, 128, rngs).swapaxes(0, 1)])
    scipys = np.std([error(qmc.Sobol(4, rng=rng).random(128).T) for rng in rngs])
    plain = np.std([error(rng.random((4, 128))) for rng in rngs])
    assert ours < 1.3 * scipys
    assert ours < 0.3 * plain


def test_each_point_is_uniform() -> None:
    """Over scramblings, so that estimates are unbiased; also where points and coordinates are odd in number."""
    draws = scrambled_sobol(3, 5, [np.random.default_rng(seed) for seed in range(2000)])
    assert np.array_equal(draws[:, 7], scrambled_sobol(3, 5, [np.random.default_rng(7)])[:, 0])
    for i in range(3):
        for k in range(5):
            assert kstest(draws[i, :, k], "uniform").pvalue > 1e-4
    assert draws.min() > 0
    assert draws.max() < 1


def test_more_coordinates_than_sobol_has() -> None:
    points = scrambled_sobol(21_205, 4, [np.random.default_rng(0)])[:, 0]
    assert points.shape == (21_205, 4)
    assert kstest(points[-4:].ravel(), "uniform").pvalue > 1e-3


def test_sobol_tables_survive_threads_that_ask_at_once() -> None:
    """SciPy reads its tables at the first call, and not under a lock: this is a first call, in a process of its own."""
    script = (
        "import threading\n"
        "from nngp_prior.numerics.random import generator, scrambled_sobol\n"
        "barrier, sums = threading.Barrier(8), []\n"
        "def work():\n"
        "    barrier.wait()\n"
        "    sums.append(scrambled_sobol(3000, 64, [generator(0, 'points')]).sum())\n"
        "threads = [threading.Thread(target=work) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "assert len(sums) == 8 and len(set(sums)) == 1 and abs(sums[0] / (3000 * 64) - 0.5) < 1e-3, sums\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr


def test_systematic_draws_are_as_frequent_as_expected_up_to_rounding() -> None:
    weights = np.array([0.0, 3.0, 0.1, 5.0, 0.0])
    expected = 100 * weights / weights.sum()
    draws = [np.bincount(systematic(weights, 100, generator(seed)), minlength=5) for seed in range(2000)]
    assert np.all(np.abs(np.array(draws) - expected) < 1)
    assert np.abs(np.mean(draws, axis=0) - expected).max() < 4 * 0.5 / np.sqrt(2000)


def test_systematic_draws_are_in_random_order() -> None:
    first = [systematic(np.ones(2), 2, generator(seed))[0] for seed in range(400)]
    assert abs(np.mean(first) - 0.5) < 4 * 0.5 / 20
