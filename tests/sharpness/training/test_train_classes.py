"""Training of networks with C outputs, their files, and their data sets."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nngp_prior import FullyConnected
from nngp_prior.data.splits import number_of_classes, training_data
from nngp_prior.errors import InvalidInput
from nngp_prior.numerics import checkpoint as saving
from nngp_prior.progress import Progress
from nngp_prior.schemas.specs.data import Classes, Digits, Flip, Parity, TrainingData
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, FlatnessPenalty, Momentum, Training
from nngp_prior.sharpness import Landscape, attack_set, finite_network, function_probability, landscape, train
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.training.trained import Trained

C = 3
NETWORK = FullyConnected(depth=1, width=16, bias_std=0.5)
_rng = np.random.default_rng(4)
X = _rng.standard_normal((15, 3))
Y = np.argmax(X, axis=1)
X_TEST = _rng.standard_normal((8, 3))
Y_TEST = np.argmax(X_TEST, axis=1)
ATTACK = (_rng.standard_normal((3, 3)), np.array([2, 0, 1]))
QUICK = Training(optimizer=SGD(learning_rate=0.3), batch_size=6, epochs=200)
ALL = {"classes": C, "seeds": 2, "attack": ATTACK, "X_test": X_TEST, "y_test": Y_TEST}


@pytest.fixture(scope="module")
def networks() -> Trained:
    return train(NETWORK, X, Y, QUICK, **ALL)


def error(f: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.mean(np.argmax(f, axis=-1) != y, axis=-1)


def test_networks_are_trained_until_all_classes_are_right(networks: Trained) -> None:
    assert networks.statuses == ("zero-error", "zero-error")
    assert networks.classes == C
    f = networks.outputs(X)
    assert f.shape == (2, 15, C)
    np.testing.assert_array_equal(error(f, Y), [0, 0])
    np.testing.assert_array_equal(networks.history["error"][networks.epochs - 1, [0, 1]] > 0, True)
    log_p = f - np.log(np.exp(f).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(networks.loss, -log_p[:, np.arange(15), Y].mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(networks.test_outputs, networks.outputs(X_TEST))
    np.testing.assert_allclose(networks.test_error, error(networks.outputs(X_TEST), Y_TEST))
    attack = error(networks.outputs(ATTACK[0]), ATTACK[1])
    np.testing.assert_allclose(networks.history["attack_error"][networks.epochs, [0, 1]], attack, rtol=1e-6)
    assert networks.to_pandas()["test_error"].tolist() == networks.test_error.tolist()


def test_they_start_from_the_draws_of_the_prior() -> None:
    start = train(NETWORK, X, Y, Training(goal="none", epochs=0), classes=C, seeds=[1])
    assert start.parameters[2][0].shape == (1, 16, C)
    one_output = train(NETWORK, X, np.where(Y > 0, 1, -1), Training(goal="none", epochs=0), seeds=[1])
    np.testing.assert_array_equal(start.parameters[0][0], one_output.parameters[0][0])


def test_a_step_is_along_the_gradient_of_the_risk() -> None:
    """One epoch of one minibatch, against the gradient that dense derivatives verify."""
    for loss in ("cross-entropy", "mse"):
        start = train(NETWORK, X, Y, Training(goal="none", epochs=0, loss=loss, dtype="float64"), classes=C)
        how = Training(
            goal="none", epochs=1, loss=loss, dtype="float64", batch_size=15, optimizer=SGD(learning_rate=0.1)
        )
        risk = EmpiricalRisk.of(NETWORK, start.network(), X, Y, loss=loss, classes=C)
        expected = np.asarray(risk.theta) - 0.1 * np.asarray(risk.gradient(risk.theta))
        found = risk.network.flatten(train(NETWORK, X, Y, how, classes=C).network())
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [Momentum(learning_rate=0.1), Adam(learning_rate=0.03), SAM(learning_rate=0.3), EntropySGD(langevin_steps=3)],
    ids=lambda optimizer: optimizer.kind,
)
def test_every_optimizer_reaches_zero_error(optimizer) -> None:
    found = train(NETWORK, X, Y, Training(optimizer=optimizer, batch_size=6, epochs=300), classes=C)
    assert found.statuses == ("zero-error",)
    np.testing.assert_array_equal(error(found.outputs(X), Y), [0])


def test_files_hold_everything_and_runs_resume(
    networks: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trained.npz"
    networks.save(path)
    loaded = Trained.load(path)
    assert loaded.classes == C
    np.testing.assert_array_equal(loaded.outputs(X), networks.outputs(X))
    np.testing.assert_array_equal(loaded.test_error, networks.test_error)
    checkpoint = tmp_path / "run.npz"

    whole = Training(optimizer=Momentum(learning_rate=0.05), batch_size=6, goal="none", epochs=6)
    reference = train(NETWORK, X, Y, whole, **ALL)
    monkeypatch.setattr(saving, "_INTERVAL", 0.0)
    monkeypatch.setattr(saving, "_SHARE", 1e9)

    def stop(event: Progress) -> None:
        if event.stage == "epochs" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(NETWORK, X, Y, whole, **ALL, checkpoint=checkpoint, progress=stop)
    assert Trained.load(checkpoint).statuses == ("unfinished", "unfinished")
    again = train(NETWORK, X, Y, whole, **ALL, checkpoint=checkpoint)
    np.testing.assert_array_equal(again.outputs(X), reference.outputs(X))
    with pytest.raises(InvalidInput, match=r"^checkpoint: .* is of another call"):
        train(NETWORK, X, Y, whole, classes=4, checkpoint=checkpoint)


def test_workers_of_an_executor_train_the_same_networks(networks: Trained) -> None:
    with ThreadPoolExecutor(1) as executor:
        found = train(NETWORK, X, Y, QUICK, **ALL, executor=executor)
    assert found.classes == C
    np.testing.assert_array_equal(found.test_outputs, networks.test_outputs)
    np.testing.assert_array_equal(found.outputs(X), networks.outputs(X))


def test_the_middle_of_a_landscape_is_the_network(networks: Trained) -> None:
    surface = landscape(NETWORK, networks.network(0), X, Y, Landscape(dimensions=1, points=3), classes=C)
    assert surface.error[1] == 0
    assert surface.loss[1] == pytest.approx(networks.loss[0], rel=1e-5)


def test_wrong_classes_are_seeded_and_uniform_over_the_others() -> None:
    y = np.repeat(np.arange(4), 3000)
    _, wrong = attack_set(np.zeros((len(y), 1)), y, classes=4, seed=1)
    counts = np.array([[np.sum((y == true) & (wrong == label)) for label in range(4)] for true in range(4)])
    assert np.all(np.diag(counts) == 0)
    deviation = np.sqrt(3000 * (1 / 3) * (2 / 3))
    assert np.all(np.abs(counts[~np.eye(4, dtype=bool)] - 1000) < 4 * deviation)
    np.testing.assert_array_equal(wrong, attack_set(y[:, None], y, classes=4, seed=1)[1])
    assert np.any(wrong != attack_set(y[:, None], y, classes=4, seed=2)[1])


def test_sets_of_a_data_set_have_its_classes() -> None:
    source = TrainingData(dataset=Digits(n=30, classes=(1, 3, 7)), labelling=Classes(), attack=9, test=6)
    assert number_of_classes(source) == C
    sets = training_data(source, C)
    true = training_data(TrainingData(dataset=Digits(n=39, classes=(1, 3, 7)), labelling=Classes()), C).train[1]
    assert set(sets.train[1].tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(sets.train[1], true[:30])
    assert sets.attack is not None
    assert np.all(sets.attack[1] != true[30:])
    assert number_of_classes(source.model_copy(update={"labelling": Parity()})) is None
    with pytest.raises(InvalidInput, match=r"^labelling: got 'parity', which has labels -1 and \+1, with 3 classes"):
        training_data(source.model_copy(update={"labelling": Parity()}), C)
    with pytest.raises(InvalidInput, match=r"^labelling: got classes"):
        training_data(source)
    noisy = training_data(source.model_copy(update={"labelling": Classes(corruption=Flip(count=5))}), C)
    assert np.sum(noisy.train[1] != true[:30]) == 5
    assert set(noisy.train[1].tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": Y + 1}, r"y: y\[\d+\] is 3\. With classes=3, labels are integers 0 … 2: pass y - 1"),
        ({"y": np.where(Y, 1, -1)}, r"y: y\[\d+\] is -1\. .*-1 and \+1 need no classes"),
        ({"y": Y > 0}, "y: got booleans. With classes=3, .*booleans need no classes"),
        ({"classes": None}, r"y: .*classes"),
        ({"classes": 1}, "classes: got 1"),
        ({"attack": (ATTACK[0], [0, 1, 3])}, r"attack\[1\]: attack\[1\]\[2\] is 3"),
        ({"X_test": X_TEST, "y_test": Y_TEST - 1}, r"y_test: y_test\[\d\] is -1"),
        (
            {"training": Training(penalty=FlatnessPenalty())},
            "training.penalty: 'flatness' is of networks with one output",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict, message: str) -> None:
    given = {"y": Y, "training": QUICK, "classes": C, **arguments}
    with pytest.raises(InvalidInput, match=f"^{message}"):
        train(NETWORK, X, given.pop("y"), given.pop("training"), **given)


def test_their_functions_are_no_signs(networks: Trained) -> None:
    with pytest.raises(InvalidInput, match=r"^trained: has networks with 3 outputs.*argmax"):
        function_probability(networks, X=X, y=Y)
    assert finite_network(NETWORK, (3,), C) is networks.finite
