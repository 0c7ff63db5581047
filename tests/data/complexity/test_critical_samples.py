from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngp_prior import complexity
from nngp_prior.data.complexity import COMPLEXITIES, critical_sample_ratio, critical_sample_ratio_in_box
from nngp_prior.errors import InvalidInput, InvalidLabels


def by_brute_force(inputs: list[tuple[int, ...]], labels: list[int]) -> float:
    critical = [
        any(sum(a != b for a, b in zip(x, z, strict=True)) == 1 and y != v for z, v in zip(inputs, labels, strict=True))
        for x, y in zip(inputs, labels, strict=True)
    ]
    return sum(critical) / len(critical)


@given(st.data(), st.integers(1, 5), st.booleans())
def test_boolean_is_brute_force(data: st.DataObject, bits: int, zero_left_out: bool) -> None:
    inputs = list(product((0, 1), repeat=bits))[int(zero_left_out and bits > 1) :]
    labels = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(inputs), max_size=len(inputs)))
    assert critical_sample_ratio(labels) == pytest.approx(by_brute_force(inputs, labels))


def test_boolean_marks() -> None:
    parity = [(-1) ** number.bit_count() for number in range(128)]
    assert critical_sample_ratio(parity) == 1.0
    assert critical_sample_ratio(parity[1:]) == 1.0
    assert critical_sample_ratio([1] * 128) == 0.0
    assert critical_sample_ratio([-1] + [1] * 127) == 8 / 128  # the odd one and its seven neighbours
    for labels in ([1], [1] * 5, [1] * 126):
        with pytest.raises(InvalidLabels, match=r"Pass one for each of the 2ᵇ inputs"):
            critical_sample_ratio(labels)


WEIGHTS = np.array([1.0, -2.0, 0.5, 0.0, 3.0])


def plane(x: np.ndarray) -> np.ndarray:
    return x @ WEIGHTS + 0.3


def test_in_a_box_is_exact_for_a_plane() -> None:
    """The nearest point beyond a plane is at the L∞ distance |f|/‖w‖₁; the gradient's sign goes straight there."""
    X = np.random.default_rng(0).standard_normal((200, 5))
    labels = np.sign(plane(X)).astype(int)
    distance = np.abs(plane(X)) / np.abs(WEIGHTS).sum()
    options = {"predict": plane, "gradient": lambda x: np.tile(WEIGHTS, (len(x), 1)), "noise": 0.0}
    for radius in (0.05, 0.2, 0.5):
        found = complexity("critical-sample-ratio-in-box", labels, X=X, radius=radius, **options)
        assert 0 < found < 1
        assert found == np.mean(distance < radius)


def test_in_a_box_without_the_gradient_finds_no_more_than_there_is() -> None:
    X = np.random.default_rng(0).standard_normal((200, 5))
    labels = plane(X) > 0
    true = float(np.mean(np.abs(plane(X)) / np.abs(WEIGHTS).sum() < 0.2))
    assert critical_sample_ratio_in_box(labels, X, plane, 0.2, iterations=1) < true
    assert critical_sample_ratio_in_box(labels, X, plane, 0.2, iterations=200) == true  # all 2⁵ corners seen


def test_in_a_box_steps_stay_in_the_box_and_noise_leaves_a_stationary_point() -> None:
    seen: list[np.ndarray] = []

    def ring(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return (x**2).sum(axis=1) - 0.5

    X = np.zeros((1, 2))
    options = {"gradient": lambda x: 2 * x, "seed": 3}
    assert critical_sample_ratio_in_box([-1], X, ring, 0.6, noise=0.0, **options) == 0.0  # ∇f(0) = 0
    assert critical_sample_ratio_in_box([-1], X, ring, 0.6, **options) == 1.0  # the corner has 0.72
    assert critical_sample_ratio_in_box([-1], X, ring, 0.4, **options) == 0.0  # the corner has 0.32
    assert max(np.abs(x).max() for x in seen) <= 0.6


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"radius": 0.0}, "radius"),
        ({"step": -1.0}, "step"),
        ({"noise": -1.0}, "noise"),
        ({"iterations": 0}, "iterations"),
        ({"X": np.zeros((3, 5))}, "X"),
        ({"y": [1, 1]}, "y"),
        ({"predict": lambda x: x}, "predict"),
    ],
)
def test_in_a_box_misuse(changes: dict, field: str) -> None:
    fine = {"y": [1, -1], "X": np.array([[1.0] * 5, [-1.0] * 5]), "predict": plane, "radius": 0.1}
    critical_sample_ratio_in_box(**fine)
    with pytest.raises(InvalidInput, match=f"{field}: "):
        critical_sample_ratio_in_box(**(fine | changes))


def test_the_registry_has_all() -> None:
    assert list(COMPLEXITIES) == [
        "lempel-ziv", "entropy", "critical-sample-ratio", "critical-sample-ratio-in-box", "formula-size", "cover-size",
    ]  # fmt: skip
