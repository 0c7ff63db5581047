"""Posteriors over HTTP, and by clients: those of the library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.work import WORK, Limits
from nngp_prior import FullyConnected, LocalClient, kernel, posterior
from nngp_prior.data import label, load
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import PosteriorRequest
from nngp_prior.schemas.results.posterior import PosteriorResult
from nngp_prior.schemas.specs.data import Classes, Digits, Parity, Threshold
from tests.api.apps import WAIT, npy, problem, sha256

ROWS = ({"kind": "parity"}, {"kind": "explicit", "values": [1]}, {"kind": "threshold", "at": 5})
BODY = {"dataset": {"kind": "digits", "n": 30}, "labellings": ROWS, "seed": 5, "train": 20}


def posted(api: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/v1/posteriors", json=body, headers=WAIT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_is(found: PosteriorResult, expected, labels: np.ndarray) -> None:
    assert (found.value, found.stderr) == (expected.log_p.value, expected.log_p.stderr)
    assert found.lower_bound() == expected.log_p.lower_bound()
    for name in ("value", "stderr", "freedom"):
        assert np.array_equal(getattr(found.predictive, name), getattr(expected.predictive(), name))
    assert found.gibbs_error == expected.gibbs_error(labels)
    assert found.vote_error == expected.vote_error(labels)
    given = expected.log_probability(labels)
    assert found.given is not None
    assert (found.given.value, found.given.stderr, found.given.n) == (given.value, given.stderr, given.n)
    assert found.given.interval() == given.interval()


def test_three_classes(api: TestClient, tmp_path: Path) -> None:
    data = load(Digits(n=24, classes=(0, 1, 2)))
    estimator = {"kind": "smc", "classes": 3, "particles": 8, "replicates": 8}
    dataset, labellings = Digits(n=24, classes=(0, 1, 2)), [Classes()]
    body = {
        **BODY,
        "dataset": dataset.model_dump(mode="json"),
        "labellings": [{"kind": "classes"}],
        "estimator": estimator,
    }
    (row,) = posted(api, body)["results"]
    expected = posterior(
        kernel(FullyConnected(), data.X), data.classes[:20], classes=3, particles=8, replicates=8, seed=5
    )
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        job = local.posterior(
            FullyConnected(), dataset, labellings, train=20, seed=5, classes=3, particles=8, replicates=8
        )
        (here,) = job.result()
    for found in (PosteriorResult(row), here):
        assert_is(found, expected, data.classes[20:])
        assert np.array_equal(found.predictive.margin_stderr, expected.predictive().margin_stderr)


def test_results_are_those_of_the_library_bit_for_bit(api: TestClient, tmp_path: Path) -> None:
    document = posted(api, BODY)
    assert (document["n"], document["units"], document["train"], document["seed"]) == (30, "nats", 20, 5)
    data = load(Digits(n=30))
    K = kernel(FullyConnected(), data.X)
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        job = local.posterior(FullyConnected(), Digits(n=30), [Parity(), Threshold(at=5)], train=20, seed=5)
        here = job.result()
    for place, labelling in ((0, Parity()), (2, Threshold(at=5))):
        y = label(labelling, data.classes)
        expected = posterior(K, y[:20], seed=5)
        assert_is(PosteriorResult(document["results"][place]), expected, y[20:])
        assert_is(here[place // 2], expected, y[20:])
    refused = PosteriorResult(document["results"][1])
    assert refused.status == "invalid-labels"
    assert (refused.predictive, refused.gibbs_error, refused.vote_error, refused.given) == (None,) * 4
    assert "invalid-labels" in repr(refused)
    assert "Gibbs error = " in repr(here[0])
    assert here.about["train"] == 20


def test_labels_that_cannot_be_are_told_in_their_row(api: TestClient) -> None:
    content = npy(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
    labellings = [{"kind": "explicit", "values": y} for y in ([1, -1, 1, 1], [1, 1, 1, -1])]
    architecture = {"kind": "fully-connected", "depth": 0, "bias_std": 0}
    body = {"dataset": {"kind": "blob", "sha256": sha256(content)}, "labellings": labellings, "train": 3}
    contradictory, determined = posted(api, body | {"architecture": architecture})["results"]
    assert contradictory["status"] == "invalid-labels"
    assert "inputs 0 and 1" in contradictory["message"]
    assert determined["test"]["predictive"]["value"] == [1.0]
    assert determined["test"]["vote_error"]["value"] == 1.0
    assert (determined["test"]["log_p"], determined["test"]["status"]) == ("-Infinity", "no-hits")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"train": 30}, "train"),
        ({"train": 0}, "train"),
        ({"estimator": {"kind": "ep"}}, "estimator"),
        ({"estimator": {"kind": "smc", "classes": 1}}, "classes"),
        ({"estimator": {"kind": "smc", "target_stderr": 0.1}}, "target_stderr"),
    ],
)
def test_what_cannot_be_is_refused_at_once(api: TestClient, change: dict[str, Any], part: str) -> None:
    found = problem(api.post("/v1/posteriors", json=BODY | change), 422, "invalid-request")
    assert part in str(found)


def test_what_it_would_take(api: TestClient, tmp_path: Path) -> None:
    cost = api.post("/v1/posteriors?dry_run=true", json=BODY).json()
    assert cost["rows"] == 3
    request = PosteriorRequest(**BODY | {"estimator": {"kind": "smc", "particles": 1024}})
    runner = RequestRunner(KernelCache(tmp_path, 10**9))
    plan = WORK["posteriors"].plan(request, runner, Limits(2, 10**10))
    few = WORK["posteriors"].plan(PosteriorRequest(**BODY), runner, Limits(2, 10**10))
    assert plan.bytes - few.bytes > 16 * 20 * 32 * (1024 - 32)  # the particles
    with pytest.raises(ResourceLimit, match="train: a posterior of 20 training inputs"):
        WORK["posteriors"].plan(request, runner, Limits(2, plan.bytes - 1))


def test_clients_check_options_before_anything_is_sent(tmp_path: Path) -> None:
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        for options, part in (({"train": 4}, "train"), ({"train": 2, "target_stderr": 0.1}, "estimator")):
            with pytest.raises(InvalidInput, match=part):
                local.posterior(FullyConnected(), np.eye(4), np.ones(4), **options)
