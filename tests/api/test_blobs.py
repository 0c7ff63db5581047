"""Uploaded arrays: what is kept, and what is refused before it does harm."""

import errno
import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from api import files
from api.blobs import Blobs, BlobStore
from api.problems import Problem
from nngp_prior.errors import InvalidInput
from tests.api.apps import InProcess, client, header, npy, problem, settings, sha256

X = np.arange(12, dtype=np.float64).reshape(3, 4)
ABSENT = "0" * 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


@pytest.fixture(scope="module")
def api(home: Path) -> Iterator[TestClient]:
    with client(home) as served:
        yield served


def put(api: TestClient, content: Any, name: str | None = None, **headers: str) -> Any:
    return api.put(f"/v1/blobs/{name or sha256(content)}", content=content, headers=headers)


def left(home: Path) -> list[Path]:
    return list((home / "blobs").glob("*.tmp"))


@pytest.mark.parametrize(
    "array",
    [
        X,
        np.asfortranarray(X),
        X.astype(np.float16),
        np.array([True, False]),
        np.arange(5, dtype=np.uint8),
        -X.astype("i8"),
    ],
    ids=lambda array: f"{array.dtype}",
)
def test_what_was_uploaded_is_read_back(api: TestClient, home: Path, array: np.ndarray) -> None:
    content = npy(array)
    answer = put(api, content)
    expected = {"sha256": sha256(content), "bytes": len(content), "dtype": str(array.dtype), "shape": list(array.shape)}
    assert answer.json() == expected
    found = BlobStore(settings(home)).open(sha256(content))
    assert np.array_equal(found, array)
    assert found.dtype == array.dtype
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert left(home) == []


def test_201_then_200_and_head(api: TestClient) -> None:
    content = npy(X + 1)
    name = sha256(content)
    assert api.head(f"/v1/blobs/{name}").status_code == 404
    assert put(api, content).status_code == 201
    assert put(api, content).status_code == 200
    assert put(api, content, **{"Content-Type": "application/x-npy"}).status_code == 200
    found = api.head(f"/v1/blobs/{name}")
    assert found.status_code == 200
    assert found.headers["content-length"] == str(len(content))
    assert (found.headers["x-array-dtype"], found.headers["x-array-shape"]) == ("float64", "3,4")
    assert found.content == b""
    allowed = api.get(f"/v1/blobs/{name}")
    problem(allowed, 405, "method-not-allowed")
    assert allowed.headers["allow"] == "HEAD, PUT, DELETE"


def test_an_array_over_several_parts(api: TestClient, home: Path) -> None:
    """Numbers that are cut between two parts are looked at too."""
    array = np.ones(400_001, dtype=np.float64)
    content = b"".join([header("{'descr': '<f8', 'fortran_order': False, 'shape': (400001,)}"), array.tobytes()])
    cut = [content[i : i + 65_537] for i in range(0, len(content), 65_537)]
    answer = api.put(f"/v1/blobs/{sha256(content)}", content=iter(cut), headers={"Content-Length": str(len(content))})
    assert answer.status_code == 201
    assert np.array_equal(BlobStore(settings(home)).open(sha256(content)), array)
    for place in (0, 131_071, 131_072, 262_144, 400_000):
        array[place] = np.nan
        content = npy(array)
        assert "not finite" in problem(put(api, content), 422, "invalid-array")["detail"]
        array[place] = 1
    assert left(home) == []


