"""Data sets, labellings and kernels that are named and looked at, and what there is to choose from."""

from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest
from starlette.testclient import TestClient

from api.document_store import DocumentStore
from api.problems import StorageFull
from api.work import WORK
from nngp_prior.kernels import KernelCache
from nngp_prior.schemas.measures.registry import MEASURES_BY_KIND
from nngp_prior.schemas.specs.architecture import ARCHITECTURES, FullyConnected
from tests.api.apps import client, npy, problem, sha256

DIGITS = {"kind": "digits", "n": 20}
ABSENT = "0" * 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue")


@pytest.fixture(scope="module")
def api(home: Path) -> Iterator[TestClient]:
    with client(home, max_rows=50) as served:
        yield served


@pytest.fixture(scope="module")
def kernels(home: Path) -> KernelCache:
    return KernelCache(home / "kernels", 10**9)


def test_the_catalogue_has_all_unions_with_valid_schemas(api: TestClient) -> None:
    found = api.get("/v1/catalogue").json()
    kinds = {name: [entry["kind"] for entry in entries] for name, entries in found.items()}
    assert kinds["architectures"] == [model.model_fields["kind"].default for model in ARCHITECTURES]
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "boolean", "inline", "blob"} == set(kinds["datasets"])
    assert {"threshold", "parity", "random", "explicit", "blob"} < set(kinds["labellings"])
    assert {"smc", "ep", "laplace", "closed-form"} < set(kinds["estimators"])
    assert kinds["measures"] == list(MEASURES_BY_KIND)
    assert kinds["work"] == list(WORK)
    for entry in (entry for entries in found.values() for entry in entries):
        assert entry["about"].endswith(".")
        assert jsonschema_rs.meta.is_valid(entry["schema"])
    smc = next(entry for entry in found["estimators"] if entry["kind"] == "smc")
    assert (smc["defaults"]["particles"], smc["defaults"]["replicates"]) == (None, 32)
    jsonschema_rs.validate(smc["schema"], smc["defaults"])


def test_a_data_set_is_named_once(api: TestClient) -> None:
    first = api.post("/v1/datasets", json=DIGITS)
    assert first.status_code == 201
    document = first.json()
    assert (document["n"], document["input_shape"], document["classes"]) == (20, [8, 8, 1], list(range(10)))
    again = api.post("/v1/datasets", json={"n": 20, "seed": 0, "kind": "digits"})
    assert (again.status_code, again.json()) == (200, document)
    assert api.get(f"/v1/datasets/{document['id']}").json() == document
    listed = api.get("/v1/datasets").json()["datasets"]
    assert [entry for entry in listed if entry["id"] == document["id"]] == [
        {key: value for key, value in document.items() if key != "specification"}
    ]


def test_uploaded_data(api: TestClient) -> None:
    content, classes = npy(np.eye(4).reshape(4, 2, 2)), npy(np.array([0, 1, 0, 5]))
    request = {"kind": "blob", "sha256": sha256(content), "classes": sha256(classes)}
    assert "Upload it first" in problem(api.post("/v1/datasets", json=request), 422, "invalid-request")["detail"]
    for body in (content, classes):
        assert api.put(f"/v1/blobs/{sha256(body)}", content=body).status_code == 201
    found = api.post("/v1/datasets", json=request).json()
    assert (found["n"], found["input_shape"], found["classes"]) == (4, [2, 2, 1], [0, 1, 5])


