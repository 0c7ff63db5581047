"""Courses: networks are measured past zero error, and a rescaling changes flatness but no function."""

import json
from pathlib import Path

import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.experiments import Study, read_protocol, run
from nngp_prior.experiments.changes import changes
from nngp_prior.experiments.report import write_report
from nngp_prior.schemas.protocols import Course, Moment, Protocol
from nngp_prior.sharpness import Training, measure, train
from nngp_prior.sharpness.rescaling import rescale
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.sharpness.training.trained_functions import training_sets_of
from tests.experiments.cases import NETWORKS, written

CHANGES = [
    "axes={}",
    "training.epochs=200",
    'training.optimizer={ kind = "sgd", learning_rate = 0.1 }',
    "training.batch_size=8",
    "course.epochs=8",
    "course.every=2",
    "course.rescale_after=4",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("course")
    return run(read_protocol(written(folder, NETWORKS), CHANGES), folder / "study")


def test_moments_are_those_before_and_after_the_rescaling() -> None:
    assert Course(epochs=4, every=2).moments == [Moment(epoch, False) for epoch in (0, 2, 4)]
    both = Course(epochs=6, every=2, rescale_after=2).moments
    assert both == [Moment(0, False), Moment(2, False), Moment(2, True), Moment(4, True), Moment(6, True)]


@pytest.mark.parametrize("change", ["course.every=3", "course.rescale_after=3", "course.rescale_after=8"])
def test_intervals_that_do_not_fit_are_refused(change: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="course"):
        read_protocol(written(tmp_path, NETWORKS), [*CHANGES, change])


def test_networks_are_measured_at_each_moment(study: Study) -> None:
    """The fourth moment is the first one after the rescaling, the fifth one two epochs later."""
    assert [(row["network"], row["epoch"], row["rescaled"]) for row in study.rows[:6]] == [
        (0, 0, False), (0, 2, False), (0, 4, False), (0, 4, True), (0, 6, True), (0, 8, True)
    ]  # fmt: skip
    own = study.protocol
    first, before, _ = (Trained.load(path) for path in sorted((study.folder / "networks").iterdir(), key=_order))
    sets = training_sets_of(first)
    scaled = rescale(own.architecture, before.parameters, 5.9)
    training = own.training.model_copy(update={"goal": "none", "epochs": 2})
    after = train(own.architecture, *sets.train, Training.model_validate(training.model_dump()), seeds=2,
                  initial=scaled, seed=study.settings[0].seed)  # fmt: skip
    for place, network in ((0, first.network(1)), (2, before.network(1)), (4, after.network(1))):
        report = measure(own.architecture, network, *sets.train, ["trace"], seed=own.seed)
        assert study.rows[6 + place]["trace"] == pytest.approx(report["trace"].value, rel=1e-5)
        assert study.rows[6 + place]["training_loss"] == pytest.approx(report.training_loss, rel=1e-5)


def _order(path: Path) -> int:
    return ("before" in path.stem) + 2 * ("after" in path.stem)


def test_a_rescaling_changes_the_trace_and_no_function(study: Study) -> None:
    found = {change.name: change for change in changes(study)}
    assert found["test_error"].change == 0
    assert found["log_p"].change == pytest.approx(0, abs=1e-9)
    assert found["trace"].factor
    assert found["trace"].change > 2
    pairs = np.array([row["trace"] for row in study.rows if row["epoch"] == 4]).reshape(2, 2)
    ratios = np.log(pairs[:, 1] / pairs[:, 0])
    assert found["trace"].change == pytest.approx(np.exp(ratios.mean()))
    assert found["trace"].stderr == pytest.approx(ratios.std(ddof=1) / 2**0.5)


def test_the_report_of_a_course(study: Study) -> None:
    assert write_report(study) == []
    html = (study.folder / "report.html").read_text()
    assert html.count("<svg") == 1
    assert "changes Hessian trace by a factor of" in html
    assert {"test_error", "trace"} < {row["name"] for row in json.loads((study.folder / "changes.json").read_text())}
    assert "| log P(f) |" in (study.folder / "report.md").read_text()


def test_an_interrupted_course_continues(study: Study, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if any((tmp_path / "networks").glob("*-before.npz")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study.protocol, tmp_path, progress=stop)
    assert run(study.protocol, tmp_path).rows == study.rows


@pytest.mark.parametrize(("alpha", "diverged"), [(30, [2, 0]), (1e-3, [2, 2])])
def test_networks_that_diverge_after_the_rescaling_are_explained(
    study: Study, tmp_path: Path, alpha: float, diverged: list[int]
) -> None:
    """Moments after divergence have a status instead of values, also if no network is left."""
    own = study.protocol.as_json
    own["architecture"]["activation"] = "leaky-relu"
    own["training"] |= {"loss": "mse", "optimizer": {"kind": "sgd", "learning_rate": 0.02}}
    own["course"] |= {"alpha": alpha}
    own["quantities"] = ["trace"]
    found = run(Protocol.model_validate(own), tmp_path)
    ended = np.array([row["status"] == "diverged" for row in found.rows])
    assert ended.reshape(2, 6).sum(axis=1).tolist() == diverged
    assert np.isnan(found.column("trace")).tolist() == ended.tolist()
    assert any("learning rate" in problem for problem in found.problems)
