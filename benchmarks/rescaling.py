"""Zhang et al. 2021: another scale of two layers moves sharpness, and neither log P(f) nor the test error."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.problems import DATASETS, source
from benchmarks.report import RESULTS, Column, Table, say
from nngp_prior import FullyConnected, kernel, log_probability
from nngp_prior.data.splits import training_sets
from nngp_prior.schemas.measures.curvature import Eigenvalues
from nngp_prior.schemas.measures.neighbourhoods import Keskar
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import Threshold
from nngp_prior.sharpness import SGD, Training, finite_network, measure, rescale, train

_ALPHA = 5.9
_ARCHITECTURE = FullyConnected(depth=2, width=40)  # 784-40-40-1
_TRAIN, _TEST, _EXTRA, _SEEDS = 500, 1000, 180, 3
_QUICK_TRAIN, _QUICK_TEST, _QUICK_EXTRA = 60, 40, 4
_OF_F = 100  # test inputs that are part of f, as in the paper
_RATE = 0.01
_POINTS = 6  # before and after
_MEASURES = (Keskar(), Eigenvalues(smallest=0, tolerance=1e-4))
_PANELS = {
    "keskar": "Keskar sharpness",
    "lambda_max": "λ_max of the Hessian",
    "log_p": "log P(f), nats",
    "test_error": "test error",
}


def run(quick: bool) -> list[Table]:
    """Some networks of one architecture; writes the plot beside the table."""
    n, tested, extra = (_QUICK_TRAIN, _QUICK_TEST, _QUICK_EXTRA) if quick else (_TRAIN, _TEST, _EXTRA)
    seeds, half = 1 if quick else _SEEDS, extra // 2
    sets = training_sets(DATASETS[source()](n=n), Threshold(at=5), test=tested)
    assert sets.test is not None
    (X, y), (X_test, y_test) = ((images.reshape(len(images), -1), labels) for images, labels in (sets.train, sets.test))
    optimizer = SGD(learning_rate=_RATE)
    onwards = Training(optimizer=optimizer, goal="none", epochs=half, keep_every=max(half // _POINTS, 1))
    # Gradients of the first layer are α times as large, and so are distances in it: in the function η is α² η there.
    slower = onwards.model_copy(update={"optimizer": SGD(learning_rate=_RATE / _ALPHA**2)})
    say(f"training on {n} {source()} images")
    first = train(_ARCHITECTURE, X, y, Training(optimizer=optimizer, epochs=5000), seeds=seeds)
    before = train(_ARCHITECTURE, X, y, onwards, seeds=seeds, initial=first.parameters, seed=1)
    scaled = rescale(_ARCHITECTURE, before.parameters, _ALPHA)
    after = train(_ARCHITECTURE, X, y, slower, seeds=seeds, initial=scaled, seed=2)
    course = _Course((X, y), (X_test, y_test))
    rows = []
    for i in range(seeds):
        for shift, start, trained in ((-half, first.parameters, before), (0, scaled, after)):
            networks = {0: jax.tree.map(lambda leaf, i=i: leaf[i], start)}
            networks |= {int(epoch): trained.network(i, int(epoch)) for epoch in trained.kept_epochs}
            for epoch, parameters in networks.items():
                say(f"network {i}, epoch {shift + epoch}")
                part = "before" if shift else "after"
                rows.append({"network": i, "part": part, "epoch": shift + epoch, **course.at(parameters)})
    name = f"{datetime.date.today().isoformat()}-rescaling{'-quick' if quick else ''}.png"
    RESULTS.mkdir(exist_ok=True)
    _plot(RESULTS / name, rows)
    return [_table(rows, name, f"{n} {source()} images, {tested} of test", first.epochs.tolist())]


class _Course:
    """What is looked at in a network.

    Args:
        examples: inputs and labels of the training set.
        test: of the test set.
    """

    def __init__(self, examples: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> None:
        self._examples, self._test = examples, test
        self._network = finite_network(_ARCHITECTURE, examples[0].shape[1:])
        self._X = np.concatenate([examples[0], test[0]])
        self._of_f = len(examples[1]) + _OF_F
        self._K = kernel(_ARCHITECTURE, self._X[: self._of_f])
        self._known: dict[bytes, Estimate] = {}  # log P by the function

    def at(self, parameters: Any) -> dict[str, Any]:
        """All figures of one network; f is what it says of training inputs and some test inputs."""
        began = time.perf_counter()
        report = measure(_ARCHITECTURE, parameters, *self._examples, _MEASURES)
        labels = np.where(np.asarray(self._network.apply(parameters, self._X)) > 0, 1, -1).astype(np.int8)
        f = labels[: self._of_f]
        if f.tobytes() not in self._known:
            self._known[f.tobytes()] = log_probability(self._K, f)
        log_p = self._known[f.tobytes()]
        return {
            "keskar": report["keskar"].value,
            "lambda_max": report["lambda_max"].value,
            "log_p": log_p.value,
            "stderr": log_p.stderr,
            "test_error": float(np.mean(labels[len(self._examples[1]) :] != self._test[1])),
            "training_error": report.training_error,
            "loss": report.training_loss,
            "status": ", ".join({report["keskar"].status, report["lambda_max"].status, log_p.status}),
            "seconds": time.perf_counter() - began,
        }


def _plot(path: Path, rows: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), sharex=True)
    for axis, (key, title) in zip(axes.flat, _PANELS.items(), strict=True):
        for i in networks:
            own = [row for row in rows if row["network"] == i]  # with both sides of the rescaling at epoch 0
            colour = plt.get_cmap("viridis")(0.8 * i / max(len(networks) - 1, 1))
            epochs, values = ([row[name] for row in own] for name in ("epoch", key))
            errors = [2 * row["stderr"] if key == "log_p" else 0.0 for row in own]
            axis.errorbar(epochs, values, errors, color=colour, fmt="o-", ms=3.5, lw=1.2, label=f"network {i}")
        axis.axvline(0, color="grey", lw=1, ls=":")
        axis.set(title=title)
        if key in ("keskar", "lambda_max"):
            axis.set(yscale="log")
        elif key == "log_p":
            axis.set(ylim=(min(row[key] for row in rows) - 10, max(row[key] for row in rows) + 10))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(frameon=False, fontsize=8)
    for axis in axes[1]:
        axis.set(xlabel="epochs from the rescaling")
    axes[1, 1].set(ylim=(0, 0.5))
    figure.suptitle(f"First layer divided by α = {_ALPHA:g}, second one's weights times α, at epoch 0", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=130, bbox_inches="tight")
    plt.close(figure)


def _table(rows: list[dict[str, Any]], plot: str, data: str, reached: list[int]) -> Table:
    columns = [
        Column("network", "network"),
        Column("", "part"),
        Column("epoch", "epoch"),
        Column("Keskar", "keskar"),
        Column("λ_max", "lambda_max"),
        Column("log P(f)", "log_p", "", "stderr"),
        Column("test error", "test_error", ".3f"),
        Column("training error", "training_error", ".3f"),
        Column("loss, nats", "loss"),
        Column("status", "status"),
        Column("s", "seconds", ".1f"),
    ]
    sides = {part: [row for row in rows if (row["part"], row["epoch"]) == (part, 0)] for part in ("before", "after")}
    pairs = list(zip(sides["before"], sides["after"], strict=True))
    jumps = {
        key: ", ".join(f"{after[key] / before[key]:.3g}" for before, after in pairs) for key in ("keskar", "lambda_max")
    }
    moved = {
        key: max(abs(after[key] - before[key]) for before, after in pairs) for key in ("log_p", "test_error", "loss")
    }
    products = ", ".join(f"{_RATE * after['lambda_max']:.2g}" for _, after in pairs)
    notes = [
        f"784-40-40-1, ReLU; {data}; classes 0-4 against 5-9; sgd, η = {_RATE:g}, minibatches of 32, cross-entropy; "
        f"zero training error after {', '.join(map(str, reached))} epochs, then on",
        f"at epoch 0 the first layer is divided by α = {_ALPHA:g} and the second one's weights are multiplied by it; "
        "then the learning rate is η/α², with which the first layer moves the function as before; η λ_max "
        f"is {products} there, and with more than 2 no minimum holds",
        f"it multiplies Keskar sharpness by {jumps['keskar']} and λ_max by {jumps['lambda_max']}; it moves log P(f) by "
        f"{moved['log_p']:.1g} nats, the test error by {moved['test_error']:.1g}, the loss by {moved['loss']:.1g}",
        f"f: the network's labels of the training set and {_OF_F} test inputs, log P(f) by smc; Keskar sharpness in "
        "the whole space, ε = 1e-3, 10 iterations of L-BFGS-B",
        f"plot: {plot}",
    ]
    return Table("Rescaling: sharpness, log P(f) and test error of one function", columns, rows, notes)
