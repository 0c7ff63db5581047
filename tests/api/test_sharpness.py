"""Measures of trained networks over HTTP, and by clients: those of the library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api.work import WORK, Limits
from nngp_prior import FullyConnected, LocalClient, Residual
from nngp_prior.data import label, load
from nngp_prior.errors import InvalidInput, NngpPriorError, ResourceLimit
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import SharpnessRequest
from nngp_prior.schemas.results.sharpness import Report, SharpnessResults
from nngp_prior.schemas.specs.data import Digits, Parity
from nngp_prior.schemas.weights import named_weights
from nngp_prior.sharpness import Eigenvalues, SAMSharpness, Trace, finite_network, measure
from tests.api.apps import WAIT, client, npy, problem, sha256

NETWORK = FullyConnected(depth=1, width=3)
PARAMETERS = finite_network(NETWORK, (64,)).init(4)
ARRAYS = named_weights(PARAMETERS)
MEASURES = ({"kind": "trace", "probes": 4}, {"kind": "sam-sharpness", "minibatch": 99}, {"kind": "fisher-trace"})
BODY = {
    "architecture": NETWORK.model_dump(mode="json"),
    "weights": {name: sha256(npy(array)) for name, array in ARRAYS.items()},
    "dataset": {"kind": "digits", "n": 12},
    "labelling": {"kind": "parity"},
    "measures": MEASURES,
    "seed": 5,
}


def expected(*measures: Any, **options: Any) -> Report:
    data = load(Digits(n=12))
    return measure(NETWORK, PARAMETERS, data.X, label(Parity(), data.classes), measures, seed=5, **options)


def assert_same(found: Report, wanted: Report) -> None:
    def document(report: Report) -> dict[str, Any]:
        whole = report.document()
        return whole | {"measurements": [each | {"seconds": 0} for each in whole["measurements"]]}

    assert document(found) == document(wanted)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(tmp_path_factory.mktemp("home")) as served:
        for array in ARRAYS.values():
            content = npy(array)
            assert served.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
        yield served


def test_figures_are_those_of_the_library(api: TestClient) -> None:
    answer = api.post("/v1/sharpness", json=BODY, headers=WAIT)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert (document["n"], document["parameters"], document["units"]) == (12, 64 * 3 + 3 + 3 + 1, "nats")
    assert document["weights"] == BODY["weights"]
    results = SharpnessResults(document["results"], document)
    assert_same(results.report, expected(Trace(probes=4), "fisher-trace"))
    assert [result.measure for result in results] == ["trace", "sam-sharpness", "fisher-trace"]
    refused = results[1]
    assert (refused.status, refused.measurements) == ("invalid-measure", ())
    assert "minibatch" in refused.message
    assert repr(refused) == "sam-sharpness [invalid-measure]"
    assert repr(results[2]).startswith("fisher_trace = ")


def test_biases_may_have_one_axis(api: TestClient) -> None:
    content = npy(ARRAYS["dense 1/bias"].ravel())
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
    weights = BODY["weights"] | {"dense 1/bias": sha256(content)}
    body = BODY | {"weights": weights, "measures": [{"kind": "fisher-trace"}], "dtype": "float32", "loss": "mse"}
    document = api.post("/v1/sharpness", json=body, headers=WAIT).json()
    assert document["units"] == "squares of outputs"
    assert_same(
        SharpnessResults(document["results"], document).report, expected("fisher-trace", dtype="float32", loss="mse")
    )


def test_results_are_no_array(api: TestClient) -> None:
    job = api.post("/v1/sharpness", json=BODY, headers=WAIT) and api.post("/v1/sharpness", json=BODY).json()
    where = f"/v1/jobs/{job['id']}/results"
    problem(api.get(where, headers={"Accept": "application/x-npy"}), 406, "not-acceptable")


@pytest.mark.parametrize(
    ("name", "array", "location", "part"),
    [
        ("dense 1/weight", None, "weights", "there is no 'dense 1/weight'"),
        ("dense 3/weight", np.ones((3, 1)), "weights", "the network has no 'dense 3/weight'"),
        ("dense 1/weight", np.ones((3, 64)), "weights.dense 1/weight", "has shape (3, 64), not (64, 3)"),
    ],
)
def test_weights_that_do_not_fit_are_no_jobs(
    api: TestClient, name: str, array: np.ndarray | None, location: str, part: str
) -> None:
    weights = {each: sha for each, sha in BODY["weights"].items() if each != name}
    if array is not None:
        content = npy(array)
        weights[name] = sha256(content)
        assert api.put(f"/v1/blobs/{weights[name]}", content=content).status_code == 201
    found = problem(api.post("/v1/sharpness", json=BODY | {"weights": weights}), 422, "invalid-request")
    assert found["errors"][0]["location"] == location
    assert part in found["detail"]


@pytest.mark.parametrize(
    ("change", "location"),
    [
        ({"weights": {}}, "body.weights"),
        ({"weights": BODY["weights"] | {"dense 1/weight": "0" * 64}}, "sha256"),
        ({"weights": {"dense one": "0" * 64}}, "body.weights.dense one.[key]"),
        ({"measures": []}, "body.measures"),
        ({"measures": [{"kind": "beauty"}]}, "body.measures.0"),
        ({"measures": [{"kind": "trace", "layer": "dense 3"}]}, "measures.0.layer"),
        ({"labelling": {"kind": "explicit", "values": [1]}}, "values"),
        ({"labelling": {"kind": "one-vs-rest", "label": 77}}, "label"),
        ({"loss": "hinge"}, "body.loss"),
        ({"architecture": {"kind": "convolutional", "channels": 3}}, "weights"),
    ],
)
def test_what_cannot_be_is_refused_at_once(api: TestClient, change: dict[str, Any], location: str) -> None:
    before = len(api.get("/v1/jobs?limit=500").json()["jobs"])
    code = "invalid-labels" if "labelling" in change else "invalid-request"
    found = problem(api.post("/v1/sharpness", json=BODY | change), 422, code)
    assert location in found["errors"][0]["location"]
    assert len(api.get("/v1/jobs?limit=500").json()["jobs"]) == before


def test_two_labellings_are_too_many(api: TestClient) -> None:
    content = npy(np.ones((2, 12), np.int8))
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
    body = BODY | {"labelling": {"kind": "blob", "sha256": sha256(content)}}
    assert "2 rows" in problem(api.post("/v1/sharpness", json=body), 422, "invalid-request")["detail"]


def test_measures_are_rows_of_a_job_too(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = api.app.state.service  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(service, "settings", service.settings.model_copy(update={"max_rows": 2}))
    answer = api.post("/v1/sharpness?dry_run=true", json=BODY)
    assert "are 3, and 2 are allowed" in problem(answer, 422, "too-many-rows")["detail"]


def test_what_it_would_take(api: TestClient, tmp_path: Path) -> None:
    cost = api.post("/v1/sharpness?dry_run=true", json=BODY).json()
    assert (cost["rows"], cost["chunks"], cost["cached"]) == (3, 3, False)
    runner = RequestRunner(
        KernelCache(tmp_path, 10**9), dict(zip(BODY["weights"].values(), ARRAYS.values(), strict=True)).get
    )

    def plan(measure: dict[str, Any], memory: int = 10**11) -> Any:
        return WORK["sharpness"].plan(SharpnessRequest(**BODY | {"measures": [measure]}), runner, Limits(2, memory))

    few, many = (plan({"kind": "trace", "method": "xtrace", "probes": probes}) for probes in (10, 10_000))
    assert many.bytes - few.bytes == 8 * 199 * 2 * 9_990
    assert many.seconds > few.seconds + 15
    assert plan({"kind": "trace", "probes": "basis"}).seconds > plan({"kind": "trace"}).seconds
    with pytest.raises(ResourceLimit, match=r"measures\.0: trace of 199 parameters on 12 inputs takes"):
        plan({"kind": "trace"}, few.bytes // 2)


def test_without_a_service(tmp_path: Path) -> None:
    data = load(Digits(n=12))
    y = label(Parity(), data.classes)
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        job = local.sharpness(NETWORK, PARAMETERS, data.X, y, ["fisher-trace", Eigenvalues(max_steps=5)], seed=5)
        assert job.status().target == 2
        results = job.result()
        wanted = expected("fisher-trace", Eigenvalues(max_steps=5))
        assert_same(results.report, wanted)
        assert "weights" not in results.about
        again = local.sharpness(NETWORK, PARAMETERS, Digits(n=12), Parity(), SAMSharpness(minibatch=99)).result()
        with pytest.raises(NngpPriorError, match="none has a figure"):
            _ = again.report
        with pytest.raises(InvalidInput, match="weights"):
            local.sharpness(NETWORK, PARAMETERS[:1], Digits(n=12), Parity())
        (W, b), *rest = PARAMETERS
        # A service refuses the array itself.
        with pytest.raises(InvalidInput, match=r"weights\.dense 1/bias: holds nan"):
            local.sharpness(NETWORK, [(W, b * np.nan), *rest], Digits(n=12), Parity())


def test_images_go_into_convolutions(tmp_path: Path) -> None:
    network = Residual(groups=1, channels=2)
    data = load(Digits(n=6))
    y = label(Parity(), data.classes)
    parameters = finite_network(network, (8, 8, 1)).init(1)
    with LocalClient(KernelCache(tmp_path, 10**9)) as local:
        found = local.sharpness(network, parameters, Digits(n=6), Parity(), "fisher-trace").result().report
        assert_same(found, measure(network, parameters, data.images, y, "fisher-trace"))
        with pytest.raises(InvalidInput, match="there is no 'convolution 2/weight'"):
            local.sharpness(network, parameters[:1], Digits(n=6), Parity())
