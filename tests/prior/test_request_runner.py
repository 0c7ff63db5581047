"""Requests carried out in process."""

import os

import numpy as np
import pytest

from nngp_prior import FunctionCounts, log_prior, log_probability
from nngp_prior.data import load
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import KernelCache
from nngp_prior.numerics import checkpoint
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.prior.sampling import request as sampling_request
from nngp_prior.prior.sampling import sample
from nngp_prior.progress import Progress
from nngp_prior.schemas.requests import BoundRequest, EstimateRequest, KernelRequest, SampleRequest
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits

SHA = "a" * 64
DIGITS = {"kind": "digits", "n": 20}


@pytest.fixture
def cache(tmp_path) -> KernelCache:
    return KernelCache(tmp_path, 10**9)


def request(*labellings: dict, **fields) -> EstimateRequest:
    return EstimateRequest.model_validate({"dataset": DIGITS, "labellings": labellings, **fields})


def test_rows_are_what_the_library_computes(cache: KernelCache) -> None:
    results = dict(RequestRunner(cache).estimates(request({"kind": "parity"}, {"kind": "random", "seed": 3}, seed=5)))
    data = load(Digits(n=20))
    labels = 2 * (data.classes % 2) - 1
    expected = log_prior(FullyConnected(depth=2), data.X, labels, seed=5)
    assert results[0]["log_p"] == expected.value
    assert results[0]["stderr"] == expected.stderr
    assert results[0]["lower_bound"] == {"delta": 0.01, "log_p": expected.lower_bound(0.01)}
    assert sorted(results) == [0, 1]


def test_a_labelling_that_cannot_be_used_does_not_keep_the_others_from_being_computed(cache: KernelCache) -> None:
    asked = request({"kind": "explicit", "values": [1, -1]}, {"kind": "constant"}, {"kind": "threshold", "at": 99})
    results = dict(RequestRunner(cache).estimates(asked))
    assert [results[i]["status"] for i in range(3)] == ["invalid-labels", "ok", "invalid-labels"]
    assert "2 labels where there are 20 inputs" in results[0]["message"]
    assert results[0]["log_p"] is None


def test_classes_and_uploaded_ones(cache: KernelCache) -> None:
    data = load(Digits(n=20))
    arrays = {SHA: data.classes[None].astype(np.int8)}
    of_classes = {"kind": "ep", "classes": 10}
    asked = request({"kind": "classes"}, {"kind": "blob", "sha256": SHA}, {"kind": "parity"}, estimator=of_classes)
    results = dict(RequestRunner(cache, arrays.__getitem__).estimates(asked))
    expected = log_prior(FullyConnected(depth=2), data.X, data.classes, method="ep", classes=10)
    assert results[0]["log_p"] == results[1]["log_p"] == expected.value
    assert results[2]["status"] == "invalid-labels"
    assert "With classes=10, labels are integers 0 … 9" in results[2]["message"]
    (without,) = dict(RequestRunner(cache).estimates(request({"kind": "classes"}, estimator={"kind": "ep"}))).values()
    assert without["status"] == "invalid-labels"
    assert "If they are classes 0 … C-1, pass classes=C" in without["message"]


def test_rows_can_be_asked_for_apart(cache: KernelCache) -> None:
    runner = RequestRunner(cache)
    asked = request(*({"kind": "random", "seed": i} for i in range(4)), estimator={"kind": "ep"})
    whole = dict(runner.estimates(asked))
    part = dict(runner.estimates(asked, [3, 1]))
    assert sorted(part) == [1, 3]
    for row, document in part.items():
        assert document["log_p"] == whole[row]["log_p"]


def test_uploaded_arrays(cache: KernelCache) -> None:
    data = load(Digits(n=20))
    Y = np.sign(np.random.default_rng(0).standard_normal((3, 20))).astype(np.int8)
    Y[1, 4] = 0
    arrays = {SHA: data.images, "b" * 64: Y, "c" * 64: data.classes}
    runner = RequestRunner(cache, arrays.__getitem__)
    blob = {"kind": "blob", "sha256": SHA, "classes": "c" * 64}
    asked = request(
        {"kind": "blob", "sha256": "b" * 64},
        {"kind": "parity"},
        {"kind": "blob", "sha256": "b" * 64, "corruption": {"kind": "flip", "count": 20}},
        dataset=blob,
        estimator={"kind": "ep"},
    )
    assert len(runner.places(asked.labellings)) == 7
    results = dict(runner.estimates(asked))
    assert [results[i]["status"] for i in range(7)] == [
        "ok",
        "invalid-labels",
        "ok",
        "ok",
        "ok",
        "invalid-labels",
        "ok",
    ]
    K = runner.kernel(KernelRequest(dataset=asked.dataset))
    for row, y in ((0, Y[0]), (2, Y[2]), (4, -Y[0])):
        assert results[row]["log_p"] == log_probability(K, y, method="ep").value


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.ones((), dtype=np.int8), "shape"),
        (np.ones((2, 20), dtype=complex), "complex128"),
        (np.ones((1, 2, 20), dtype=int), "shape"),
    ],
)
def test_uploaded_labellings_of_another_form_are_refused(cache: KernelCache, array: np.ndarray, problem: str) -> None:
    runner = RequestRunner(cache, lambda _: array)
    with pytest.raises(InvalidInput, match=problem):
        runner.places(request({"kind": "blob", "sha256": SHA}).labellings)


