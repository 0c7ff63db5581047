"""Training against NumPy, and what it promises: seeds alone and together, ends, attack sets, interrupted runs."""

import itertools

import jax
import numpy as np
import pytest

from nngp_prior import Convolutional, FromNetwork, FullyConnected
from nngp_prior.errors import DataUnavailable, InvalidInput, InvalidLabels
from nngp_prior.kernels import kernel
from nngp_prior.numerics import checkpoint
from nngp_prior.schemas.specs.architecture import ConvolutionLayer
from nngp_prior.schemas.specs.training import SAM, SGD, Adam, EntropySGD, Momentum, Training
from nngp_prior.sharpness.rescaling import rescale
from nngp_prior.sharpness.training import trainer as run
from nngp_prior.sharpness.training.epoch import minibatches
from nngp_prior.sharpness.training.train import attack_set, train
from nngp_prior.sharpness.training.trained import Trained
from tests.sharpness.small import ATTACK, NETWORK, QUICK, TEST, X, Y

MOMENTUM = Momentum(learning_rate=0.05, nesterov=True)


def alike(one, other, **tolerance) -> bool:
    return all(
        np.allclose(a, b, **tolerance) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def same(one, other) -> bool:
    """Bit for bit."""
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True))


def forward(parameters, inputs: np.ndarray) -> np.ndarray:
    (w, b), (v, c) = (layer for layer in parameters if layer)
    return (np.maximum(inputs @ w + b, 0) @ v + c)[..., 0]


def gradient_descent(parameters, steps: int, rate: float, loss: str, inputs: np.ndarray, y: np.ndarray):
    """Full batches, in NumPy."""
    (w, b), (v, c) = ((layer[0].copy(), np.ravel(layer[1])) for layer in parameters if layer)
    for _ in range(steps):
        z = inputs @ w + b
        h = np.maximum(z, 0)
        f = (h @ v)[:, 0] + c
        slope = (2 * (f - y) if loss == "mse" else -y / (1 + np.exp(y * f))) / len(y)
        back = np.outer(slope, v[:, 0]) * (z > 0)
        v, c = v - rate * h.T @ slope[:, None], c - rate * slope.sum()
        w, b = w - rate * inputs.T @ back, b - rate * back.sum(axis=0)
    return w, b, v, c


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_full_batches_are_gradient_descent_in_numpy(loss: str) -> None:
    how = Training(optimizer=SGD(learning_rate=0.1), loss=loss, batch_size=17, goal="none", epochs=4, dtype="float64")
    start = train(NETWORK, X, Y, how.model_copy(update={"epochs": 0}), attack=ATTACK)
    found = train(NETWORK, X, Y, how, attack=ATTACK)
    inputs, y = np.concatenate([X, ATTACK[0]]), np.concatenate([Y, ATTACK[1]])
    expected = gradient_descent(start.network(), 4, 0.1, loss, inputs, y)
    for a, b in zip(jax.tree.leaves(found.network()), expected, strict=True):
        assert np.ravel(a) == pytest.approx(np.ravel(b), rel=1e-10, abs=1e-12)
    for i, trained in ((0, start), (-1, found)):
        f = forward(trained.network(), inputs)
        losses = (f - y) ** 2 if loss == "mse" else np.log1p(np.exp(-y * f))
        wrong = y * f <= 0
        expected = {"loss": losses[:12], "error": wrong[:12], "attack_loss": losses[12:], "attack_error": wrong[12:]}
        for name, values in expected.items():
            assert found.history[name][i] == pytest.approx([values.mean()], rel=1e-12)
    assert found.statuses == ("epochs-spent",)


def test_minibatches_hold_each_example_once_in_every_round() -> None:
    chosen = minibatches(np.random.default_rng(0), 13, 5, 4)
    assert chosen.shape == (3, 4, 5)
    orders = chosen.reshape(4, 15)  # one round a row
    for order in orders:
        assert sorted(order[:13]) == list(range(13))
        assert order[13:].tolist() == [-1, -1]
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))
    rng = np.random.default_rng(1)
    counts = np.bincount([minibatches(rng, 13, 5, 1)[0, 0, 0] for _ in range(2600)], minlength=13)
    assert np.abs(counts - 200).max() < 4 * (200 * 12 / 13) ** 0.5


