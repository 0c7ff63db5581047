"""Draws from the prior over HTTP: those of the library, bit for bit, and gone on with after a crash."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from nngp_prior import FullyConnected, complexity, sample_functions
from nngp_prior.data import load
from nngp_prior.schemas.results.sample import Samples
from nngp_prior.schemas.specs.data import Boolean
from tests.api.apps import WAIT, client, problem

NETWORK = FullyConnected(depth=1, width=4, weight_std=1, bias_std=0)
BODY = {
    "architecture": NETWORK.model_dump(mode="json"),
    "dataset": {"kind": "boolean", "bits": 3},
    "networks": 3000,
    "seed": 7,
    "top": 4,
}


@pytest.mark.parametrize("source", ["networks", "gp"])
def test_draws_are_those_of_the_library(api: TestClient, source: str) -> None:
    measures = ["lempel-ziv", "critical-sample-ratio", "entropy"]
    answer = api.post("/v1/samples", json=BODY | {"source": source, "complexities": measures}, headers=WAIT)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    counts = sample_functions(NETWORK, load(Boolean(bits=3)).X, 3000, seed=7, source=source)
    (row,) = document["results"]
    samples = Samples(row, document)
    assert (samples.draws, samples.functions, samples.undecided) == (3000, len(counts), counts.undecided)
    assert (samples.undecided > 100) == (source == "networks")  # narrow networks without biases die
    np.testing.assert_array_equal(samples.zeros, counts.zeros)
    assert len(samples) == 4
    for found, expected in zip(samples, counts.top(4), strict=True):
        assert (found.rank, found.draws) == (expected.rank, expected.draws)
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert found.frequency == expected.frequency
        assert found.frequency.interval() == expected.frequency.interval()
        assert found.complexities == {name: complexity(name, expected.labels) for name in measures}
    assert (document["n"], document["source"], document["seed"], document["units"]) == (8, source, 7, "nats")
    assert document["order"] == Boolean(bits=3).order


def test_all_functions_that_there_are(api: TestClient) -> None:
    (row,) = api.post("/v1/samples", json=BODY | {"top": 10_000}, headers=WAIT).json()["results"]
    assert len(row["top"]) == row["functions"] < 256
    assert sum(function["draws"] for function in row["top"]) + row["undecided"] == 3000


def test_results_are_no_array(api: TestClient) -> None:
    job = api.post("/v1/samples", json=BODY, headers=WAIT) and api.post("/v1/samples", json=BODY).json()
    where = f"/v1/jobs/{job['id']}/results"
    problem(api.get(where, headers={"Accept": "application/x-npy"}), 406, "not-acceptable")


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"networks": 0}, "body.networks"),
        ({"networks": 2**32}, "body.networks"),
        ({"seed": -1}, "body.seed"),
        ({"source": "brain"}, "body.source"),
        ({"top": 0}, "body.top"),
        ({"complexities": ["depth"]}, "body.complexities.0"),
        ({"complexities": ["critical-sample-ratio"], "dataset": {"kind": "digits", "n": 8}}, "complexities"),
        (
            {"complexities": ["critical-sample-ratio"], "dataset": {"kind": "boolean", "bits": 3, "n": 8}},
            "complexities",
        ),
        ({"top": 10_000, "dataset": {"kind": "digits", "n": 1000}}, "top"),
    ],
)
def test_requests_that_cannot_be_carried_out_are_no_jobs(
    api: TestClient, change: dict[str, Any], location: str
) -> None:
    before = len(api.get("/v1/jobs?limit=500").json()["jobs"])
    found = problem(api.post("/v1/samples", json=BODY | change), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert len(api.get("/v1/jobs?limit=500").json()["jobs"]) == before


def test_a_zero_input_without_biases_fails_the_job(api: TestClient) -> None:
    body = BODY | {"dataset": {"kind": "boolean", "bits": 3, "encoding": "bits"}}
    job = api.post("/v1/samples", json=body, headers=WAIT).json()
    assert (job["state"], job["error"]["code"]) == ("failed", "invalid-request")
    assert "input 0 is zero everywhere" in job["error"]["detail"]


def test_limits(tmp_path: Path) -> None:
    with client(tmp_path, memory_limit=2**30, task_seconds=10) as api:
        body = BODY | {"dataset": {"kind": "boolean", "bits": 7}, "networks": 4 * 10**9}
        detail = problem(api.post("/v1/samples", json=body), 422, "kernel-too-large")["detail"]
        largest = int(detail.split("Draw at most ")[1].split(" ")[0].rstrip(",").replace(",", ""))
        shown = api.post("/v1/samples?dry_run=true", json=body | {"networks": largest})
        assert shown.status_code in (200, 422)
        if shown.status_code == 422:
            problem(shown, 422, "too-long")
        problem(api.post("/v1/samples?dry_run=true", json=body | {"networks": largest + 1}), 422, "kernel-too-large")
        wide = BODY["architecture"] | {"width": 2000, "depth": 5}
        found = problem(api.post("/v1/samples", json=BODY | {"architecture": wide, "networks": 10**6}), 422, "too-long")
        assert "draws" in found["detail"]
        cost = api.post("/v1/samples?dry_run=true", json=BODY).json()
        assert (cost["rows"], cost["chunks"], cost["cached"]) == (1, 1, False)
        assert 2**28 < cost["bytes"] < 2**30
