"""log P of the functions that trained networks compute, against the same put together by hand."""

from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected, function_probability, kernel, log_prior, log_probability
from nngp_prior.data.splits import training_data, training_sets
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.data import Digits, Randomise, Threshold, TrainingData
from nngp_prior.sharpness import SGD, Trained, Training, functions_of, train

NETWORK = FullyConnected(depth=1, width=8, bias_std=1.0)
HOW = Training(optimizer=SGD(learning_rate=0.3), batch_size=10)
SOURCE = TrainingData(dataset=Digits(n=20), labelling=Threshold(at=5), attack=4, test=10)


@pytest.fixture(scope="module")
def trained() -> Trained:
    sets = training_data(SOURCE)
    assert sets.test is not None
    return train(
        NETWORK, *sets.train, HOW, seeds=2, attack=sets.attack, X_test=sets.test[0], y_test=sets.test[1],
        source=SOURCE.model_dump(mode="json"),
    )  # fmt: skip


def test_is_log_p_of_training_labels_and_signs_at_test_inputs(trained: Trained) -> None:
    sets = training_sets(Digits(n=20), Threshold(at=5), attack=4, test=10)
    assert sets.test is not None
    assert trained.statuses == ("zero-error", "zero-error")
    assert trained.test_outputs is not None
    X = np.concatenate([sets.train[0], sets.test[0]])
    for i in range(2):
        labels = np.concatenate([sets.train[1], np.sign(trained.test_outputs[i])])
        by_hand = log_prior(NETWORK, X, labels, seed=3, particles=16)
        for options in ({}, {"X": sets.train[0], "y": sets.train[1], "X_test": sets.test[0]}):
            found = function_probability(trained, i, seed=3, particles=16, **options)
            assert (found.value, found.n) == (by_hand.value, 30)
    X, labels = functions_of(trained, *sets.train)  # no test inputs
    training_labels = log_probability(kernel(NETWORK, sets.train[0]), sets.train[1], method="ep").value
    assert log_probability(kernel(NETWORK, X), labels[0], method="ep").value == training_labels


def test_a_network_that_errs_has_the_signs_of_its_own_outputs() -> None:
    sets = training_sets(Digits(n=20), Threshold(at=5))
    untrained = train(NETWORK, *sets.train, HOW.model_copy(update={"goal": "none", "epochs": 0}))
    assert untrained.error[0] > 0
    _, (labels,) = functions_of(untrained, *sets.train)
    assert np.array_equal(labels, np.sign(untrained.outputs(sets.train[0])[0]))
    assert not np.array_equal(labels, sets.train[1])


def test_what_is_unknown_or_changed_is_told(trained: Trained, tmp_path: Path) -> None:
    sets = training_sets(Digits(n=20), Threshold(at=5))
    with pytest.raises(InvalidInput, match=r"trained: the networks do not say what data .*Pass the data"):
        function_probability(train(NETWORK, *sets.train, HOW))
    with pytest.raises(InvalidInput, match="i: got 2 of 2 networks"):
        function_probability(trained, 2)
    with pytest.raises(InvalidInput, match=r"y: .*-1 and \+1 need no classes"):
        function_probability(trained, classes=3)
    with pytest.raises(InvalidInput, match="y: is missing beside X"):
        functions_of(trained, sets.train[0])
    path = tmp_path / "own.npz"
    X, y = sets.train
    np.savez(path, images=X, labels=y)
    source = TrainingData(inputs_file=str(path), n=15, test=5)
    own = training_data(source)
    assert own.test is not None
    fitted = train(
        NETWORK, *own.train, HOW, X_test=own.test[0], y_test=own.test[1], source=source.model_dump(mode="json")
    )
    found = function_probability(fitted, method="ep")
    assert found.value == pytest.approx(log_prior(NETWORK, X, functions_of(fitted)[1][0], method="ep").value, abs=1e-9)
    np.savez(path, images=X[::-1], labels=y[::-1])
    with pytest.raises(InvalidInput, match="a file has changed"):
        function_probability(fitted)


def test_sets_of_files_are_those_of_their_order(tmp_path: Path) -> None:
    X, y = np.arange(24.0).reshape(12, 2), np.where(np.arange(12) % 3 == 0, 1, -1)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    files = {"inputs_file": str(tmp_path / "X.npy"), "labels_file": str(tmp_path / "y.npy")}
    sets = training_data(TrainingData(**files, attack=2, test=3))
    assert sets.attack is not None
    assert sets.test is not None
    for part, rows, sign in (
        (sets.train, slice(0, 7), 1),
        (sets.attack, slice(7, 9), -1),
        (sets.test, slice(9, 12), 1),
    ):
        assert np.array_equal(part[0], X[rows])
        assert np.array_equal(part[1], sign * y[rows])
    corrupted = training_data(TrainingData(**files, n=10, test=2, corruption=Randomise(probability=1.0, seed=1)))
    assert corrupted.test is not None
    assert not np.array_equal(corrupted.train[1], y[:10])
    assert np.array_equal(corrupted.test[1], y[10:])
    with pytest.raises(InvalidInput, match="n: 11 training, 0 attack and 2 test inputs are more than 12"):
        training_data(TrainingData(**files, n=11, test=2))
    np.save(tmp_path / "y.npy", y[:5])
    with pytest.raises(InvalidInput, match=r"labels_file: got shape \(5,\) where there are 12 inputs"):
        training_data(TrainingData(**files))