def test_the_last_minibatch_counts_as_many_examples_as_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 examples in minibatches of 8: the second one has 4, whose mean is taken."""

    def in_order(_, n: int, size: int, rounds: int) -> np.ndarray:
        return np.array([[range(8)], [[*range(8, 12), -1, -1, -1, -1]]], dtype=np.int32)

    how = Training(optimizer=SGD(learning_rate=0.1), batch_size=8, goal="none", epochs=1, dtype="float64")
    monkeypatch.setattr(run, "minibatches", in_order)
    start, found = (train(NETWORK, X, Y, how.model_copy(update={"epochs": epochs})) for epochs in (0, 1))
    w, b, v, c = gradient_descent(start.network(), 1, 0.1, "cross-entropy", X[:8], Y[:8])
    expected = gradient_descent([(w, b), (), (v, c)], 1, 0.1, "cross-entropy", X[8:], Y[8:])
    for a, e in zip(jax.tree.leaves(found.network()), expected, strict=True):
        assert np.ravel(a) == pytest.approx(np.ravel(e), rel=1e-10)


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(learning_rate=0.3),
        MOMENTUM,
        Adam(learning_rate=0.03),
        SAM(learning_rate=0.3),
        EntropySGD(langevin_steps=4, noise=0.01),
    ],
    ids=lambda optimizer: optimizer.kind,
)
def test_every_optimizer_gets_there(optimizer) -> None:
    how = Training(optimizer=optimizer, batch_size=5, epochs=200, dtype="float64")
    together = train(NETWORK, X, Y, how, seeds=[4, 7], **TEST)
    assert together.statuses == ("zero-error",) * 2
    assert np.all(together.error == 0)
    assert together.epochs.tolist() == together.reached.tolist()
    assert not alike(together.network(0), together.network(1))
    assert together.test_outputs == pytest.approx(
        np.stack([forward(together.network(i), TEST["X_test"]) for i in range(2)])
    )
    assert together.test_error == pytest.approx(np.mean(np.sign(together.test_outputs) != TEST["y_test"], axis=1))
    assert np.all(together.outputs(X) * Y > 0)


def test_a_network_alone_is_as_among_others() -> None:
    """With its own minibatches, and its own noise."""
    how = Training(optimizer=EntropySGD(langevin_steps=4, noise=0.01), batch_size=5, epochs=200, dtype="float64")
    together = train(NETWORK, X, Y, how, seeds=[4, 7], **TEST)
    alone = train(NETWORK, X, Y, how, seeds=[7], **TEST)
    assert alone.epochs[0] == together.epochs[1]
    assert alike(alone.network(), together.network(1), rtol=1e-8)
    assert alone.test_outputs[0] == pytest.approx(together.test_outputs[1], rel=1e-8)


def test_networks_that_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven networks in three places: one that ends makes room for the next."""
    groups = [train(NETWORK, X, Y, QUICK, seeds=group) for group in ([0, 1, 2], [3, 4, 5], [4, 5, 6])]
    whole = [*(group.network(i) for group in groups[:2] for i in range(3)), groups[2].network(2)]
    epochs = [*groups[0].epochs, *groups[1].epochs, groups[2].epochs[2]]
    assert len(set(epochs)) > 3
    monkeypatch.setattr(run, "side_by_side", lambda *_: 3)
    told = []
    found = train(NETWORK, X, Y, QUICK, seeds=7, progress=told.append)
    assert found.epochs.tolist() == epochs
    for i, expected in enumerate(whole):
        assert alike(found.network(i), expected, rtol=1e-4, atol=1e-6)
        history = found.history["error"][:, i]
        assert history[epochs[i]] == 0
        assert np.isnan(history[epochs[i] + 1 :]).all()
    ended = [event for event in told if event.stage == "networks"]
    assert (ended[-1].done, ended[-1].total) == (7, 7)
    assert max(epochs) < len(ended) < sum(epochs)
    (expected,) = [event for event in told if event.cost is not None]
    assert (expected.stage, expected.done, expected.total, expected.at_most) == ("epochs", 0, QUICK.epochs, True)


