"""Results in notebooks: each kind has a typed data frame, a small table, and a plot."""

import importlib
import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

import nngp_prior
from nngp_prior import FullyConnected, LocalClient
from nngp_prior.client import Jobs, RemoteJob
from nngp_prior.client.result_readers import _KINDS
from nngp_prior.experiments import FrequencyStudy, Study, read_protocol
from nngp_prior.experiments.study import Described
from nngp_prior.kernels import inspect as inspect_kernel
from nngp_prior.prior.contributions import Contributions
from nngp_prior.prior.learning_curve import CurvePoint, LearningCurve
from nngp_prior.prior.pac_bayes import pac_bayes_bounds
from nngp_prior.prior.sampling import FunctionCounts
from nngp_prior.prior.selection import PhaseDiagram
from nngp_prior.probability.gradient import LogProbabilityGradient
from nngp_prior.schemas.results import (
    base,
    bound,
    estimate,
    experiment,
    frequencies,
    posterior,
    sample,
    selection,
    sharpness,
)
from nngp_prior.schemas.results.base import Results, refused_row
from nngp_prior.schemas.results.bound import BoundResults
from nngp_prior.schemas.results.class_predictive import ClassPredictive
from nngp_prior.schemas.results.experiment import Coefficient, ExperimentResults, SignError, Verdict
from nngp_prior.schemas.results.frequencies import FrequencyResults, FrequencyVerdict
from nngp_prior.schemas.results.posterior import PosteriorResults, Predictive
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.results.selection import Candidate, Selection
from nngp_prior.schemas.results.sharpness import SharpnessResults
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.schemas.specs.training import Training
from nngp_prior.schemas.table import SHOWN, Tabular
from nngp_prior.sharpness.curvature.lanczos import Quadrature
from nngp_prior.sharpness.measures.spectrum import Spectrum
from nngp_prior.sharpness.surface import Surface
from nngp_prior.sharpness.training.trained import Trained
from tests.client.service import FakeService, report, row
from tests.client.service import estimate as made_up

TEXT = str(pd.Series(["a"]).dtype)  # str from pandas 3 on

ONE_LINE = {
    "Row", "Result", "BoundResult", "PosteriorResult", "SharpnessResult", "TaskResult", "SampledFunction",  # rows
    "Estimate", "PacBayesBound", "GibbsError", "VoteError", "Measurement", "Verdict", "Coefficient", "SignError",
    "FrequencyVerdict", "Candidate", "CandidateResult",
    "Exact", "Replicates", "Counts", "Approximate",
}  # fmt: skip
"""Results of one value or row, whose ``repr`` is their display."""
REFUSED = refused_row(2, "invalid-labels", "labels[0] is <0>.")
NET = FullyConnected(depth=1)
C = Coefficient(0.5, 0.25, 0.75)


def rows(work: str, **request: Any) -> list[dict[str, Any]]:
    return [row(work, i, request) for i in range(2)]


def verdict() -> Verdict:
    sign_error = SignError(1, 0.1, 0.1, 0.1, 0.1)
    return Verdict("log_p", 1, "log-p", 8, 0, "linear", C, C, C, C, 0.1, 0.2, {}, 0.3, sign_error, None)


NETWORKS = tuple(
    {"setting": 0, "network": i, "test_error": 0.25, "log_p": -10.0 - i, "log_p.stderr": 0.5, "log_p.status": "ok"}
    | ({"epochs": 3} if i else {})
    for i in range(3)
)
STUDY = {"task": "study", "rows": NETWORKS, "verdicts": [verdict().as_json()], "changes": [], "problems": []}
FUNCTIONS = tuple(
    {"setting": 0, "rank": i + 1, "function": "101", "count": 5, "networks": 9, "log_frequency": -1.0 - i,
     "low": -2.0 - i, "high": -0.5 - i, "log_p": -1.5 - i, "log_p.stderr": 0.1}
    for i in range(4)
)  # fmt: skip

FREQUENCY_VERDICT = FrequencyVerdict("log_p", 0, "", 1, 4, 0, C, C, C, 0.9, C, C, C, 0.5, 0.4, None)


def study() -> Study:
    protocol = read_protocol("digits")
    setting = type("Setting", (), {"protocol": protocol})()
    return Study(protocol, (setting,), Path("folder"), NETWORKS, {"log_p": Described(1, "log-p")}, ())