NAN, INFINITE = X.copy(), X.astype(np.float32)
NAN[2, 3], INFINITE[0, 0] = np.nan, -np.inf
F8 = "{{'descr': '<f8', 'fortran_order': False, 'shape': {}, }}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "starts with nothing"),
        (b"\x93NUMPY", "starts with 934e554d5059"),
        (b"hello, this is no array", "starts with 68656c6c6f"),
        (b"PK\x03\x04" + bytes(100), "starts with 504b0304"),
        (npy(X).replace(b"\x01\x00", b"\x09\x00", 1), "starts with 934e554d50590900"),
        (npy(np.array([X, None], dtype=object)), "Python objects"),
        (npy(np.zeros(3, dtype="V8")), "array of |V8"),
        (npy(np.array(["a", "bc"])), "array of <U2"),
        (npy(np.array([b"a", b"bc"])), "array of |S2"),
        (npy(np.zeros(2, dtype="M8[s]")), "no header of one plain array"),
        (npy(np.zeros(2, dtype=[("a", "f8")])), "no header of one plain array"),
        (npy(X + 1j), "array of complex128"),
        (npy(X.astype(np.longdouble)), "at most 64 bits"),
        (npy(X.astype(">f8")), "byte order"),
        (npy(np.array(1.0)), "the shape ()"),
        (npy(np.zeros((0, 3))), "the shape (0, 3)"),
        (npy(X)[:-1], "has 95 bytes of data"),
        (npy(X) + b"\0", "has 97 bytes of data"),
        (npy(NAN), "not finite"),
        (npy(INFINITE), "not finite"),
        (npy(np.array([True])).removesuffix(b"\1") + b"\2", "truth values"),
        (header(F8.format("(999999999999, 999999999999)")), "has 0 bytes of data"),
        (header(F8.format("(-1, 4)")), "no header of one plain array"),
        (header("__import__('os').abort()"), "no header of one plain array"),
        (
            header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,)" + " " * 60_000),
            "no header of one plain array",
        ),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100), "has a header of 4,294,967,307 bytes"),
        (b"\x93NUMPY\x02\x00\x01\x00\x01\x00" + b" " * 65_537, "has a header of 65,549 bytes"),
        (b"\x93NUMPY\x01\x00\xf0\xff{", "no header"),
    ],
    ids=range(28),
)
def test_no_array_of_numbers_is_422(api: TestClient, home: Path, content: bytes, told: str) -> None:
    answer = put(api, content)
    assert told in problem(answer, 422, "invalid-array")["detail"]
    assert api.head(f"/v1/blobs/{sha256(content)}").status_code == 404
    assert left(home) == []


def test_another_hash(api: TestClient, home: Path) -> None:
    content = npy(X + 2)
    assert sha256(content) in problem(put(api, content, name=ABSENT), 422, "wrong-hash")["detail"]
    assert api.head(f"/v1/blobs/{ABSENT}").status_code == 404
    assert left(home) == []