def test_epochs_are_reported_in_proportion_to_the_work_also_of_networks_in_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "side_by_side", lambda *_: 2)
    told = []
    train(NETWORK, X, Y, QUICK.model_copy(update={"goal": "none", "epochs": 6}), seeds=4, progress=told.append)
    epochs = [event.done for event in told if event.stage == "epochs"]
    assert epochs == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]


def test_the_default_minibatch_has_all_of_a_few_examples() -> None:
    how = Training(optimizer=QUICK.optimizer, epochs=3)
    found, given = train(NETWORK, X, Y, how), train(NETWORK, X, Y, how.model_copy(update={"batch_size": len(X)}))
    assert found.training.batch_size == len(X)
    assert same(found.parameters, given.parameters)
    with pytest.raises(InvalidInput, match=r"training.batch_size: got 32 where there are 12 examples"):
        train(NETWORK, X, Y, Training(optimizer=QUICK.optimizer, batch_size=32))


def test_extra_epochs_come_after_the_goal_and_networks_are_frozen_then() -> None:
    short = train(NETWORK, X, Y, QUICK, seeds=3)
    how = QUICK.model_copy(update={"extra_epochs": 10, "keep_every": 1})
    long = train(NETWORK, X, Y, how, seeds=3)
    assert len(set(short.epochs)) > 1
    assert long.reached.tolist() == short.epochs.tolist()
    assert long.epochs.tolist() == (short.epochs + 10).tolist()
    assert long.statuses == ("zero-error",) * 3
    for i in range(3):
        assert alike(long.network(i, int(short.epochs[i])), short.network(i), rtol=1e-4, atol=1e-6)
        assert same(long.network(i, int(long.epochs[i])), long.network(i))
        history = long.history["error"][:, i]
        assert np.all(history[: short.epochs[i]] > 0)
        assert history[short.epochs[i]] == 0
        assert np.isnan(history[long.epochs[i] + 1 :]).all()
        assert np.isfinite(history[: long.epochs[i] + 1]).all()
    with pytest.raises(InvalidInput, match="were kept"):
        long.network(int(np.argmin(long.epochs)), int(long.epochs.max()))


def test_the_goal() -> None:
    how = QUICK.model_copy(update={"epochs": 400})
    found = train(NETWORK, X, Y, how, attack=ATTACK, seeds=3)
    assert found.statuses == ("zero-error",) * 3
    every = train(NETWORK, X, Y, how.model_copy(update={"goal": "all"}), attack=ATTACK, seeds=3)
    assert np.all(every.epochs >= found.epochs)
    assert every.epochs.sum() > found.epochs.sum()
    for i, (status, last) in enumerate(zip(every.statuses, every.epochs, strict=True)):
        both = every.history["error"][:, i] + every.history["attack_error"][:, i]
        assert (status == "zero-error") == (both[last] == 0)
        assert np.all(both[:last] > 0)
    few = train(NETWORK, X, Y, QUICK.model_copy(update={"epochs": 1}), seeds=3)
    assert few.statuses == ("epochs-spent", "epochs-spent", "zero-error")
    assert few.reached.tolist() == [-1, -1, 1]
    assert "after 1 epochs" in few.message(0)
    assert few.message(2) == ""


def test_networks_that_diverge_are_told_and_the_others_go_on() -> None:
    start = train(NETWORK, X, Y, QUICK.model_copy(update={"epochs": 0}), seeds=3)
    initial = jax.tree.map(np.copy, start.parameters)
    for leaf in jax.tree.leaves(initial):
        leaf[1] *= 1e12
    tame = Training(optimizer=SGD(learning_rate=0.01), loss="mse", batch_size=5, epochs=30, goal="none")
    found = train(NETWORK, X, Y, tame, seeds=3, initial=initial)
    assert found.statuses == ("epochs-spent", "diverged", "epochs-spent")
    assert "learning rate" in found.message(1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.parameters))
    assert found.epochs[1] < found.epochs[0] == 30
    alone = train(NETWORK, X, Y, tame, seeds=3)
    for i in (0, 2):
        assert alike(found.network(i), alone.network(i), rtol=1e-4, atol=1e-6)