def test_without_a_service_there_are_no_uploaded_arrays(cache: KernelCache) -> None:
    with pytest.raises(InvalidInput, match="only a service has"):
        RequestRunner(cache).places(request({"kind": "blob", "sha256": SHA}).labellings)
    with pytest.raises(InvalidInput, match="only a service has"):
        RequestRunner(cache).data(request({"kind": "parity"}, dataset={"kind": "blob", "sha256": SHA}).dataset)


def test_the_last_kernels_and_factors_are_kept_and_the_older_ones_not(cache: KernelCache) -> None:
    runner = RequestRunner(cache)
    events: list[Progress] = []

    def run(n: int) -> int:
        events.clear()
        dict(runner.estimates(request({"kind": "parity"}, dataset={"kind": "digits", "n": n}), None, events.append))
        return sum(event.stage == "kernel tiles" and event.done > 0 for event in events)

    assert [run(n) for n in (10, 11, 10, 11)] == [1, 1, 0, 0]
    kept = runner.kernel(KernelRequest(dataset=Digits(n=11)))
    assert runner.kernel(KernelRequest(dataset=Digits(n=11))) is kept
    assert runner.has(KernelRequest(dataset=Digits(n=10)))
    assert not runner.has(KernelRequest(dataset=Digits(n=12)))


DRAWS = {"dataset": {"kind": "boolean", "bits": 3}, "networks": 60_000, "top": 5}


def without_time(row: dict) -> dict:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_samples_that_were_cut_off_go_on(cache: KernelCache, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved and intact is not drawn again, the result is the same, and the file goes with it."""
    asked = SampleRequest.model_validate(DRAWS | {"architecture": {"kind": "fully-connected", "width": 4}})
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 10.0**9)
    monkeypatch.setattr(sample, "_ROUND", 1)
    folder = tmp_path / "samples"
    left_behind = folder / "old.npz"
    folder.mkdir()
    left_behind.write_bytes(bytes(11))
    os.utime(left_behind, (0, 0))
    monkeypatch.setattr(sampling_request, "_KEPT_BYTES", 10)

    class Cut(Exception):
        pass

    def cut(event: Progress) -> None:
        if event.done > 30_000:
            raise Cut

    with pytest.raises(Cut):
        RequestRunner(cache, unfinished=folder).samples(asked, cut)
    (kept,) = folder.iterdir()
    assert kept.suffix == ".npz"
    done = FunctionCounts.load(kept).draws
    assert 0 < done < 60_000
    content = kept.read_bytes()
    told: list[Progress] = []
    row = RequestRunner(cache, unfinished=folder).samples(asked, told.append)
    assert told[0].done >= done
    assert list(folder.iterdir()) == []
    expected = without_time(RequestRunner(cache).samples(asked))
    assert without_time(row) == expected
    for place in (0, len(content) // 2, len(content) - 30):  # damaged: drawn again
        kept.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        told.clear()
        assert without_time(RequestRunner(cache, unfinished=folder).samples(asked, told.append)) == expected
        assert told[0].done == 0


def test_requests_of_all_kinds(cache: KernelCache) -> None:
    runner = RequestRunner(cache)
    labellings = [{"kind": "parity"}, {"kind": "constant"}]
    bounds = BoundRequest.model_validate({"dataset": DIGITS, "labellings": labellings, "estimator": {"kind": "ep"}})
    narrow = {"kind": "fully-connected", "width": 4}
    samples = SampleRequest.model_validate(DRAWS | {"networks": 100, "architecture": narrow})
    for asked, count in ((request(*labellings), 2), (bounds, 2), (samples, 1)):
        assert runner.count(asked) == count
        found = dict(runner.results(asked, range(count)))
        assert sorted(found) == list(range(count))
        facts = runner.facts(asked)
        assert (facts["n"], "kernel" in facts) == ((8, False) if asked is samples else (20, True))
        assert facts["dataset"] == asked.dataset.model_dump(mode="json")
    assert "bounds" in dict(runner.results(bounds, [1]))[1]
