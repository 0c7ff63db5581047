"""Training to zero error: 784-40-40-1 on MNIST, with and without an attack set, and many networks side by side."""

from __future__ import annotations

import functools
import time

from benchmarks.problems import DATASETS, source
from benchmarks.report import Column, Table, say
from benchmarks.timing import measure
from nngp_prior import FullyConnected
from nngp_prior.data.splits import Sets, training_sets
from nngp_prior.schemas.specs.data import Threshold
from nngp_prior.sharpness import Trained, Training, train

NETWORK = FullyConnected(depth=2, width=40, bias_std=1.0)
HOW = Training()  # SGD, learning rate 0.01, minibatches of 32
_SEEDS = 20


def run(quick: bool) -> list[Table]:
    """Times with everything compiled; the first call, which compiles, beside them."""
    n, seeds = (50, 4) if quick else (500, _SEEDS)
    return [_to_zero_error(n), _side_by_side(n, seeds)]


def _sets(n: int, attack: int) -> Sets:
    return training_sets(DATASETS[source()](n=n), Threshold(at=5), attack, 300)


def _train(sets: Sets, seeds: int | list[int]) -> Trained:
    X_test, y_test = sets.test or (None, None)
    return train(NETWORK, *sets.train, HOW, seeds=seeds, attack=sets.attack, X_test=X_test, y_test=y_test)


def _to_zero_error(n: int) -> Table:
    rows = []
    for attack in (0, n):
        say(f"one network to zero error, n = {n}, attack set of {attack}")
        sets = _sets(n, attack)
        began = time.perf_counter()
        _train(sets, 1)
        first = time.perf_counter() - began
        trained, seconds = measure(functools.partial(_train, sets, 1))
        epochs = int(trained.epochs[0])
        rows.append(
            {
                "n": n,
                "attack": attack,
                "status": trained.statuses[0],
                "epochs": epochs,
                "test_error": float(trained.test_error[0]),
                "first_s": first,
                "seconds": seconds,
                "epoch_ms": 1000 * seconds / epochs,
            }
        )
    columns = [
        *(Column(name, name) for name in ("n", "attack", "status", "epochs")),
        Column("test error", "test_error", ".3f"),
        Column("first call, s", "first_s"),
        Column("s", "seconds"),
        Column("ms an epoch", "epoch_ms"),
    ]
    notes = [
        f"{source()}; 784-40-40-1 for MNIST, SGD with learning rate 0.01, minibatches of 32, float32",
        "first call: with compilation",
    ]
    return Table("Training to zero error", columns, rows, notes)


def _side_by_side(n: int, seeds: int) -> Table:
    """The same networks side by side, and one after another."""
    rows = []
    for attack in (0, n):
        sets = _sets(n, attack)
        say(f"{seeds} networks, n = {n}, attack set of {attack}: side by side")
        together = measure(functools.partial(_train, sets, seeds))
        say("one after another")
        apart = measure(lambda sets=sets: [_train(sets, [seed]) for seed in range(seeds)])
        rows.append(
            {
                "n": n,
                "attack": attack,
                "networks": seeds,
                "epochs": int(together.value.epochs.sum()),
                "apart_s": apart.seconds,
                "together_s": together.seconds,
                "ratio": apart.seconds / together.seconds,
                "epoch_ms": 1000 * together.seconds / int(together.value.epochs.sum()),
                "same_epochs": [int(each.epochs[0]) for each in apart.value] == together.value.epochs.tolist(),
            }
        )
    columns = [
        *(Column(name, name) for name in ("n", "attack", "networks", "epochs")),
        Column("one after another, s", "apart_s"),
        Column("side by side, s", "together_s"),
        Column("ratio", "ratio", ".2f"),
        Column("ms an epoch of one", "epoch_ms"),
        Column("same epochs", "same_epochs"),
    ]
    notes = ["both compiled; epochs: of all networks; same epochs: whether each network ends after as many either way"]
    return Table("Networks side by side", columns, rows, notes)