def test_training_goes_on_from_given_parameters_and_rescaled_ones_have_the_same_outputs() -> None:
    first = train(NETWORK, X, Y, QUICK, seeds=3, **TEST)
    other = rescale(NETWORK, first.parameters, 5.9)
    found = train(NETWORK, X, Y, QUICK, seeds=3, initial=other, **TEST)
    assert found.reached.tolist() == found.epochs.tolist() == [0] * 3
    assert same(found.parameters, other)
    assert found.test_outputs == pytest.approx(first.test_outputs, rel=1e-4, abs=1e-5)
    on = train(NETWORK, X, Y, QUICK.model_copy(update={"extra_epochs": 3}), seeds=3, initial=other)
    assert on.epochs.tolist() == [3] * 3
    assert not alike(on.parameters, other)


def test_attack_sets_and_float32() -> None:
    inputs, labels = attack_set(X, Y)
    assert inputs is X
    assert np.array_equal(labels, -Y)
    found = train(NETWORK, X, Y, QUICK, seeds=3, attack=attack_set(ATTACK[0], ATTACK[1]))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(found.parameters))
    assert set(found.history) == {"loss", "error", "attack_loss", "attack_error"}
    rounded = train(NETWORK, X, Y, QUICK, seeds=3)
    assert set(rounded.history) == {"loss", "error"}
    precise = train(NETWORK, X, Y, QUICK.model_copy(update={"dtype": "float64"}), seeds=3)
    assert jax.tree.leaves(precise.parameters)[0].dtype == np.float64
    assert alike(precise.parameters, rounded.parameters, rtol=1e-4, atol=1e-6)


def test_networks_start_as_draws_from_the_prior() -> None:
    """The covariance of outputs of one hidden layer is the kernel at any width: 4 standard errors."""
    network = FullyConnected(depth=1, width=8, bias_std=0.5)
    how = Training(goal="none", epochs=0, batch_size=2, dtype="float64")
    f = train(network, X, Y, how, seeds=1000).outputs(X[:4])
    products = f[:, :, None] * f[:, None, :]
    stderr = products.std(axis=0) / np.sqrt(len(f))
    assert np.abs((products.mean(axis=0) - kernel(network, X[:4])) / stderr).max() < 4
    assert np.abs(f.mean(axis=0) / f.std(axis=0)).max() * np.sqrt(len(f)) < 4


def test_convolutional_networks_and_ones_own() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((9, 4, 4)), np.tile([1, -1, 1], 3)
    network = Convolutional(layers=(ConvolutionLayer(),), channels=4)
    found = train(network, images, labels, QUICK, seeds=2)
    assert found.statuses == ("zero-error",) * 2
    assert np.all(found.outputs(images) * labels > 0)
    with pytest.raises(InvalidInput, match=r"shape \(3, 4, 1\)"):
        found.outputs(images[:, :3])

    def init(key, shape):
        return (shape[0],), {"w": jax.random.normal(key, (shape[-1],))}

    own = FromNetwork(init, lambda parameters, inputs: inputs @ parameters["w"], name="linear")
    linear = train(own, X, np.where(X[:, 0] > 0, 1, -1), QUICK)
    assert linear.statuses == ("zero-error",)


class Killed(Exception):
    pass


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    monkeypatch.setattr(run, "side_by_side", lambda *_: 2)
    how = Training(
        optimizer=EntropySGD(langevin_steps=4, noise=0.01),
        batch_size=5,
        epochs=40,
        extra_epochs=2,
        keep_every=3,
        dtype="float64",
    )
    arguments = {"seeds": 4, **TEST}
    whole = train(NETWORK, X, Y, how, **arguments)
    path = tmp_path / "networks.npz"
    for after in (1, 5, 9):
        left = itertools.count(after, -1)

        def stop(event, left=left) -> None:
            if event.stage == "epochs" and event.cost is None and next(left) == 0:
                raise Killed

        with pytest.raises(Killed):
            train(NETWORK, X, Y, how, checkpoint=path, progress=stop, **arguments)
        before = Trained.load(path)
        assert "unfinished" in before.statuses
        assert before.test_outputs is None
        assert "interrupted" in before.message(before.statuses.index("unfinished"))
    found = train(NETWORK, X, Y, how, checkpoint=path, **arguments)
    again = train(NETWORK, X, Y, how, checkpoint=path, progress=lambda _: pytest.fail("nothing is left"), **arguments)
    for trained in (found, again, Trained.load(path)):
        assert trained.statuses == whole.statuses
        assert same((trained.parameters, trained.kept), (whole.parameters, whole.kept))
        assert same(dict(trained.history), dict(whole.history))
        assert np.array_equal(trained.test_outputs, whole.test_outputs)
        assert np.array_equal(trained.epochs, whole.epochs)


