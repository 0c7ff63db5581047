"""What the client sends, and what it makes of the answers."""

import hashlib
import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest

from nngp_prior import Client
from nngp_prior.client import as_completed
from nngp_prior.client.requests import Npy
from nngp_prior.errors import InvalidInput, InvalidLabels, ServiceError
from nngp_prior.schemas.requests import EstimateRequest
from nngp_prior.schemas.specs.data import BlobData, Digits, Parity, Threshold
from tests.client.requests import NET, X, Y, posted
from tests.client.service import TOKEN, FakeService, refuse


def test_arrays_are_uploaded_once_as_npy_files_of_their_hash(client: Client, service: FakeService) -> None:
    job = client.estimate(NET, X, Y, seed=3, particles=64)
    assert [(r.labelling, r.value, r.stderr) for r in job.result()] == [(0, -10.0, 0.5), (1, -11.0, 0.5)]
    arrays = [np.load(io.BytesIO(content)) for content in service.blobs.values()]
    np.testing.assert_array_equal(arrays[0], X)
    np.testing.assert_array_equal(arrays[1], Y)
    assert [array.dtype for array in arrays] == [np.float64, np.int8]
    assert all(hashlib.sha256(content).hexdigest() == sha for sha, content in service.blobs.items())
    again = client.estimate(NET, X, Y, seed=3, particles=64)
    assert again.id == job.id
    assert service.count("PUT") == 2
    assert service.count("HEAD") == 4


def test_request_has_all_arguments(client: Client) -> None:
    request = posted(client, NET, Digits(n=7), [Threshold(at=5), {"kind": "parity"}], method="ep", seed=9, max_sweeps=4)
    assert request == EstimateRequest(
        architecture=NET,
        dataset=Digits(n=7),
        labellings=(Threshold(at=5), Parity()),
        estimator={"kind": "ep", "max_sweeps": 4},
        seed=9,
    )


def test_one_labelling_is_one_row(client: Client, service: FakeService) -> None:
    assert len(client.estimate(NET, X, Y[0]).result()) == 1
    assert len(client.estimate(NET, Digits(n=4), Parity()).result()) == 1


@pytest.mark.parametrize(
    ("labels", "sent"),
    [
        (np.array([True, False]), [1, -1]),
        ([1.0, -1.0], [1, -1]),
        ([0, 1], [0, 1]),
        ([1, 257], [1, 257]),
        ([1, 65_537], [1, -128]),
        ([1, np.nan], [1, -128]),
        ([-1, 0.5], [-1, -128]),
    ],
)
def test_invalid_labels_stay_invalid(client: Client, service: FakeService, labels, sent: list[int]) -> None:
    rows = [labels, np.where([True, False], 1, -1)]
    if set(sent) == {-1, 1}:
        client.estimate(NET, Digits(n=2), np.array(labels)[None])
        rows = rows[:1]
    else:
        with pytest.warns(UserWarning, match="1 of 2 labellings cannot be used"):
            client.estimate(NET, Digits(n=2), rows)
    (content,) = service.blobs.values()
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), [sent, [1, -1]][: len(rows)])


def test_classes_beyond_127(client: Client, service: FakeService) -> None:
    labels = np.array([[0, 127, 128, 299], [1, 2, 3, 4]])
    client.estimate(NET, Digits(n=4), labels, classes=300)
    (content,) = service.blobs.values()
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), labels)


@pytest.mark.parametrize(
    ("inputs", "labels", "options", "error", "part"),
    [
        (X, np.zeros((1, 2, 4)), {}, InvalidLabels, "Y: has shape"),
        (X, [], {}, InvalidLabels, "Y: has shape"),
        (X, [["a"]], {}, InvalidLabels, "Y: is not an array of real numbers"),
        (X, [[1], [1, 1]], {}, InvalidLabels, "Y: has rows of different lengths"),
        (np.zeros(3), Y, {}, InvalidInput, "X: has shape"),
        ([["a"]], Y, {}, InvalidInput, "X: is not an array of real numbers"),
        (X, Y, {"method": "typo"}, InvalidInput, "method: got 'typo'"),
        (X, Y, {"particles": 1}, InvalidInput, "particles: got 1"),
        (X, [{"kind": "typo"}], {}, InvalidInput, "typo"),
    ],
)
def test_invalid_arguments_are_refused_before_any_request(
    client: Client, service: FakeService, inputs, labels, options, error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        client.estimate(NET, inputs, labels, **options)
    assert service.asked == []


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">i4"), np.array(2.5), np.zeros((2, 2), np.float16), X[::2]],
)
def test_npy_files_equal_those_of_numpy(array: np.ndarray) -> None:
    file = Npy(array)
    content = b"".join(file.pieces())
    assert (len(content), hashlib.sha256(content).hexdigest()) == (file.length, file.sha256)
    loaded = np.load(io.BytesIO(content))
    np.testing.assert_array_equal(loaded, array)
    assert loaded.dtype.str in ("<f8", "<i4")


