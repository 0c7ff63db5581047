"""Waiting for jobs."""

from types import SimpleNamespace

import pytest

from nngp_prior import Client, FullyConnected
from nngp_prior.client import as_completed
from nngp_prior.client.status import Status
from nngp_prior.errors import InvalidInput, NotFinished, ServiceError
from nngp_prior.progress import Progress
from nngp_prior.schemas.cost import Cost
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.client.service import FakeService, Handler

NET = FullyConnected(depth=1)


def estimate(client: Client, n: int = 4):
    return client.estimate(NET, Digits(n=n), [Parity()] * 3)


def test_waiting_requests_changes_only(client: Client, service: FakeService) -> None:
    service.ready_after = 3
    job = estimate(client)
    seen: list[Progress] = []
    results = job.result(progress=seen.append)
    assert len(results) == 3
    assert results.about == {"units": "nats", "n": 4}
    assert seen[0] == Progress("labellings", 0, 3)
    assert seen[-1] == Progress("labellings", 3, 3)
    looks = [headers for method, path, headers in service.asked if path == f"/v1/jobs/{job.id}"]
    assert len(looks) == 4
    assert all(headers["prefer"].startswith("wait=") for headers in looks)
    assert "if-none-match" not in looks[0]
    assert looks[-1]["if-none-match"] == '"running"'


