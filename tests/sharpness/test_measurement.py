import json
import math
import subprocess
import sys
from collections.abc import Mapping
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from nngp_prior import FullyConnected, sharpness
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import Eigenvalues, FisherRaoNorm, Frobenius, Trace
from nngp_prior.schemas.measures.registry import MEASURES_BY_KIND, Measure, measure_of
from nngp_prior.schemas.results.sharpness import Report
from nngp_prior.sharpness import finite_network, measure
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures.registry import MEASURES
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from tests.sharpness.cases import CASES, RELU, SMALL, Case, data, dense, of_matrix, relative, small, trained


def test_each_specification_has_an_implementation_and_a_case() -> None:
    members = set(get_args(get_args(Measure)[0]))
    assert members == set(MEASURES) == set(MEASURES_BY_KIND.values()) == {type(case.exact) for case in CASES}


def names_of(case: Case) -> str:
    return case.exact.kind


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] * (not (case.alpha or case.node))) for case in CASES],
    ids=names_of,
)
def test_a_figure_stays_under_rescaling_exactly_if_its_case_says_so(case: Case) -> None:
    risk = trained()
    parameters = risk.unravel(np.asarray(risk.theta))
    before = measure_risk(risk, [case.exact], 0).measurements[0].value
    for moved, stays in (
        (rescale(RELU, parameters, 5.9), case.alpha),
        (rescale_nodes(RELU, parameters, 5.9, seed=1), case.node),
    ):
        at = risk.at(risk.network.flatten(moved))
        assert float(at.loss(at.theta)) == pytest.approx(float(risk.loss(risk.theta)), rel=1e-9)
        after = measure_risk(at, [case.exact], 0).measurements[0].value
        assert math.isfinite(after)
        if stays:
            assert after == pytest.approx(before, rel=1e-9)
        else:
            assert relative(after, before) > 0.01


def test_alpha_raises_curvature_about_as_much_as_it_did_elsewhere() -> None:
    """In a network of 659 parameters λ_max rose by 12, the trace by 20, the norm by 15; by α² = 35 at most."""
    risk = trained(4)
    moved = risk.at(risk.network.flatten(rescale(RELU, risk.unravel(risk.theta), 5.9)))
    measures = [Eigenvalues(), Trace(), Frobenius(probes=100)]
    before, after = (measure_risk(at, measures, 0) for at in (risk, moved))
    for name, ratio in (("lambda_max", 12), ("trace", 20), ("frobenius", 15)):
        assert ratio / 2 < after[name].value / before[name].value < min(2 * ratio, 5.9**2)


PARAMETERS = finite_network(SMALL, (4,)).init(1)
XY = data(20, 4)


def test_the_report_says_what_was_measured_of_what() -> None:
    events = []
    report = measure(SMALL, PARAMETERS, *XY, ["eigenvalues", FisherRaoNorm()], progress=events.append, chunk=8)
    risk = small("cross-entropy", "relu")
    assert report.training_loss == pytest.approx(float(risk.loss(risk.theta)))
    assert report.training_error == float(risk.error(risk.theta))
    assert report.gradient_norm == pytest.approx(float(np.linalg.norm(risk.gradient(risk.theta))))
    assert (report.n, report.parameters, report.dtype, report.loss) == (20, 61, "float64", "cross-entropy")
    assert report["lambda_max"].value == pytest.approx(np.linalg.eigvalsh(dense(risk))[-1], rel=1e-6)
    assert report["lambda_max"].options["max_steps"] == 300
    assert report["lambda_max"].seconds > 0
    assert {"jax", "matfree"} <= set(report.versions)
    assert events[-1].done == events[-1].total
    assert str(report["lambda_max"]).startswith("lambda_max = ")
    assert [each.measure for each in report.values()] == ["eigenvalues", "eigenvalues", "fisher-rao-norm"]
    assert Report(**json.loads(json.dumps(report.document()))) == report


def test_a_figure_depends_on_its_seed_and_on_nothing_else_that_is_measured() -> None:
    risk = small()
    alone = measure_risk(risk, [Trace(probes=4)], 3)["trace"]
    among = measure_risk(risk, [Frobenius(probes=5), Trace(probes=4)], 3)["trace"]
    other = measure_risk(risk, [Trace(probes=4)], 4)["trace"]
    assert alone.value == among.value != other.value


