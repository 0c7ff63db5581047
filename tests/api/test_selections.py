"""Selections over HTTP and in process: those of the library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.work import WORK, Limits
from nngp_prior import FullyConnected, LocalClient, select_architecture
from nngp_prior.data import label, load
from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.progress import ignore
from nngp_prior.schemas.requests import SelectionRequest
from nngp_prior.schemas.results.base import refused_row
from nngp_prior.schemas.results.selection import Selection
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.api.apps import WAIT, npy, problem, sha256

FAMILY = [FullyConnected(depth=depth, activation="erf") for depth in (1, 2)]
FAST = {"particles": 4, "replicates": 4, "jitter": 1e-6}
INTERVALS = {"weight_std": (1.0, 2.0), "bias_std": (0.1, 0.2)}
GIVEN = {"dataset": {"kind": "digits", "n": 24}, "labelling": {"kind": "parity"}}
BODY = {
    **GIVEN,
    **INTERVALS,
    "family": [each.model_dump(mode="json") for each in FAMILY],
    "train": 16,
    "estimator": {"kind": "smc", **FAST},
    "seed": 5,
}


@pytest.fixture(scope="module")
def expected() -> Selection:
    data = load(Digits(n=24))
    y = label(Parity(), data.classes)
    test = {"X_test": data.X[16:], "y_test": y[16:]}
    return select_architecture(FAMILY, data.X[:16], y[:16], **test, **INTERVALS, seed=5, **FAST)


def numbers(selection: Selection) -> list[Any]:
    """Everything but times."""
    return [
        (each.architecture, each.optimised, each.test_error, each.log_p.model_dump(exclude={"seconds", "diagnostics"}))
        for each in selection
    ]


def test_results_are_those_of_the_library_bit_for_bit(api: TestClient, expected: Selection, tmp_path: Path) -> None:
    answer = api.post("/v1/selections", json=BODY, headers=WAIT)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    rows = document.pop("results")
    assert [(row["candidate"], row["optimised"]) for row in rows] == [(0, False), (1, True), (2, False), (3, True)]
    assert (document["n"], document["train"], document["units"], document["seed"]) == (24, 16, "nats", 5)
    there = Selection.of_rows(rows, document)
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        asked = (FAMILY, Digits(n=24), Parity())
        job = local.select(*asked, train=16, **INTERVALS, seed=5, **FAST)
        first = next(job.results())
        assert first.candidate.architecture == FAMILY[0]
        job.dismiss()
        again = local.select(*asked, train=16, **INTERVALS, seed=5, **FAST)
        assert again.status().current == 1  # its rows are kept
        here = again.result()
    for found in (there, here):
        assert numbers(found) == numbers(expected)
        assert (found.best, found.choices, found.problems) == (expected.best, expected.choices, ())
        assert found.bounds(delta=0.1)["realizable"].value == expected.bounds(delta=0.1)["realizable"].value
        assert found.about["family"] == BODY["family"]
    array = api.get(f"{answer.headers['content-location']}", headers={"Accept": "application/x-npy"}).content
    assert np.frombuffer(array[-64:]).reshape(4, 2)[:, 0].tolist() == [row["log_p"] for row in rows]
    job = api.post("/v1/selections", json={**BODY, "seed": 5.0})  # the same request
    assert job.status_code == 200
    assert job.json()["progress"] == {"current": 4, "target": 4, "unit": "candidates", "stage": None}


def test_equal_candidates_are_one_and_refused_ones_are_told(api: TestClient) -> None:
    """σ_w and σ_b are given at the only point of the grid; without test inputs there are no test errors."""
    narrow = {"weight_std": (1.0, 1.001), "bias_std": (0.1, 0.1001)}
    given = {"kind": "fully-connected", "depth": 0, "weight_std": 1.0, "bias_std": 0.1}
    body = {**GIVEN, **narrow, "family": [given], "estimator": {"kind": "smc", **FAST}}
    document = api.post("/v1/selections", json=body, headers=WAIT).json()
    first, second = document["results"]
    assert first["architecture"] == second["architecture"]
    assert first["test_error"] is None
    refused = refused_row(1, "worker-crashed", "It died.")
    for rows, problems in (([first, second], ()), ([first, refused], ("candidate [worker-crashed]: It died.",))):
        found = Selection.of_rows(rows, document)
        assert [each.optimised for each in found] == [False]
        assert (found.choices, found.problems) == (1, problems)
    assert "1 candidate, 1 without a result; best: " in repr(found)
    nothing = Selection.of_rows([refused], document)
    assert (len(nothing), len(nothing.to_pandas())) == (0, 0)
    with pytest.raises(InvalidInput, match="no candidate has a result"):
        _ = nothing.best


def test_labels_of_probability_0_are_told_in_their_row(api: TestClient) -> None:
    content = npy(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
    body = {
        "family": [{"kind": "fully-connected", "depth": 0, "bias_std": 0.1}],
        "dataset": {"kind": "blob", "sha256": sha256(content)},
        "labelling": {"kind": "explicit", "values": [1, -1, 1, 1]},
        "train": 3,
    }
    document = api.post("/v1/selections", json=body, headers=WAIT).json()
    assert [row["status"] for row in document["results"]] == ["invalid-labels"] * 2
    assert "inputs 0 and 1" in document["results"][0]["message"]
    assert len(Selection.of_rows(document["results"], document).problems) == 2


def test_a_row_alone_is_that_of_the_whole(api: TestClient, tmp_path: Path) -> None:
    """Another attempt computes the rows that have no results."""
    request, runner = SelectionRequest.model_validate(BODY), RequestRunner(KernelCache(tmp_path, 10**9))
    ((index, row),) = WORK["selections"].run(request, [3], runner, ignore)
    whole = api.post("/v1/selections", json=BODY, headers=WAIT).json()["results"][3]
    times = {"seconds": 0, "diagnostics": 0}
    assert (index, row | times) == (3, whole | times)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"family": []}, "body.family"),
        ({"family": [{"kind": "fully-connected", "depth": -1}]}, "body.family.0.depth: got -1"),
        ({"train": 24}, "train: got 24 where there are 24 inputs. Leave some for the test"),
        ({"train": 0}, "body.train"),
        ({"weight_std": [2.0, 1.0]}, "Give two positive numbers, the smaller first"),
        ({"weight_std": [0.0, 1.0]}, "body.weight_std.0"),
        ({"bias_std": [0.1]}, "body.bias_std"),
        ({"estimator": {"kind": "ep"}}, "body.estimator"),
        ({"estimator": {"kind": "smc", "classes": 3}}, "one class against the rest"),
    ],
)
def test_what_cannot_be_is_refused_at_once(api: TestClient, change: dict[str, Any], said: str) -> None:
    assert said in str(problem(api.post("/v1/selections", json=BODY | change), 422, "invalid-request"))


@pytest.mark.parametrize(
    ("labelling", "said"),
    [
        ({"kind": "explicit", "values": [1]}, "labelling: 1 labels where there are 24 inputs"),
        ({"kind": "threshold", "at": 99}, "labelling: threshold at=99 labels all classes"),
    ],
)
def test_labels_that_cannot_be_used(api: TestClient, labelling: dict[str, Any], said: str) -> None:
    body = {**BODY, "labelling": labelling}
    assert said in problem(api.post("/v1/selections", json=body), 422, "invalid-labels")["detail"]
    several = npy(np.ones((2, 24), np.int8))
    api.put(f"/v1/blobs/{sha256(several)}", content=several)
    body = {**BODY, "labelling": {"kind": "blob", "sha256": sha256(several)}}
    assert "the array has 2 rows" in problem(api.post("/v1/selections", json=body), 422, "invalid-request")["detail"]


def test_what_it_would_take(api: TestClient, tmp_path: Path) -> None:
    cost = api.post("/v1/selections?dry_run=true", json=BODY).json()
    assert (cost["rows"], cost["chunks"]) == (4, 2)
    runner = RequestRunner(KernelCache(tmp_path, 10**9), lambda _: np.zeros((20_000, 3), np.float32))
    inputs = {"kind": "blob", "sha256": "0" * 64}
    large = {**BODY, "dataset": inputs, "labelling": {"kind": "constant"}, "train": 10_000}
    request = SelectionRequest.model_validate(large)
    with pytest.raises(ResourceLimit, match=r"dataset.n: a choice by 10,000 of n = 20,000 inputs takes .* Use at most"):
        WORK["selections"].plan(request, runner, Limits(2, 10**9))
    plan = WORK["selections"].plan(request, runner, Limits(2, 10**11))
    assert plan.bytes > 8 * 13 * 10_000**2  # kernels and their derivatives
    assert [chunk.rows for chunk in plan.chunks] == [(0,), (1,), (2,), (3,)]
    assert plan.chunks[1].seconds > 10 * plan.chunks[0].seconds > 100


def test_clients_check_arguments_before_anything_is_sent(tmp_path: Path) -> None:
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        X, y = np.eye(4), np.ones(4)
        for arguments, options, said in (
            ((FAMILY, X, y), {"train": 4}, "train: got 4"),
            ((FAMILY, X, y), {"classes": 3}, "estimator"),
            ((FAMILY, X, y), {"bias_std": (1.0, 0.1)}, "bias_std"),
            ((FAMILY, X, np.ones((2, 4))), {}, "y: got 2 labellings"),
            ((FAMILY, X, np.zeros(4)), {}, "y"),
            (("relu", X, y), {}, "family"),
            ((3, X, y), {}, "family: got int"),
            (([], X, y), {}, "family"),
        ):
            with pytest.raises(InvalidInput, match=said):
                local.select(*arguments, **options)
        assert list(local.jobs()) == []