def test_pause_of_the_service_is_kept(client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("nngp_prior.client.jobs.time.sleep", pauses.append)
    job = estimate(client)
    path = f"GET /v1/jobs/{job.id}"
    running = service.document(job.id, "running", 3)
    service.faults[path] = [
        lambda handler: handler.answer(200, running, Retry_After="7"),
        lambda handler: handler.answer(200, running, Preference_Applied="wait=30", Retry_After="7"),
        lambda handler: handler.answer(200, running),
    ]
    assert job.wait()
    assert pauses[0] == 7.0
    assert all(0 < pause < 1 for pause in pauses[1:3])


def test_job_that_changes_often_is_requested_once_a_second(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service answers at once each time, as it does where a stage changes between any two questions."""
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def clock() -> float:
        sleep(0.001)
        return now

    monkeypatch.setattr("nngp_prior.client.jobs.time", SimpleNamespace(sleep=sleep, monotonic=clock))
    job = estimate(client)
    running = service.document(job.id, "running", 3)
    answers = [lambda handler: handler.answer(200, running, Preference_Applied="wait=30")]
    service.faults[f"GET /v1/jobs/{job.id}"] = answers * 10_000
    service.asked.clear()
    assert not job.wait(timeout=60)
    assert 55 <= service.count("GET", job.id) <= 75


def test_waiting_ends_at_the_timeout(client: Client, service: FakeService) -> None:
    service.ready_after = 10**6
    job = estimate(client)
    assert not job.wait(0)
    with pytest.raises(NotFinished, match="0 of 3 labellings") as raised:
        job.result(timeout=0.1)
    assert isinstance(raised.value, TimeoutError)
    assert job.id in str(raised.value)
    assert job.status().state == "running"


def test_progress_has_stages_and_rows(client: Client, service: FakeService) -> None:
    job = estimate(client)
    document = service.document(job.id, "running", 3)
    document["progress"]["stage"] = {"stage": "kernel tiles", "done": 2, "total": 9}
    service.faults[f"GET /v1/jobs/{job.id}"] = [lambda handler: handler.answer(200, document)]
    seen: list[Progress] = []
    job.wait(progress=seen.append)
    assert seen[:3] == [Progress("labellings", 0, 3), Progress("labellings", 0, 3), Progress("kernel tiles", 2, 9)]


def test_first_event_is_the_expected_cost_of_the_rows_left(
    client: Client, service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    id = estimate(client).id
    service.ready_after = 10**6
    document = service.document(id, "running", 4) | {"cost": {"bytes": 10**8, "seconds": 800.0}}
    document |= {"data": "fashion-mnist(seed=3)", "n": 2000}
    document["progress"]["current"] = 1
    service.jobs[id] = document
    job = client.job(id)
    service.asked.clear()

    def first(event: Progress) -> None:
        assert not service.asked
        assert event == Progress("labellings", 1, 4, Cost(10**8, 600.0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.wait(progress=first)
    assert not job.wait(0, progress=True)
    title = f"job {id[:12]} (estimates, 2,000 Fashion-MNIST)"
    assert capsys.readouterr().err == f"{title}: expected: about 10 min, 100 MB\n"


def test_a_bar_is_drawn_on_a_terminal(
    client: Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    job = estimate(client)
    job.result(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert job.id[:12] in err
    assert "3/3" in err


def test_results_wait_for_the_job(client: Client, service: FakeService) -> None:
    service.ready_after = 2
    job = estimate(client)
    assert [result.value for result in job.results()] == [-10.0, -11.0, -12.0]


def test_results_of_a_running_job_are_streamed(client: Client, service: FakeService) -> None:
    job = estimate(client)
    early = service.document(job.id, "running", 3)
    early["progress"]["current"] = 1

    def one(handler: Handler) -> None:
        line = '{"labelling": 2, "log_p": "-Infinity", "stderr": null, "status": "ok", "message": ""}\n'
        handler.pieces("application/x-ndjson", line)

    service.faults[f"GET /v1/jobs/{job.id}"] = [lambda handler: handler.answer(200, early)]
    service.faults[f"GET /v1/jobs/{job.id}/results"] = [one]
    results = job.results()
    assert next(results).value == float("-inf")
    assert job.last.state == "running"
    assert [result.labelling for result in results] == [0, 1]


def test_results_of_a_dismissed_job_are_an_error(client: Client, service: FakeService) -> None:
    service.ready_after = 10**6
    job = estimate(client)
    assert job.dismiss().state == "dismissed"
    for ask in (job.result, lambda: list(job.results())):
        with pytest.raises(ServiceError, match="Post it again") as raised:
            ask()
        assert (raised.value.status, raised.value.code) == (410, "dismissed")


def test_a_job_that_failed_raises_its_problem(client: Client, service: FakeService) -> None:
    job = estimate(client)
    problem = {"status": 500, "code": "internal-error", "detail": "The service failed."}
    service.jobs[job.id] = {**service.document(job.id, "failed", 3), "error": problem}
    with pytest.raises(ServiceError, match="The service failed") as raised:
        job.result()
    assert raised.value.code == "internal-error"
    assert job.last.error == problem


def test_as_completed_yields_jobs_as_they_end(client: Client, service: FakeService) -> None:
    service.ready_after = 10**6
    jobs = [estimate(client, n) for n in range(1, 5)]
    service.jobs[jobs[2].id] = service.document(jobs[2].id, "successful", 3)
    ended = as_completed(jobs)
    assert next(ended) is jobs[2]
    jobs[1].dismiss()
    service.ready_after = 0
    assert {job.id for job in ended} == {jobs[i].id for i in (0, 1, 3)}


def test_as_completed_ends_at_the_timeout(client: Client, service: FakeService) -> None:
    service.ready_after = 10**6
    with pytest.raises(NotFinished, match="2 jobs"):
        list(as_completed([estimate(client, 1), estimate(client, 2)], timeout=0.1))


def test_as_completed_checks_its_timeout_at_once_and_yields_each_job_once(client: Client, service: FakeService) -> None:
    with pytest.raises(InvalidInput, match="timeout: got -1"):
        client.as_completed([], timeout=-1)
    service.ready_after = 10**6
    running, failed = (estimate(client, n) for n in (1, 2))
    service.jobs[failed.id] = service.document(failed.id, "failed", 3)
    ended = client.as_completed([running, failed, client.job(failed.id)], timeout=0)
    assert next(ended) == failed
    with pytest.raises(TimeoutError, match="1 job has not ended after 0 s"):
        next(ended)


def test_an_interrupt_of_as_completed_loses_no_job(
    client: Client, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.ready_after = 10**6
    jobs = [estimate(client, n) for n in (1, 2)]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nngp_prior.client.jobs.time.sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            list(client.as_completed(jobs))
    service.ready_after = 0
    assert set(client.as_completed(jobs)) == set(jobs)


def test_progress_text_has_singular_and_plural() -> None:
    assert Status({"progress": {"current": 0, "target": 1, "unit": "labellings"}}).done == "0 of 1 labelling"
    assert Status({"progress": {"current": 1, "target": 2000, "unit": "measures"}}).done == "1 of 2,000 measures"
