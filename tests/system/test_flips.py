"""One flipped bit in each kind of file that the service stores: right numbers or a refusal, never other numbers.

``pytest -m slow -s tests/system/test_flips.py`` prints how often each outcome came.
"""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from structlog.testing import capture_logs

from api.blobs import Blobs
from api.document_store import DocumentStore
from api.routes.submissions import job_id_of
from nngp_prior import FullyConnected, MonteCarlo, kernel, monte_carlo_kernel
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.kernels import KernelCache
from nngp_prior.kernels.tile_journal import journal_path
from nngp_prior.numerics import checkpoint
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.prior.sampling import sample
from nngp_prior.progress import Progress
from nngp_prior.schemas.requests import EstimateRequest, SampleRequest
from tests.api.apps import InProcess, client, npy, sha256

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
FLIPS = 1_000
X = np.random.default_rng(0).standard_normal((12, 3))


def flips(path: Path, whole: bytes) -> Iterator[int]:
    """Files with one other bit, the bits spread over the file."""
    rng = random.Random(0)
    for _ in range(FLIPS):
        bit = rng.randrange(8 * len(whole))
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        yield bit


def told(kind: str, outcomes: Counter[str]) -> None:
    print(f"\n{kind}: {dict(sorted(outcomes.items()))}")
    assert outcomes.total() == FLIPS


def test_uploaded_arrays(tmp_path: Path) -> None:
    content, outcomes = npy(X), Counter[str]()
    reader = Blobs(tmp_path)
    path = reader.path(sha256(content))
    path.parent.mkdir()
    for _ in flips(path, content):
        with pytest.raises(DataUnavailable):
            reader.open(sha256(content))
        outcomes["refused"] += 1
    told("uploaded arrays", outcomes)


@pytest.mark.parametrize("kind", ["matrix", "ledger"])
def test_kernels(tmp_path: Path, kind: str) -> None:
    cache, outcomes = KernelCache(tmp_path, 10**9), Counter[str]()
    expected = np.array(cache.kernel(FullyConnected(), X))
    (entry,) = cache.entries()
    path = entry.path if kind == "matrix" else journal_path(entry.path)
    matrix, ledger = entry.path.read_bytes(), journal_path(entry.path).read_bytes()
    computed: list[Progress] = []
    for _ in flips(path, matrix if kind == "matrix" else ledger):
        computed.clear()
        assert np.array_equal(cache.kernel(FullyConnected(), X, progress=computed.append), expected)
        outcomes["computed again" if computed else "read"] += 1
        entry.path.write_bytes(matrix)
        journal_path(entry.path).write_bytes(ledger)
    told(f"kernels, {kind}", outcomes)


def test_kernel_at_a_path(tmp_path: Path) -> None:
    outcomes = Counter[str]()
    path = tmp_path / "K.npy"
    kernel(FullyConnected(), X, path=path)
    for _ in flips(path, path.read_bytes()):
        with pytest.raises(InvalidInput, match="is damaged"):
            kernel(FullyConnected(), X, path=path)
        outcomes["refused"] += 1
    told("kernel at a path", outcomes)


@pytest.mark.parametrize("name", ["batch-00001.npy", "batch-00001.npy.tiles"])
def test_batches_of_networks(tmp_path: Path, name: str) -> None:
    architecture, monte_carlo, outcomes = FullyConnected(width=8), MonteCarlo(networks=6, batches=3), Counter[str]()
    expected = monte_carlo_kernel(architecture, X, monte_carlo, state=tmp_path).K
    (path,) = tmp_path.glob(f"*/{name}")
    for _ in flips(path, path.read_bytes()):
        events: list[Progress] = []
        found = monte_carlo_kernel(architecture, X, monte_carlo, state=tmp_path, progress=events.append)
        assert np.array_equal(found.K, expected)
        outcomes["computed again" if events[0].cost else "read"] += 1
    told(name, outcomes)