def test_a_file_of_another_call(tmp_path) -> None:
    path = tmp_path / "networks.npz"
    how = QUICK.model_copy(update={"epochs": 1})
    trained = train(NETWORK, X, Y, how, seeds=3, checkpoint=path)
    for named, change in {
        "seed": {"seed": 1},
        "seeds": {"seeds": 2},
        "training": {"training": QUICK},
        "examples": {"X": X + 1},
        "initial": {"initial": trained.parameters},
        "test": TEST,
    }.items():
        call = {"X": X, "y": Y, "training": how, "seeds": 3, "checkpoint": path} | change
        with pytest.raises(InvalidInput, match=rf"another call \(another .*{named}"):
            train(NETWORK, **call)
    momentum = Training(optimizer=MOMENTUM, batch_size=5, epochs=1, dtype="float64")
    train(NETWORK, X, Y, momentum, seeds=2).save(path)
    with pytest.raises(InvalidInput, match="without the optimizer's state"):
        train(NETWORK, X, Y, momentum, seeds=2, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataUnavailable):
        train(NETWORK, X, Y, momentum, seeds=2, checkpoint=path)


@pytest.mark.parametrize(
    ("change", "field", "risk"),
    [
        ({"y": np.arange(12)}, "y", "0"),
        ({"y": Y[:5]}, "y", r"got shape \(5,\) where there are 12 inputs. Pass one label per input"),
        ({"y": np.stack([Y, Y], axis=1)}, "y", r"got shape \(12, 2\) where there are 12 inputs"),
        ({"y": Y[:, None]}, "y", r"got shape \(12, 1\) .* Pass y.ravel\(\)"),
        ({"X": X * np.nan}, "X", "nan"),
        ({"training": Training(batch_size=13)}, "training.batch_size", "13 where there are 12"),
        ({"attack": (X[:, :2], Y)}, "attack[0]", r"\(2,\)"),
        ({"attack": (X, Y[:5])}, "attack[1]", r"got shape \(5,\) where there are 12 inputs"),
        ({"X_test": X[:, :2], "y_test": Y}, "X_test", r"\(2,\)"),
        ({"X_test": X, "y_test": Y[:5]}, "y_test", r"got shape \(5,\) where there are 12 inputs"),
        ({"X_test": X}, "y_test", "is missing beside X_test"),
        ({"y_test": Y}, "X_test", "is missing beside y_test"),
        ({"seeds": 0}, "seeds", "0"),
        ({"seeds": [1, 1]}, "seeds", r"\[1, 1\]"),
        ({"seeds": [-1]}, "seeds", "-1"),
        ({"seeds": True}, "seeds", "True"),
        ({"seed": -1}, "seed", "-1"),
        ({"initial": ()}, "initial", "shapes"),
        ({"checkpoint": "/nowhere/at/all.npz"}, "checkpoint", "written"),
    ],
)
def test_bad_input(change: dict, field: str, risk: str) -> None:
    arguments = {"architecture": NETWORK, "X": X, "y": Y, "training": QUICK} | change
    with pytest.raises((InvalidInput, InvalidLabels), match=risk) as refused:
        train(**arguments)
    assert refused.value.field == field


def test_extra_epochs_need_a_goal() -> None:
    with pytest.raises(InvalidInput, match="extra_epochs follow a goal"):
        Training(goal="none", extra_epochs=3)