def test_uploads_can_be_named_in_specifications(client: Client) -> None:
    dataset = BlobData(sha256=client.upload(X), classes=client.upload(np.arange(4)))
    assert posted(client, NET, dataset, [Parity()]).dataset == dataset
    with pytest.raises(InvalidInput, match="array: has the type"):
        client.upload(["a"])


def test_token_is_an_argument_or_from_the_environment_or_the_file(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    def jobs(*arguments: object) -> int:
        with Client(*arguments) as client:
            assert TOKEN not in repr(client)
            return len(list(client.jobs()))

    monkeypatch.setenv("NNGP_HOME", str(tmp_path))
    assert jobs() == 0
    monkeypatch.setenv("NNGP_TOKEN", "other")
    assert jobs(None, TOKEN) == 0
    with pytest.raises(ServiceError, match="Give the token") as refused:
        jobs()
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (401, "unauthorized", False)
    with Client() as client, pytest.raises(ServiceError, match="NNGP_TOKEN") as refused:
        client.upload(X)  # the answer to HEAD has no body
    assert refused.value.code == "unauthorized"
    monkeypatch.delenv("NNGP_TOKEN")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert jobs() == 0


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "nonsense"])
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="url"):
        Client(url)


@pytest.mark.parametrize("timeout", [-1, 0, float("nan")])
def test_invalid_timeouts_are_refused(client: Client, timeout: float) -> None:
    with pytest.raises(InvalidInput, match=f"timeout: got {timeout}"):
        Client(timeout=timeout)
    job = client.estimate(NET, Digits(n=4), Parity())
    for wait in (
        job.wait,
        lambda timeout: job.result(timeout=timeout),
        lambda timeout: list(as_completed([job], timeout)),
    ):
        if timeout != 0:
            with pytest.raises(InvalidInput, match=f"timeout: got {timeout}"):
                wait(timeout)


def test_a_job_by_the_beginning_of_its_id(client: Client) -> None:
    jobs = [client.estimate(NET, Digits(n=n), Parity()) for n in range(4, 21)]  # more than first digits
    assert client.job(jobs[3].id[:8]).id == jobs[3].id
    shared = next(a.id[0] for a in jobs if sum(b.id[0] == a.id[0] for b in jobs) > 1)
    with pytest.raises(InvalidInput, match=f"^id: more than one job has an id that begins with '{shared}'"):
        client.job(shared)
    with pytest.raises(InvalidInput, match=r"^id: no job has an id that begins with '0123456789'"):
        client.job("0123456789")


