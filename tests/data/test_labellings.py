import math

import numpy as np
import pytest

from nngp_prior.data import label
from nngp_prior.errors import InvalidLabels
from nngp_prior.schemas.specs.data import (
    Classes,
    Constant,
    Explicit,
    Flip,
    Labelling,
    OneVsRest,
    Parity,
    Randomise,
    RandomLabels,
    Threshold,
    TwoClasses,
)

MANY = np.zeros(20_000, dtype=np.int64)


def within_four_sd(hits: int, n: int, p: float) -> bool:
    return abs(hits - n * p) <= 4 * math.sqrt(n * p * (1 - p))


@pytest.mark.parametrize(
    ("labelling", "expected"),
    [
        (Threshold(at=5), [-1, -1, -1, -1, -1, 1, 1, 1, 1, 1]),
        (Threshold(at=1), [-1] + [1] * 9),
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


def test_two_classes_against_each_other() -> None:
    classes = np.array([3, 1, 1, 3])
    assert label(TwoClasses(positive=3, negative=1), classes).tolist() == [1, -1, -1, 1]
    assert label(TwoClasses(positive=1, negative=3), classes).tolist() == [-1, 1, 1, -1]
    assert label(TwoClasses(positive=1, negative=3), classes[:1], (1, 3)).tolist() == [-1]


@pytest.mark.parametrize(
    ("labelling", "known", "parts"),
    [
        (Threshold(at=12), range(10), ["threshold at=12", "(0 … 9)"]),
        (Threshold(at=0), range(10), ["threshold at=0", "(0 … 9)"]),
        (Threshold(at=-3), range(10), ["threshold at=-3", "(0 … 9)"]),
        (Threshold(at=2**31 - 1), range(10), ["at=2147483647", "(0 … 9)"]),
        (OneVsRest(label=11), range(10), ["one-vs-rest label=11", "(0 … 9)"]),
        (OneVsRest(label=3), (3,), ["one-vs-rest label=3", "(3)"]),
        (Parity(), (1, 3), ["parity labels", "(1, 3)"]),
        (TwoClasses(positive=3, negative=1), range(10), ["0 … 9", "classes=(3, 1)"]),
        (TwoClasses(positive=3, negative=5), (1, 3), ["the classes 1, 3", "classes=(3, 5)"]),
        (TwoClasses(positive=3, negative=1), (3,), ["two-classes positive=3 negative=1", "alike"]),
        (Threshold(at=1), (), ["no classes", "random, constant or explicit"]),
    ],
)
def test_a_labelling_that_the_classes_do_not_allow_is_refused(labelling: Labelling, known, parts: list[str]) -> None:
    with pytest.raises(InvalidLabels) as caught:
        label(labelling, np.array(known or [0], dtype=np.int64), tuple(known))
    assert caught.value.field == "labelling"
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_small_subset_may_lack_classes_that_the_data_have() -> None:
    assert label(OneVsRest(label=3), np.array([1, 2]), tuple(range(10))).tolist() == [-1, -1]
    with pytest.raises(InvalidLabels, match=r"one-vs-rest label=3 labels all classes that there are \(1, 2\) alike"):
        label(OneVsRest(label=3), np.array([1, 2]))


@pytest.mark.parametrize("labelling", [RandomLabels(), Constant(), Explicit(values=(1, -1))], ids=lambda x: x.kind)
def test_inputs_without_classes_have_the_other_labellings(labelling: Labelling) -> None:
    assert set(label(labelling, np.zeros(2, dtype=np.int64), ())) <= {-1, 1}


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


def test_classes_are_places_among_those_of_the_data() -> None:
    assert label(Classes(), np.array([3, 5, 3]), (3, 5)).tolist() == [0, 1, 0]
    assert label(Classes(), np.array([5, 3]), tuple(range(10))).tolist() == [5, 3]
    many = np.arange(1000)
    assert label(Classes(), many).tolist() == many.tolist()
    with pytest.raises(InvalidLabels, match="classes labels all classes that there are"):
        label(Classes(), np.array([3, 3]))
    with pytest.raises(InvalidLabels, match="these inputs have no classes"):
        label(Classes(), np.array([], dtype=int), ())


def test_corrupted_classes() -> None:
    """Redrawn from all classes; changed to any of the others."""
    known = tuple(range(5))
    redrawn = label(Classes(corruption=Randomise(probability=0.5)), MANY, known)
    for c in known:
        assert within_four_sd((redrawn == c).sum(), len(MANY), 0.1 + 0.5 * (c == 0))
    changed = label(Classes(corruption=Flip(count=8000)), MANY, known)
    assert (changed != 0).sum() == 8000
    for c in known[1:]:
        assert within_four_sd((changed == c).sum(), 8000, 0.25)
