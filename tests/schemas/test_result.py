"""Results as they were sent."""

import math
import sys

import numpy as np
import pytest

from nngp_prior import log_probability
from nngp_prior.errors import MissingExtra
from nngp_prior.schemas.results.base import Result, Results, refused_row, row_of
from nngp_prior.schemas.results.estimate import Approximate, Estimate
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits
from tests.cases import equicorrelated

ESTIMATE = log_probability(equicorrelated(6, 0.5), [1, 1, -1, 1, 1, -1])
ROWS = [row_of(0, ESTIMATE), refused_row(1, "invalid-labels", "labels[0] is <0>.")]


@pytest.mark.parametrize(
    "estimate",
    [
        ESTIMATE,
        log_probability(equicorrelated(6, 0.5), [1] * 6, method="ep"),
        log_probability(np.ones((2, 2)), [1, -1]),
        Estimate(value=-2.0, stderr=math.inf, n=3, method="smc", status="no-hits", message="m"),
        Estimate(
            value=-2.0,
            stderr=0.5,
            n=3,
            method="smc",
            evidence=Approximate(log_p=-2.0, standard_error=0.5, freedom=9),
        ),
    ],
)
def test_a_result_reads_as_the_estimate_that_it_came_from(estimate: Estimate) -> None:
    result = Result(row_of(4, estimate))
    for name in ("value", "stderr", "method", "status", "message"):
        assert getattr(result, name) == getattr(estimate, name)
    assert result.interval() == estimate.interval()
    assert result.interval(0.8) == estimate.interval(0.8)
    assert result.lower_bound() == estimate.lower_bound()
    assert result.lower_bound(0.2) == estimate.lower_bound(0.2)
    assert result.estimate is not None
    assert result.estimate.model_copy(update={"seconds": estimate.seconds}) == estimate
    assert set(result.diagnostics) == set(estimate.diagnostics)
    assert result.labelling == 4


def test_a_refused_row_has_no_numbers() -> None:
    result = Result(ROWS[1])
    assert math.isnan(result.value)
    assert (result.stderr, result.interval(), result.lower_bound(), result.method) == (None, None, None, None)
    assert result.estimate is None
    assert result.status == "invalid-labels"
    assert repr(result) == "labelling 1: log P = nan nats [invalid-labels]"


def test_arrays_of_all_results() -> None:
    results = Results(ROWS, {"n": 6})
    np.testing.assert_array_equal(results.values, [ESTIMATE.value, math.nan])
    np.testing.assert_array_equal(results.stderrs, [ESTIMATE.stderr, math.nan])
    assert results.about == {"n": 6}
    assert Results([]).values.shape == (0,)


def test_html_is_escaped_and_short() -> None:
    table = Results(ROWS)._repr_html_()
    assert f"{ESTIMATE.value:.4f}" in table
    assert "labels[0] is &lt;0&gt;." in table
    many = Results([refused_row(i, "invalid-labels", "") for i in range(50)])._repr_html_()
    assert many.count("<tr>") == 21
    assert "30 more" in many


def test_a_data_frame_has_a_line_a_labelling() -> None:
    frame = Results(ROWS).to_pandas()
    assert type(frame).__name__ == "DataFrame"
    first, second = (frame.iloc[i] for i in range(2))
    low, high = ESTIMATE.interval()
    assert (first["log_p"], first["low"], first["high"], first["status"]) == (ESTIMATE.value, low, high, "ok")
    assert first["lower_bound"] == ESTIMATE.lower_bound()
    assert math.isnan(second["log_p"])
    assert second["message"] == "labels[0] is <0>."


@pytest.mark.parametrize(
    ("module", "extra", "call"), [("pandas", "notebooks", "to_pandas"), ("matplotlib.pyplot", "plots", "plot")]
)
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, module: str, extra: str, call: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf'^{module.partition(".")[0]}: is not installed.*"nngp-prior\[{extra}\]"'):
        getattr(Results(ROWS), call)()


def test_a_plot_has_a_point_and_a_bar_a_labelling() -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots()
    results = Results([*ROWS, row_of(2, ESTIMATE)])
    assert results.plot(axes) is axes
    (points,) = axes.lines
    np.testing.assert_array_equal(points.get_xydata(), [[i, ESTIMATE.value] for i in (0, 2)])
    (bars,) = axes.collections
    np.testing.assert_array_equal(bars.get_segments()[1], [[2, end] for end in ESTIMATE.interval()])


def test_a_plot_is_titled_as_the_command_lines_and_its_ticks_are_the_labellings() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    dataset, architecture = Digits(n=10).model_dump(mode="json"), FullyConnected(depth=3).model_dump(mode="json")
    about = {"n": 1000, "dataset": dataset, "architecture": architecture}
    axes = Results([row_of(i, ESTIMATE) for i in range(2)], about).plot()
    assert axes.get_title() == "1,000 digits (train split), fully-connected, depth 3, relu"
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [0, 1]
    whole = axes.figure.bbox
    for text in (axes.yaxis.label, axes.xaxis.label, axes.title):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 < box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 < box.y1 <= whole.y1, text
    uploaded = {"n": 60, "dataset": {"kind": "blob", "sha256": "0" * 64}}
    assert Results([row_of(0, ESTIMATE)], uploaded).plot().get_title() == "60 inputs"
    matplotlib.pyplot.close("all")