def test_data_that_are_not_there(api: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    problem(api.post("/v1/datasets", json={"kind": "mnist", "n": 3}), 422, "data-unavailable")


def test_labellings_are_counted_and_those_that_cannot_be_are_told(api: TestClient) -> None:
    Y = np.ones((3, 20), dtype=np.int8)
    Y[1, :5], Y[2, 0] = -1, 7
    content = npy(Y)
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code == 201
    labellings = [
        {"kind": "constant", "value": -1},
        {"kind": "threshold", "at": 99},
        {"kind": "blob", "sha256": sha256(content)},
    ]
    first = api.post("/v1/labellings", json={"dataset": DIGITS, "labellings": labellings})
    assert first.status_code == 201
    document = first.json()
    assert (document["n"], document["count"]) == (20, 5)
    assert document["positive"] == [0, None, 20, 15, None]
    assert [error["labelling"] for error in document["errors"]] == [1, 4]
    assert document["dataset"] == api.post("/v1/datasets", json=DIGITS).json()["id"]
    again = api.post("/v1/labellings", json={"dataset": DIGITS, "labellings": labellings})
    assert (again.status_code, again.json()) == (200, document)
    assert api.get(f"/v1/labellings/{document['id']}").json() == document
    assert document["id"] in [entry["id"] for entry in api.get("/v1/labellings").json()["labellings"]]
    problem(api.get(f"/v1/labellings/{ABSENT}"), 404, "not-found")


def test_too_many_labellings(api: TestClient) -> None:
    request = {"dataset": DIGITS, "labellings": [{"kind": "random", "seed": i} for i in range(51)]}
    assert "50 are allowed" in problem(api.post("/v1/labellings", json=request), 422, "too-many-rows")["detail"]


def test_labels_are_counted_before_they_are_made(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.prior.request_context.label", None)
    inputs = {"kind": "boolean", "bits": 20}
    request = {"dataset": inputs, "labellings": [{"kind": "random", "seed": seed} for seed in range(100)]}
    service = api.app.state.service  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(service, "settings", service.settings.model_copy(update={"max_rows": 100}))
    found = problem(api.post("/v1/labellings", json=request), 422, "too-long")
    assert found["errors"][0]["message"].startswith("100 labellings of 1,048,576 inputs are 104,857,600 labels")
    assert found["detail"].endswith("Send at most 95 at a time.")


@pytest.mark.parametrize("route", ["labellings", "estimates"])
@pytest.mark.parametrize("times", [1, 60])
def test_uploaded_labellings_are_counted_before_they_are_looked_at(api: TestClient, route: str, times: int) -> None:
    content = npy(np.full((60 // times, 20), 7, np.int8))  # none of them can be used
    assert api.put(f"/v1/blobs/{sha256(content)}", content=content).status_code in (200, 201)
    request = {"dataset": DIGITS, "labellings": [{"kind": "blob", "sha256": sha256(content)}] * times}
    assert "are 60" in problem(api.post(f"/v1/{route}", json=request), 422, "too-many-rows")["detail"]


def test_kernels_are_listed_looked_at_and_removed(api: TestClient, kernels: KernelCache) -> None:
    X = np.random.default_rng(0).standard_normal((30, 5))
    K = np.array(kernels.kernel(FullyConnected(depth=1), X, about={"dataset": DIGITS}))
    [entry] = kernels.entries()
    key = entry.header.key
    listed = api.get("/v1/kernels").json()
    assert listed["bytes"] == entry.bytes
    [found] = listed["kernels"]
    assert (found["kernel"], found["n"], found["finished"], found["dataset"]) == (key, 30, True, DIGITS)
    assert found["architecture"]["depth"] == 1
    assert api.get(f"/v1/kernels/{key}").json() == found
    spectrum = api.get(f"/v1/kernels/{key}?spectrum=true").json()["spectrum"]
    eigenvalues = np.linalg.eigvalsh(K)
    assert spectrum["smallest"] == pytest.approx(eigenvalues[0])
    assert spectrum["largest"] == pytest.approx(eigenvalues[-1])
    used = kernels.open(key)
    problem(api.delete(f"/v1/kernels/{key}"), 409, "kernel-in-use")
    assert np.array_equal(used, K)
    del used
    gone = api.delete(f"/v1/kernels/{key}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert kernels.entries() == []
    for answer in (api.delete(f"/v1/kernels/{key}"), api.get(f"/v1/kernels/{key}?spectrum=true")):
        problem(answer, 404, "not-found")
    for name in ("..", key[:12], "0" * 63 + "g"):
        assert api.delete(f"/v1/kernels/{name}").status_code in (404, 405, 422)


def test_the_spectrum_is_computed_once(api: TestClient, kernels: KernelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.kernel(FullyConnected(depth=2), np.eye(8))
    key = kernels.entries()[0].header.key
    first = api.get(f"/v1/kernels/{key}?spectrum=true").json()
    monkeypatch.setattr("api.routes.kernels.inspect", None)
    assert api.get(f"/v1/kernels/{key}?spectrum=true").json()["spectrum"] == first["spectrum"]
    monkeypatch.setattr("api.routes.kernels._LARGEST", 7)
    kernels.kernel(FullyConnected(depth=3), np.eye(8))
    key = kernels.entries()[0].header.key
    answer = api.get(f"/v1/kernels/{key}?spectrum=true")
    assert "the kernel has 8 inputs" in problem(answer, 422, "invalid-request")["detail"]


def test_a_register_is_whole_after_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = DocumentStore(tmp_path, 0)
    with monkeypatch.context() as broken:
        broken.setattr("api.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(StorageFull):
            register.put("a", {"id": "a"}, {"long": 1})
    assert list(tmp_path.iterdir()) == []
    assert register.put("a", {"id": "a"}, {"long": 1})
    assert not register.put("a", {"id": "other"})
    assert register.get("a") == {"id": "a", "specification": {"long": 1}}
    assert register.list() == [{"id": "a"}]
    assert register.get("b") is None
    with pytest.raises(StorageFull, match="NNGP_MIN_FREE_DISK"):
        DocumentStore(tmp_path, 2**60).put("c", {})


@pytest.mark.parametrize("suffix", ["json", "specification"])
def test_a_damaged_document_hides_itself_alone_and_is_written_again(tmp_path: Path, suffix: str) -> None:
    register = DocumentStore(tmp_path, 0)
    for key in ("a", "b"):
        assert register.put(key, {"n": 7, "key": key}, {"kind": "x"})
    path = tmp_path / f"a.{suffix}"
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
            assert register.get("a") is None
            listed = [document["key"] for document in register.list()]
            assert sorted(listed) == (["b"] if suffix == "json" else ["a", "b"])
    assert register.put("a", {"n": 7, "key": "a"}, {"kind": "x"})
    assert register.get("a") == {"n": 7, "key": "a", "specification": {"kind": "x"}}
