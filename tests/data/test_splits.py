"""Training, attack and test sets."""

import numpy as np
import pytest

from nngp_prior.data import corrupted, label, load
from nngp_prior.data.splits import training_sets
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.data import Boolean, Classes, Digits, Flip, Parity, Threshold

LABELLING = Threshold(at=5)


def test_digits_are_tested_on_the_other_split() -> None:
    sets = training_sets(Digits(n=30, seed=2), LABELLING, attack=10, test=20)
    drawn, other = load(Digits(n=40, seed=2)), load(Digits(n=20, seed=2, split="test"))
    y = label(LABELLING, drawn.classes)
    assert sets.attack is not None
    assert sets.test is not None
    for (inputs, labels), (X, expected) in zip(
        sets,
        [
            (drawn.images[:30], y[:30]),
            (drawn.images[30:], -y[30:]),
            (other.images, label(LABELLING, other.classes)),
        ],
        strict=True,
    ):
        assert np.array_equal(inputs, X)
        assert np.array_equal(labels, expected)
    alone = training_sets(Digits(n=30, seed=2), LABELLING)
    assert alone[1:] == (None, None)
    assert np.array_equal(alone.train[0], sets.train[0])


@pytest.mark.parametrize(
    "dataset", [Digits(n=20, preprocessing="standardise"), Boolean(n=20, bits=8, preprocessing="standardise")]
)
def test_inputs_drawn_together_are_standardised_together(dataset: Digits | Boolean) -> None:
    train, attack, test = (
        None if part is None else part[0] for part in training_sets(dataset, Parity(), attack=10, test=15)
    )
    assert attack is not None
    assert test is not None
    together = [[train, attack], [test]] if dataset.kind == "digits" else [[train, attack, test]]
    for parts in together:
        values = np.concatenate([part.ravel() for part in parts])
        assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=1e-12)
    assert abs(train.mean()) > 1e-6


def test_boolean_inputs_are_each_in_one_set() -> None:
    sets = training_sets(Boolean(bits=5, n=16), Parity(), attack=6, test=10)
    assert sets.attack is not None
    assert sets.test is not None
    whole = np.concatenate([inputs for inputs, _ in sets])
    assert len(np.unique(whole, axis=0)) == 32
    for (inputs, labels), sign in zip(sets, (1, -1, 1), strict=True):
        assert np.array_equal(labels, sign * np.where((inputs > 0).sum(axis=1) % 2 == 1, 1, -1))


def test_the_corruption_is_of_the_training_set() -> None:
    corruption = Flip(count=4, seed=1)
    clean = training_sets(Digits(n=30), LABELLING, attack=10, test=20)
    found = training_sets(Digits(n=30), LABELLING.model_copy(update={"corruption": corruption}), attack=10, test=20)
    assert np.array_equal(found.train[1], corrupted(clean.train[1], corruption))
    assert np.sum(found.train[1] != clean.train[1]) == 4
    for a, b in zip(found[1:], clean[1:], strict=True):
        assert a is not None
        assert b is not None
        assert np.array_equal(a[1], b[1])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((Digits(), LABELLING), "n"),
        ((Digits(n=1430), LABELLING, 10), "n"),
        ((Boolean(bits=3, n=4), Parity(), 2, 3), "n"),
        ((Digits(n=30), LABELLING, -1), "attack"),
        ((Digits(n=30), LABELLING, 0, -1), "test"),
        ((Digits(n=30), Classes()), "labelling"),
    ],
)
def test_bad_input(arguments: tuple, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        training_sets(*arguments)
    assert refused.value.field == field
