"""Measures of sharpness as they were sent."""

import json
import math

import pytest

from nngp_prior.errors import NngpPriorError
from nngp_prior.schemas.results.base import refused_row
from nngp_prior.schemas.results.sharpness import Measurement, Report, SharpnessResults, refused_measure, sharpness_row

TRACE = Measurement(measure="trace", name="trace", value=2.5, stderr=0.5, options={"probes": 9}, gradients=18)
LARGEST = Measurement(measure="eigenvalues", name="lambda_max", value=math.inf, status="not-finite", message="Large.")
SMALLEST = Measurement(measure="eigenvalues", name="lambda_min", value=-1.0)
ABOUT = {"loss": "mse", "n": 4, "parameters": 7, "dtype": "float32", "seed": 3, "versions": {"jax": "1"}}
NETWORK = {"training_loss": 0.25, "training_error": 0.5, "gradient_norm": 1.5}


def report(*measurements: Measurement) -> Report:
    return Report.model_validate({"measurements": measurements, **NETWORK, **ABOUT})


ROWS = [
    sharpness_row(0, "trace", report(TRACE)),
    refused_measure(1, "keskar", "batch: got 9."),
    sharpness_row(2, "eigenvalues", report(LARGEST, SMALLEST)),
    refused_row(3, "worker-crashed", "It died."),
]
SENT = json.loads(json.dumps(ROWS, allow_nan=False))


def test_a_report_is_the_one_that_was_sent() -> None:
    found = SharpnessResults(SENT, ABOUT)
    assert found.report == report(TRACE, LARGEST, SMALLEST)
    assert [(each.measure, each.status, len(each.measurements)) for each in found] == [
        ("trace", "ok", 1),
        ("keskar", "invalid-measure", 0),
        ("eigenvalues", "ok", 2),
        (None, "worker-crashed", 0),
    ]
    assert repr(found[2]) == "lambda_max = inf [not-finite]; lambda_min = -1"
    assert repr(found[3]) == "measure [worker-crashed]"
    assert (found[3].message, found[1].message) == ("It died.", "batch: got 9.")


def test_without_figures_there_is_no_report() -> None:
    with pytest.raises(NngpPriorError, match=r"none has a figure \(batch: got 9\.\)"):
        _ = SharpnessResults(SENT[1:2], ABOUT).report


def test_a_data_frame_has_a_row_for_each_quantity_and_each_refused_measure() -> None:
    frame = SharpnessResults(SENT, ABOUT).to_pandas()
    assert frame["name"].tolist() == ["trace", "keskar", "lambda_max", "lambda_min", ""]
    assert frame["status"].tolist() == ["ok", "invalid-measure", "not-finite", "ok", "worker-crashed"]
    assert frame["value"].isna().tolist() == [False, True, False, False, True]
    assert frame["message"][1] == "batch: got 9."
    assert "batch: got 9." in SharpnessResults(SENT[1:2], ABOUT)._repr_html_()


def test_quantities_of_one_name_differ_by_their_options() -> None:
    two = [TRACE.model_copy(update={"options": {"probes": probes}}) for probes in (9, 30)]
    rows = [sharpness_row(i, "trace", report(each)) for i, each in enumerate(two)]
    found = SharpnessResults(rows, ABOUT)
    assert found.to_pandas()["name"].tolist() == list(found.report) == ["trace(probes=9)", "trace(probes=30)"]
    assert found.report.to_pandas()["name"].tolist() == list(found.report)
