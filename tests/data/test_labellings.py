import math

import numpy as np
import pytest

from nngp_prior.data import label
from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.data import (
    Constant,
    Explicit,
    Flip,
    Labelling,
    OneVsRest,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
)

MANY = np.zeros(20_000, dtype=np.int64)


def within_four_sd(hits: int, n: int, p: float) -> bool:
    return abs(hits - n * p) <= 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(
    ("labelling", "expected"),
    [
        (Threshold(at=5), [-1, -1, -1, -1, -1, 1, 1, 1, 1, 1]),
        (Threshold(at=0), [1] * 10),
        (Parity(), [-1, 1, -1, 1, -1, 1, -1, 1, -1, 1]),
        (OneVsRest(label=3), [-1, -1, -1, 1, -1, -1, -1, -1, -1, -1]),
        (Constant(), [1] * 10),
        (Constant(value=-1), [-1] * 10),
        (Explicit(values=(1, -1, 1, 1, -1, -1, 1, 1, 1, -1)), [1, -1, 1, 1, -1, -1, 1, 1, 1, -1]),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_labels_are_what_the_kind_says(labelling: Labelling, expected: list[int]) -> None:
    labels = label(labelling, np.arange(10))
    assert labels.dtype == np.int8
    assert labels.tolist() == expected


def test_random_labels_are_fair_independent_of_the_classes_and_their_seeds() -> None:
    first, second = label(RandomLabels(seed=1), MANY), label(RandomLabels(seed=2), MANY)
    assert set(first) == {-1, 1}
    assert within_four_sd((first == 1).sum(), len(MANY), 0.5)
    assert within_four_sd((first == second).sum(), len(MANY), 0.5)
    assert within_four_sd((first[1:] == first[:-1]).sum(), len(MANY) - 1, 0.5)
    assert np.array_equal(first, label(RandomLabels(seed=1), MANY + 3))


@pytest.mark.parametrize("count", [0, 1, 7, 10])
def test_flip_changes_exactly_as_many_as_asked(count: int) -> None:
    clean, flipped = (label(Parity(corruption=c), np.arange(10)) for c in (None, Flip(count=count, seed=3)))
    assert (clean != flipped).sum() == count


def test_flips_are_spread_evenly_and_differ_by_seed() -> None:
    corrupted = [label(Constant(corruption=Flip(count=3, seed=seed)), np.arange(10)) for seed in range(2000)]
    times_flipped = (np.array(corrupted) == -1).sum(axis=0)
    assert all(within_four_sd(times, 2000, 0.3) for times in times_flipped)


def test_more_flips_than_labels_are_refused() -> None:
    with pytest.raises(InvalidLabels, match=r"corruption\.count: 11 labels to flip where there are 10"):
        label(Parity(corruption=Flip(count=11)), np.arange(10))


@pytest.mark.parametrize("probability", [0.1, 0.5, 1.0])
def test_randomise_changes_half_of_what_it_redraws(probability: float) -> None:
    corrupted = label(Constant(corruption=Randomise(probability=probability)), MANY)
    assert within_four_sd((corrupted == -1).sum(), len(MANY), probability / 2)


def test_randomise_with_probability_zero_changes_nothing() -> None:
    assert (label(Constant(corruption=Randomise(probability=0)), MANY) == 1).all()


@pytest.mark.parametrize("probability", [0.2, 0.5, 1.0])
def test_randomise_does_not_look_at_the_labels(probability: float) -> None:
    """Also where the labels come from a generator with the same seed."""
    clean = label(RandomLabels(seed=0), MANY)
    corrupted = label(RandomLabels(seed=0, corruption=Randomise(probability=probability, seed=0)), MANY)
    for sign in (-1, 1):
        chosen = clean == sign
        assert within_four_sd((corrupted[chosen] == -sign).sum(), chosen.sum(), probability / 2)


def test_explicit_labels_of_another_number_are_refused() -> None:
    with pytest.raises(InvalidLabels, match="values: 3 labels where there are 4 inputs"):
        label(Explicit(values=(1, -1, 1)), np.arange(4))