def trained() -> Trained:
    loss = np.array([[0.7, 0.7], [0.1, 0.3], [math.nan, 0.05]])
    return Trained(
        NET, Training(), 0, (0, 1), [np.zeros((2, 3))], ("zero-error", "epochs-spent"), np.array([1, 2]),
        np.array([1, -1]), {"loss": loss, "error": loss}, np.array([], int), [], about={},
    )  # fmt: skip


def job(state: str) -> RemoteJob:
    document = FakeService().document("7eba9086" * 8, state, 3)
    return RemoteJob(None, {**document, "finished": "2026-11-22T10:00:05Z", "n": 4, "data": "digits"})  # pyright: ignore[reportArgumentType]


def surface(dimensions: int) -> Surface:
    at = np.linspace(-1, 1, 5)
    loss = np.add.outer(at**2, at**2) if dimensions == 2 else at**2
    specification = Landscape(points=5, dimensions=dimensions)
    lengths = np.ones(dimensions)
    return Surface(specification, (at,) * dimensions, loss + 0.1, loss / 4, lengths, None, None, {"loss": "mse"})


EXAMPLES: dict[str, tuple[Any, int]] = {
    "Results": (lambda: Results([*rows("estimates"), REFUSED], {"n": 4}), 3),
    "BoundResults": (lambda: BoundResults([*rows("bounds"), REFUSED]), 3),
    "BoundResults of sizes": (lambda: BoundResults(rows("bounds", sizes=[2, 4])), 4),
    "PosteriorResults": (lambda: PosteriorResults([*rows("posteriors", train=2), REFUSED]), 3),
    "ClassPredictive": (lambda: ClassPredictive(np.eye(3), np.zeros((3, 3)), np.zeros(3), 31), 3),
    "Predictive": (lambda: Predictive(np.array([0.1, 0.5, 0.9]), np.array([0.0, 0.1, 0.01]), 31), 3),
    "Samples": (lambda: Samples(row("samples", 0, {"complexities": ["entropy"]})), 1),
    "Report": (lambda: report(0), 1),
    "SharpnessResults": (lambda: SharpnessResults([*rows("sharpness"), REFUSED]), 3),
    "ExperimentResults": (lambda: ExperimentResults({**STUDY, "summary": "s"}), 3),
    "FrequencyResults": (
        lambda: FrequencyResults(
            {**STUDY, "rows": FUNCTIONS, "verdicts": [FREQUENCY_VERDICT.as_json()], "summary": "s"},
            {"protocol": read_protocol("boolean").as_json},
        ),
        4,
    ),
    "Study": (study, 3),
    "FrequencyStudy": (lambda: FrequencyStudy(read_protocol("boolean"), (), Path(), (), FUNCTIONS, ()), 4),  # pyright: ignore[reportArgumentType]
    "LearningCurve": (
        lambda: LearningCurve([CurvePoint(m, made_up(0, m), pac_bayes_bounds(made_up(0, m))) for m in (5, 10)]),
        2,
    ),
    "Contributions": (
        lambda: Contributions(np.array([1, 0]), np.array([1, 2]), np.array([-0.7, -0.3]), np.full(2, 0.1), made_up(0)),
        2,
    ),
    "LogProbabilityGradient": (
        lambda: LogProbabilityGradient(made_up(0), np.ones(2), np.full(2, 0.1), np.ones(2), ("weight_std", "bias_std")),
        2,
    ),
    "Selection": (lambda: Selection([Candidate(NET, False, made_up(0)), Candidate(NET, True, made_up(1))], 9), 2),
    "PhaseDiagram": (lambda: PhaseDiagram(NET, np.ones(1), np.array([0.1, 1.0]), -np.ones((1, 2))), 2),
    "FunctionCounts": (
        lambda: FunctionCounts(
            np.array([[160], [32]], np.uint8), np.array([6, 1]), 3, 9, 2, np.zeros(3, int), {"source": "gp"}
        ),
        2,
    ),
    "Inspection": (lambda: inspect_kernel(np.eye(3) + 0.5), 3),
    "Trained": (trained, 2),
    "Surface": (lambda: surface(1), 5),
    "Surface of a plane": (lambda: surface(2), 25),
    "Spectrum": (lambda: Spectrum(2, (Quadrature(np.array([1.0, 2.0]), np.array([0.5]), exact=True),), False), 2),
    "LocalJob": (lambda: LocalClient().estimate(NET, np.eye(3), [1, -1, 1], method="ep"), 1),
    "RemoteJob": (lambda: job("running"), 1),
    "Jobs": (lambda: Jobs([job("successful"), job("failed")]), 2),
}


