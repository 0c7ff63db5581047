"""Requests for studies of functions: the results of the library, in phases that other processes may carry out."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from api.work import WORK, Limits
from nngp_prior import LocalClient
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.experiments import run
from nngp_prior.experiments.frequencies.analysis import summary, verdicts
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.experiment import ExperimentResults
from nngp_prior.schemas.results.frequencies import FrequencyResults

BITS: dict[str, Any] = {
    "kind": "frequencies",
    "name": "bits",
    "data": {"dataset": {"kind": "boolean", "bits": 3}},
    "architecture": {"kind": "fully-connected", "width": 4},
    "axes": {"width": [4, 5]},
    "seeds": 4000,
    "min_count": 20,
    "functions": 12,
    "statistics": {"resamples": 100},
    "quantities": [{"kind": "log-p", "estimator": {"kind": "ep"}}, "entropy"],
}
TRAINED: dict[str, Any] = {
    "kind": "frequencies",
    "name": "trained",
    "data": {"dataset": {"kind": "digits", "n": 8}, "labelling": {"kind": "threshold", "at": 5}, "test": 3},
    "architecture": {"kind": "fully-connected", "width": 3},
    "training": {"optimizer": {"kind": "sgd", "learning_rate": 0.5}, "batch_size": 8, "epochs": 60},
    "seeds": 12,
    "min_count": 1,
    "functions": 4,
    "statistics": {"resamples": 100},
    "quantities": ["log-posterior"],
}


def assert_same(found: ExperimentResults, protocol: FrequencyProtocol, folder: Path) -> None:
    """The results are those of the library, bit for bit."""
    study = run(protocol, folder)
    assert isinstance(found, FrequencyResults)
    assert list(found.rows) == list(study.rows)
    assert [each.as_json() for each in found.verdicts] == [each.as_json() for each in verdicts(study)]
    assert found.problems == study.problems
    assert found.to_csv() == study.to_csv() == (folder / "results.csv").read_text()
    assert (found.protocol, found.state) == (protocol, study.state)
    assert found.summary == " ".join(summary(found.verdicts, protocol.training is not None))


@pytest.mark.parametrize("document", [BITS, TRAINED], ids=["random", "trained"])
def test_local_client_returns_results_of_the_library(document: dict[str, Any], tmp_path: Path) -> None:
    protocol = FrequencyProtocol.model_validate(document)
    with LocalClient() as local:
        job = local.experiment(document)
        assert_same(job.result(), protocol, tmp_path)
        assert "log frequency" in job.report("html")
        assert len(list(job.results())) == len(ExperimentRunner(tmp_path).plan(job._request).tasks) + 1


def test_functions_are_chosen_after_all_networks_and_before_quantities(tmp_path: Path) -> None:
    runner = RequestRunner(KernelCache(tmp_path, 10**9), studies=tmp_path / "studies")
    request = ExperimentRequest.model_validate({"protocol": BITS})
    plan = WORK["experiments"].plan(request, runner, Limits(2, 10**11))
    assert sorted(row for chunk in plan.chunks for row in chunk.rows) == list(range(plan.rows))
    assert [(chunk.rows, chunk.phase) for chunk in plan.chunks] == [
        *(((row,), 0) for row in range(4)), ((4,), 1), ((5,), 1), (tuple(range(6, 11)), 2), (tuple(range(11, 16)), 2),
        ((16,), 3),
    ]  # fmt: skip
    with pytest.raises(ResourceLimit, match="drawing networks at width = 4 takes"):
        WORK["experiments"].plan(request, runner, Limits(2, 10**6))


def test_steps_without_what_they_need_are_incomplete(tmp_path: Path) -> None:
    request, runner = ExperimentRequest.model_validate({"protocol": BITS}), ExperimentRunner(tmp_path)
    found = dict(runner.results(request, [0, 4, 6]))
    assert [found[row]["status"] for row in (0, 4, 6)] == ["ok", "incomplete", "incomplete"]
    assert found[6]["message"] == "Its functions are not chosen. Post the request again."
    whole = dict(runner.results(request, range(17)))
    assert {row["status"] for row in whole.values()} == {"ok"}
    assert whole[0] == found[0]
    chosen = {each["function"] for each in whole[4]["results"][0]["functions"]}
    blocks = [[each["function"] for each in whole[row]["results"]] for row in range(6, 11)]
    assert sorted(itertools.chain(*blocks[:4])) == sorted(blocks[4]) == sorted(chosen)


@pytest.mark.parametrize(
    ("change", "field", "part"),
    [
        ({"seeds": 2**31, **{name: TRAINED[name] for name in ("data", "training", "quantities")}}, "seeds", "tasks"),
        ({"data": {"labels_file": "y.npy"}}, "data", "leave test, attack and labels out"),
        ({"data": {"inputs_file": "x.npy"}}, "data.inputs_file", "requests have no files"),
        ({**TRAINED, "data": {**TRAINED["data"], "dataset": {"kind": "digits"}}}, "data.dataset.n", "train on"),
        ({"axes": {"data.dataset.n": [9]}}, "data (data.dataset.n = 9): n", "8"),
    ],
)
def test_invalid_requests_are_refused(change: dict[str, Any], field: str, part: str) -> None:
    with LocalClient() as local, pytest.raises(InvalidInput) as caught:
        local.experiment({**BITS, **change})
    assert caught.value.field.replace("frequencies.", "") == f"protocol.{field}"
    assert part in str(caught.value)