def test_unfinished_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)
    monkeypatch.setattr(sample, "_ROUND", 1)
    dataset, narrow = {"kind": "boolean", "bits": 3}, {"kind": "fully-connected", "width": 4}
    request = SampleRequest.model_validate({"dataset": dataset, "networks": 40_000, "architecture": narrow})
    saved: list[bytes] = []

    def stop(event: Progress) -> None:
        if event.done > 20_000:
            saved.append(next(tmp_path.iterdir()).read_bytes())
            raise TimeoutError

    with pytest.raises(TimeoutError):
        RequestRunner(unfinished=tmp_path).samples(request, stop)
    monkeypatch.undo()
    (path,) = tmp_path.iterdir()
    expected = without_time(RequestRunner().samples(request))
    outcomes = Counter[str]()
    for _ in flips(path, path.read_bytes()):
        events: list[Progress] = []
        assert without_time(RequestRunner(unfinished=tmp_path).samples(request, events.append)) == expected
        outcomes["continued" if events[0].done else "drawn again"] += 1
    told("unfinished draws", outcomes)


def test_documents_of_the_catalogue(tmp_path: Path) -> None:
    register, outcomes = DocumentStore(tmp_path, 0), Counter[str]()
    document = {"largest": 1.25, "rank": 12}
    register.put("a", document)
    path = tmp_path / "a.json"
    with capture_logs():
        for _ in flips(path, path.read_bytes()):
            found = register.get("a")
            assert found in (None, document)
            outcomes["as if it were not there" if found is None else "read"] += 1
    told("documents of the catalogue", outcomes)


def test_compiled_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of JAX's own cache, whose compression has a checksum."""
    from jax._src import compilation_cache

    options = {"jax_compilation_cache_dir": str(tmp_path), "jax_persistent_cache_min_compile_time_secs": 0.0}
    options |= {"jax_persistent_cache_min_entry_size_bytes": -1}
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()

    def compute() -> np.ndarray:
        jax.clear_caches()
        return np.asarray(jax.jit(lambda x: jax.numpy.arcsin(x / 3) @ x.T)(X / 2))

    try:
        expected, outcomes = compute(), Counter[str]()
        path = max(tmp_path.glob("*-cache"), key=lambda path: path.stat().st_size)
        for _ in flips(path, path.read_bytes()):
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                found = compute()
            assert np.array_equal(found, expected)
            outcomes["compiled again" if warned else "read"] += 1
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
    told("compiled functions", outcomes)


REQUESTS = [
    {
        "dataset": {"kind": "digits", "n": 8},
        "labellings": [{"kind": "parity"}, {"kind": "random", "seed": 1}],
        "estimator": {"kind": "ep"},
        "seed": seed,
    }
    for seed in (0, 1)
]


def test_the_database(tmp_path: Path) -> None:
    """One job has ended and one waits; afterwards both are asked for, and posted again where they are refused."""
    home = tmp_path / "home"
    executor = InProcess(home)
    with client(home, executor) as api:
        first = post(api, REQUESTS[0])
        executor.go_on.clear()
        waiting = api.post("/v1/estimates", json=REQUESTS[1]).json()["id"]
    database = home / "service.sqlite"
    whole = database.read_bytes()
    with client(home) as api:
        second = post(api, REQUESTS[1])
    expected = [values(first), values(second)]
    finished = job_id_of("estimates", EstimateRequest.model_validate(REQUESTS[0]))
    outcomes = Counter[str]()
    with capture_logs():
        for bit in flips(database, whole):
            for extra in (*home.glob("service.sqlite-*"), home / "service.lock"):
                extra.unlink()  # a service that did not start keeps its lock until its process ends
            outcomes[outcome(home, [finished, waiting], expected, bit)] += 1
    told("database", outcomes)


def outcome(home: Path, ids: list[str], expected: list[Any], bit: int) -> str:
    found = "read"
    try:
        with client(home) as api:
            for job_id, request, right in zip(ids, REQUESTS, expected, strict=True):
                answer = api.get(f"/v1/jobs/{job_id}/results?partial=true")
                rows = answer.json().get("results", [])
                numbers = {row["labelling"]: row["log_p"] for row in rows}
                assert all(value in (None, right[row]) for row, value in numbers.items()), bit
                refused = answer.status_code != 200 or None in numbers.values()
                again = post(api, request)
                if refused:
                    found = "refused, right when posted again"
                if again is None or values(again) != right:
                    assert again is None or None in values(again), (bit, again)
                    return "refused"
    except InvalidInput as error:
        if error.field != "NNGP_DATABASE_URL":
            raise
        return "refused at the start"
    return found


def post(api: Any, request: dict[str, Any]) -> dict[str, Any] | None:
    answer = api.post("/v1/estimates", json=request, headers={"Prefer": "wait=5"})
    document = answer.json()
    return document if "results" in document else None


def values(document: Any) -> list[Any]:
    return [row["log_p"] for row in document["results"]]


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}