@pytest.mark.parametrize(
    ("measures", "message"),
    [
        (["flat"], "measures: got 'flat'. Choose from eigenvalues, trace"),
        (["eigenvalue"], "measures: got 'eigenvalue'. Did you mean eigenvalues[^?]*[?] There are eigenvalues, trace"),
        (["spectral_density"], "measures: got 'spectral_density'. Did you mean spectral-density"),
        ([], "measures: are none"),
        ([SMALL], "measures: got FullyConnected"),
        ([Trace(layer="dense 4")], "layer: got 'dense 4'. Choose one of dense 1, dense 2, dense 3"),
        (["trace", Eigenvalues(layer="hidden")], "layer: got 'hidden'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(measures: list, message: str) -> None:
    told = []
    with pytest.raises(InvalidInput, match=f"^{message}"):
        measure(SMALL, PARAMETERS, *XY, measures, progress=told.append)
    assert not told


def test_fields_are_checked() -> None:
    with pytest.raises(InvalidInput, match=r"^probes: got 1. Pass a number from 2 to 1,000,000, or 'basis'"):
        measure_of("trace", probes=1)
    with pytest.raises(InvalidInput, match=r"largest and smallest are both 0: ask for at least one"):
        measure_of("eigenvalues", largest=0, smallest=0)
    with pytest.raises(InvalidInput, match=r"^probe: Trace has no such field"):
        measure_of("trace", probe=10)
    assert TypeAdapter(Measure).validate_python({"kind": "trace", "probes": "basis"}) == Trace(probes="basis")


_WRONG_TYPES = """
from nngp_prior import FullyConnected
from nngp_prior.sharpness import EmpiricalRisk, Trace, landscape, measure, spectral_density, train

network, X, y = FullyConnected(depth=1, width=2), [[1.0, 2.0]], [1]
for call in (
    lambda: measure("fully-connected", (), X, y),
    lambda: measure((), network, X, y),
    lambda: measure(network, (), X, y, 5),
    lambda: landscape(network, (), X, y, Trace()),
    lambda: spectral_density(network),
    lambda: EmpiricalRisk.of(network, (), X, y, chunk=2.5),
    lambda: measure(network, (), (X, y), ["trace"]),
    lambda: train(network, (X, y), None),
    lambda: train(network, X, y, attack=X),
):
    try:
        call()
    except ValueError as error:
        print(error)
"""


def test_wrong_types_are_refused_with_a_message() -> None:
    """In a process of its own, since here all types are checked."""
    done = subprocess.run([sys.executable, "-c", _WRONG_TYPES], capture_output=True, text=True, check=True)
    starts = ["architecture: got '", "architecture: got (", "measures: got 5", "specification: got Trace("]
    starts += [
        "risk: is a FullyConnected",
        "chunk: got 2.5",
        "X: is not an array of real",
        "X: is not an array of real",
    ]
    starts += ["attack: got list, not a pair (X, y). Pass inputs and labels, such as attack_set(X, y)"]
    for line, start in zip(done.stdout.splitlines(), starts, strict=True):
        assert line.startswith(start)


def test_a_loss_that_is_not_finite_is_a_status() -> None:
    huge = FullyConnected(depth=1, width=2, weight_std=1e90)
    report = measure(huge, finite_network(huge, (4,)).init(0), *XY, ["trace", "eigenvalues"], loss="mse")
    assert not math.isfinite(report.training_loss)
    assert [(each.name, each.status) for each in report.values()] == [
        ("trace", "not-finite"),
        ("eigenvalues", "not-finite"),
    ]
    assert "the loss is not finite" in report.measurements[0].message
    assert json.loads(json.dumps(report.document()))["measurements"][0]["value"] == "NaN"


def test_a_figure_that_is_not_finite_is_a_status() -> None:
    """Eigenvalues whose squares overflow: loss and gradient are 0."""
    measures = ["frobenius", "eigenvalues", "trace", "spectral-density"]
    report = measure_risk(of_matrix(np.diag(1e200 * np.arange(1, 10))), [measure_of(kind) for kind in measures], 0)
    assert report["trace"].status == "ok"
    for name in ("frobenius", "lambda_max", "negative_mass", "zero_mass"):
        assert report[name].status == "not-finite"
        assert not math.isfinite(report[name].value)


def test_a_report_is_a_mapping_whose_keys_name_differing_options() -> None:
    report = measure_risk(small(), [Trace(probes=4), Trace(probes=5), Frobenius(probes=4)], 0)
    assert isinstance(report, Mapping)
    assert list(report) == ["trace(probes=4)", "trace(probes=5)", "frobenius"]
    assert [report[name] for name in report] == list(report.measurements)
    assert dict(report)["frobenius"] is report.measurements[-1]
    assert "trace" not in report
    with pytest.raises(KeyError, match=r"no quantity is called 'trace'; there are: trace\(probes=4\), trace"):
        report["trace"]
    assert list(measure_risk(small(), [Trace(probes=4), Trace(probes=4)], 0)) == ["trace", "trace #2"]


def test_public_names_are_there() -> None:
    for name in sharpness.__all__:
        assert getattr(sharpness, name).__name__ == name