@pytest.mark.parametrize("name", ["0" * 63, "0" * 65, "A" * 64, "..%2f..%2fetc%2fpasswd", "%00" * 64, "0" * 64 + "%0a"])
def test_names_that_are_no_hash(api: TestClient, home: Path, name: str) -> None:
    before = sorted(home.rglob("*"))
    answer = api.put(f"/v1/blobs/{name}", content=npy(X))
    assert answer.status_code in (404, 405, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert sorted(home.rglob("*")) == before


def test_types_and_encodings(api: TestClient) -> None:
    content = npy(X + 3)
    problem(put(api, content, **{"Content-Type": "application/json"}), 415, "unsupported-media-type")
    problem(put(api, content, **{"Content-Type": "multipart/form-data; boundary=x"}), 415, "unsupported-media-type")
    problem(put(api, content, **{"Content-Encoding": "gzip"}), 415, "unsupported-media-type")
    assert put(api, content, **{"Content-Type": "application/octet-stream"}).status_code == 201


def test_limits(tmp_path: Path) -> None:
    content, other = npy(X), npy(X + 1)
    with client(tmp_path, max_blob_bytes=len(content) - 1) as api:
        problem(put(api, content), 413, "body-too-large")
    with client(tmp_path, blob_quota_bytes=len(content) + 1) as api:
        assert put(api, content).status_code == 201
        assert put(api, content).status_code == 200
        assert "of the quota are free" in problem(put(api, other), 413, "body-too-large")["detail"]
    with client(tmp_path, blob_quota_bytes=len(content) + 1) as api:  # what is there is counted at the start
        problem(put(api, other), 413, "body-too-large")


def test_a_refused_upload_gives_its_quota_back(tmp_path: Path) -> None:
    content = npy(X)
    with client(tmp_path, blob_quota_bytes=len(content)) as api:
        for _ in range(3):
            problem(put(api, content, name=ABSENT), 422, "wrong-hash")
        assert put(api, content).status_code == 201


def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    with client(tmp_path, min_free_disk=2**60) as api:
        assert problem(put(api, npy(X)), 507, "storage-full")["retryable"]
        assert left(tmp_path) == []


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with client(tmp_path) as api:
        with monkeypatch.context() as broken:
            broken.setattr(files.os, "fsync", full)
            problem(put(api, npy(X)), 507, "storage-full")
            assert left(tmp_path) == []
        assert put(api, npy(X)).status_code == 201


def test_what_a_killed_process_left_is_removed_at_the_start(tmp_path: Path) -> None:
    stale = tmp_path / "blobs" / "0123.tmp"
    stale.parent.mkdir()
    stale.write_bytes(b"half")
    reader = BlobStore(settings(tmp_path))
    assert stale.exists()
    with pytest.raises(InvalidInput, match="Upload it first"):
        reader.open(ABSENT)
    with pytest.raises(InvalidInput, match="64 hexadecimal digits"):
        reader.open("../../etc/passwd")
    with client(tmp_path):
        assert not stale.exists()


def test_the_same_array_twice_at_once_is_kept_and_counted_once(tmp_path: Path) -> None:
    store, content = BlobStore(settings(tmp_path)), npy(X)
    store.start()
    with store.upload(sha256(content), len(content)) as one, store.upload(sha256(content), len(content)) as two:
        one.write(content)
        two.write(content)
        assert [two.finish()[1], one.finish()[1]] == [True, False]
    assert store.bytes == len(content)
    assert np.array_equal(store.open(sha256(content)), X)
    assert left(tmp_path) == []


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "one bit":
            content[-2] ^= 1
        case "header":
            content[content.index(b"<f8")] ^= 2
        case "cut off":
            del content[-8:]
        case "empty":
            content.clear()
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["one bit", "header", "cut off", "empty"])
def test_a_damaged_array_is_refused_until_it_is_uploaded_again(tmp_path: Path, how: str) -> None:
    content = npy(X)
    name = sha256(content)
    path = tmp_path / "blobs" / name[:2] / f"{name}.npy"
    job = {"dataset": {"kind": "blob", "sha256": name}, "labellings": [{"kind": "explicit", "values": [1, 1, -1]}]}
    job |= {"estimator": {"kind": "closed-form"}}
    later = job | {"seed": 1}
    with client(tmp_path, blob_quota_bytes=2 * len(content)) as api:
        put(api, content)
        expected = api.post("/v1/estimates", json=job, headers={"Prefer": "wait=30"}).json()["results"][0]["log_p"]
    damage(path, how)
    executor = InProcess(tmp_path)
    with client(tmp_path, executor, blob_quota_bytes=2 * len(content)) as api:
        told = problem(api.post("/v1/estimates", json=later), 422, "data-unavailable")["detail"]
        assert f"{name} is damaged" in told
        assert f"PUT /v1/blobs/{name}" in told
        problem(api.post("/v1/datasets", json=job["dataset"]), 422, "data-unavailable")
        assert api.head(f"/v1/blobs/{name}").status_code == 404  # so that clients send it again
        assert put(api, content).status_code == 201
        assert put(api, npy(X + 1)).status_code == 201  # the quota holds one of each
        found = api.post("/v1/estimates", json=later, headers={"Prefer": "wait=30"}).json()
        assert found["results"][0]["log_p"] == expected


def test_an_array_that_is_damaged_while_its_job_waits_fails_the_job(tmp_path: Path) -> None:
    content = npy(X)
    name = sha256(content)
    job = {"dataset": {"kind": "blob", "sha256": name}, "labellings": [{"kind": "explicit", "values": [1, 1, -1]}]}
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor) as api:
        put(api, content)
        accepted = api.post("/v1/estimates", json=job).json()
        damage(tmp_path / "blobs" / name[:2] / f"{name}.npy", "one bit")
        executor.go_on.set()
        ended = api.get(f"/v1/jobs/{accepted['id']}", headers={"Prefer": "wait=30"}).json()
        while ended["finished"] is None:
            ended = api.get(f"/v1/jobs/{accepted['id']}", headers={"Prefer": "wait=30"}).json()
        assert (ended["state"], ended["error"]["code"]) == ("failed", "data-unavailable")
        assert put(api, content).status_code == 201
        again = api.post("/v1/estimates", json=job, headers={"Prefer": "wait=30"}).json()
        assert again["results"][0]["status"] == "ok"