@pytest.fixture(autouse=True)
def _no_screen() -> Iterator[None]:
    with mpl.rc_context({"backend": "agg"}):
        yield
    pyplot.close("all")


def modules() -> list[Any]:
    """Modules with classes that extend the one with a table, or one that extends it: importing all takes seconds."""
    package = Path(nngp_prior.__file__).parent
    extends = re.compile(r"^class \w+\(.*(Tabular|BaseJob|Results)", re.MULTILINE)
    paths = [path for path in package.rglob("*.py") if extends.search(path.read_text(encoding="utf-8"))]
    names = [path.relative_to(package.parent).with_suffix("").parts for path in paths]
    return [importlib.import_module(".".join(parts)) for parts in names]


def test_every_kind_of_result_has_a_display() -> None:
    """A new kind without one, or without an example below, fails here."""
    found = {each for module in modules() for _, each in inspect.getmembers(module, inspect.isclass)}
    tables = {each.__name__ for each in found if issubclass(each, Tabular) and not inspect.isabstract(each)}
    assert tables == {name.partition(" ")[0] for name in EXAMPLES}
    defined = {
        name
        for module in (base, bound, estimate, experiment, frequencies, posterior, sample, selection, sharpness)
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and not name.startswith("_")
    }
    assert defined - tables == ONE_LINE
    read = {reader.all.__qualname__ for reader in _KINDS.values() if isinstance(reader.all, type)}
    assert read <= tables


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_result_is_shown_as_one_line_a_table_a_frame_and_a_plot(name: str) -> None:
    make, count = EXAMPLES[name]
    shown: Tabular = make()
    assert repr(shown).startswith(f"<{type(shown).__name__} ")
    assert "\n" not in repr(shown)

    frame = shown.to_pandas()
    assert len(frame) == count
    assert {str(dtype) for dtype in frame.dtypes} <= {"float64", "int64", "bool", TEXT, "datetime64[ns, UTC]"}

    table = shown._repr_html_()
    rows_shown = len(shown._overview().rows)
    assert table.count("<tr>") == 1 + min(rows_shown, SHOWN)
    assert ("more</p>" in table) == (rows_shown > SHOWN)
    assert not re.search("color|background|<script", table)
    assert set(re.findall(r"</?(\w+)", table)) <= {"p", "table", "tr", "th", "td"}

    axes = shown.plot()
    assert axes.lines or axes.collections or axes.patches
    assert axes.get_xlabel()
    assert axes.get_ylabel() or axes.get_yticklabels()
    assert "log P" not in axes.get_ylabel() or "nats" in axes.get_ylabel()
    own = pyplot.figure().subplots()
    assert shown.plot(own) is own
    own.figure.canvas.draw()


def test_values_that_are_missing_are_nan_and_texts_are_escaped() -> None:
    results = Results([*rows("estimates"), REFUSED])
    frame = results.to_pandas()
    assert frame.loc[2, ["log_p", "stderr", "low", "high", "lower_bound"]].isna().all()
    assert frame.loc[2, "message"] == "labels[0] is <0>."
    assert "labels[0] is &lt;0&gt;." in results._repr_html_()
    assert frame["log_p"].tolist()[:2] == results.values.tolist()[:2]


def test_columns_of_networks_are_typed_by_their_values() -> None:
    frame = EXAMPLES["ExperimentResults"][0]().to_pandas()
    assert frame.dtypes.astype(str).to_dict() == {
        "setting": "int64", "network": "int64", "test_error": "float64", "log_p": "float64", "log_p.stderr": "float64",
        "log_p.status": TEXT, "epochs": "float64",
    }  # fmt: skip
    assert math.isnan(frame["epochs"][0])


def test_only_the_rows_that_are_shown_are_computed() -> None:
    results = Results(rows("estimates") * 50)
    assert "<p>… and 80 more</p>" in results._repr_html_()
    assert sum("estimate" in vars(result) for result in results) == SHOWN