def test_the_service_of_this_home_is_found_on_any_port(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NNGP_HOME", str(tmp_path))
    monkeypatch.delenv("NNGP_URL", raising=False)
    assert Client().url == "http://127.0.0.1:8000"
    (tmp_path / "url").write_text(f"{service.url}\n")
    assert Client().url == service.url
    monkeypatch.setenv("NNGP_URL", "http://127.0.0.1:1")
    assert Client().url == "http://127.0.0.1:1"


@pytest.mark.usefixtures("no_pauses")
def test_error_names_the_address_file_of_a_killed_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_HOME", str(tmp_path))
    monkeypatch.delenv("NNGP_URL", raising=False)
    (tmp_path / "url").write_text("http://127.0.0.1:1\n")
    with Client() as client, pytest.raises(ServiceError) as refused:
        client.upload(X)
    assert f"is from {tmp_path / 'url'}" in str(refused.value)
    assert "nngp-prior serve" in str(refused.value)
    with Client("http://127.0.0.1:1") as client, pytest.raises(ServiceError) as refused:
        client.upload(X)
    assert "is from" not in str(refused.value)


@pytest.mark.parametrize("id", ["xyz", "", "F" * 64, "../" + "0" * 61])
def test_invalid_ids_are_refused(client: Client, service: FakeService, id: str) -> None:
    with pytest.raises(InvalidInput, match="hexadecimal digits"):
        client.job(id)
    assert service.asked == []


def test_tokens_with_control_characters_are_refused() -> None:
    with pytest.raises(InvalidInput, match="token"):
        Client("http://127.0.0.1:1", "a\nb")


def test_problems_are_the_errors_that_the_library_raises(client: Client, service: FakeService) -> None:
    errors = [{"location": "body.dataset.n", "message": "2,000 inputs where digits has 1,437. Use at most 1,437."}]
    cases = [
        (refuse(422, "invalid-request", "no", errors), InvalidInput, "dataset.n: 2,000 inputs where digits has 1,437."),
        (refuse(422, "kernel-too-large", "n: at most 900."), MemoryError, "n: at most 900."),
        (refuse(422, "time-limit", "It took 9 s."), MemoryError, "It took 9 s."),
        (refuse(422, "data-unavailable", "mnist: no such file."), OSError, "mnist: no such file."),
        (refuse(500, "internal-error", "The service failed."), ServiceError, "The service failed."),
    ]
    for fault, error, text in cases:
        service.faults["POST"] = [fault]
        with pytest.raises(error) as raised:
            client.estimate(NET, Digits(n=4), Parity())
        assert str(raised.value).startswith(text)
        assert raised.value.__suppress_context__  # one traceback
        own = raised.value if isinstance(raised.value, ServiceError) else raised.value.__context__
        assert isinstance(own, ServiceError)
        assert own.problem["status"] == own.status
    service.faults["POST"] = [refuse(422, "invalid-request", "no", errors)]
    with pytest.raises(InvalidInput) as refused:
        client.estimate(NET, Digits(n=4), Parity())
    assert (refused.value.field, refused.value.remedy) == ("dataset.n", "Use at most 1,437.")


def test_answers_of_other_programs_have_an_unknown_code(client: Client, service: FakeService) -> None:
    service.faults["GET"] = [lambda handler: handler.answer(404, b"<html>", "text/html")]
    with pytest.raises(ServiceError, match="answered 404 Not Found") as raised:
        list(client.jobs())
    assert raised.value.code == "unknown"


def test_cost_of_a_request(client: Client, service: FakeService) -> None:
    request = EstimateRequest(dataset=Digits(n=4), labellings=(Parity(),))
    assert client.cost(request)["seconds"] == 2.0
    assert service.jobs == {}


def test_jobs_are_listed_page_by_page_and_found_again(client: Client, service: FakeService) -> None:
    submitted = [client.estimate(NET, Digits(n=n), Parity()) for n in range(1, 6)]
    assert [job.id for job in client.jobs()] == [job.id for job in submitted]
    submitted[0].wait()
    assert [job.id for job in client.jobs("successful")] == [submitted[0].id]
    assert client.job(submitted[3].id).result().values.tolist() == [-10.0]
    with pytest.raises(ServiceError) as raised:
        client.job("f" * 64)
    assert raised.value.code == "not-found"


def test_bodies_are_json_that_the_service_reads_back(client: Client, service: FakeService) -> None:
    bodies = []
    service.faults["POST"] = [lambda handler: handler.problem(404, "not-found")]
    submit, service.submit = service.submit, lambda request: bodies.append(request) or submit(request)
    with pytest.raises(ServiceError):
        client.estimate(NET, Digits(n=4), Parity())
    client.estimate(NET, Digits(n=4), Parity())
    assert EstimateRequest.model_validate_json(json.dumps(bodies[0])).architecture == NET


def test_requests_pass_through_a_transport() -> None:
    """A refusal in between is tried again, through the same transport, with the token."""
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        if len(seen) == 1:
            return httpx2.Response(503, headers={"Retry-After": "0"})
        return httpx2.Response(200, json={"n": 4, "input_shape": [64], "classes": [0, 1]})

    with Client("http://service.example", TOKEN, transport=httpx2.MockTransport(answer)) as client:
        assert client.describe(Digits(n=4))["n"] == 4
    assert [str(request.url) for request in seen] == ["http://service.example/v1/datasets"] * 2
    assert {request.headers["Authorization"] for request in seen} == {f"Bearer {TOKEN}"}