def test_an_array_is_hashed_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = npy(X)
    with client(tmp_path) as api:
        put(api, content)
    hashed: list[object] = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(1) or real(*args))
    reader = Blobs(tmp_path / "blobs")
    for _ in range(3):
        assert np.array_equal(reader.open(sha256(content)), X)
        assert reader.describe(sha256(content)) is not None
    assert len(hashed) == 1


def test_an_array_is_deleted_when_nothing_uses_it(tmp_path: Path) -> None:
    content = npy(X)
    name = sha256(content)
    data = {"kind": "blob", "sha256": name}
    executor = InProcess(tmp_path)
    executor.go_on.clear()
    with client(tmp_path, executor, blob_quota_bytes=len(content)) as api:
        put(api, content)
        named = api.post("/v1/datasets", json=data).json()["id"]
        job = api.post("/v1/estimates", json={"dataset": data, "labellings": [{"kind": "constant"}]}).json()["id"]
        assert job in problem(api.delete(f"/v1/blobs/{name}"), 409, "array-in-use")["detail"]
        assert job in problem(api.delete(f"/v1/datasets/{named}"), 409, "data-set-in-use")["detail"]
        api.delete(f"/v1/jobs/{job}")
        assert named in problem(api.delete(f"/v1/blobs/{name}"), 409, "array-in-use")["detail"]
        labelled = {"dataset": data, "labellings": [{"kind": "constant"}]}
        labels = api.post("/v1/labellings", json=labelled).json()["id"]
        assert api.delete(f"/v1/datasets/{named}").status_code == 204
        problem(api.get(f"/v1/datasets/{named}"), 404, "not-found")
        problem(api.delete(f"/v1/datasets/{named}"), 404, "not-found")
        assert labels in problem(api.delete(f"/v1/blobs/{name}"), 409, "array-in-use")["detail"]
        assert api.delete(f"/v1/labellings/{labels}").status_code == 204
        assert api.delete(f"/v1/blobs/{name}").status_code == 204
        problem(api.delete(f"/v1/blobs/{name}"), 404, "not-found")
        assert api.head(f"/v1/blobs/{name}").status_code == 404
        assert put(api, npy(X + 1)).status_code == 201  # the quota has room again


def test_nobody_else_can_read_the_store(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    with client(home) as api:
        put(api, npy(X))
        api.post("/v1/datasets", json={"kind": "digits", "n": 5})
        found = {path: path.stat().st_mode & 0o777 for path in (home, home / "blobs", *home.rglob("*"))}
    assert found[home] == found[home / "blobs"] == 0o700
    files = {path.relative_to(home): mode for path, mode in found.items() if path.is_file()}
    assert len(files) >= 5  # database, lock, array, document and specification
    assert {path: oct(mode) for path, mode in files.items() if mode != 0o600} == {}


def test_uploads_that_stall_leave_the_quota_to_others(tmp_path: Path) -> None:
    contents = [npy(X + i) for i in range(3)]
    store = BlobStore(settings(tmp_path, blob_quota_bytes=len(contents[0]) + 20))
    store.start()
    with (
        store.upload(sha256(contents[0]), len(contents[0])) as one,
        store.upload(sha256(contents[1]), len(contents[1])) as two,
    ):
        one.write(contents[0][:10])
        two.write(contents[1][:10])
        with store.upload(sha256(contents[2]), len(contents[2])) as whole:
            whole.write(contents[2])
            assert whole.finish()[1]
        with pytest.raises(Problem, match="of the quota are free"):
            one.write(contents[0][10:])
    with pytest.raises(Problem, match="20 of the quota are free"), store.upload(ABSENT, 21):
        pass


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Whole uploads of any length are held nowhere: neither good ones nor those that are refused at the end."""
    length = 64 * 2**20
    start = header(F8.format(f"({length // 8},)"))
    parts = [start] + [bytes(2**18)] * (length // 2**18)
    store = BlobStore(settings(tmp_path))
    store.start()
    tracemalloc.start()
    try:
        with store.upload(ABSENT, len(start) + length) as upload:
            for part in parts:
                upload.write(part)
            with pytest.raises(Exception, match="has the SHA-256"):
                upload.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20
    assert left(tmp_path) == []
