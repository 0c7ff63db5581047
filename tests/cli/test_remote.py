"""Commands that call a service, and the one that starts it."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from nngp_prior import Client, FullyConnected
from nngp_prior.cli.common.remote import all_waited_for
from nngp_prior.client import RemoteJob
from nngp_prior.client.status import Status
from nngp_prior.schemas.specs.data import Digits, Parity
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused
from tests.client.service import TOKEN, FakeService, fake_service, refuse


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    with fake_service() as service:
        monkeypatch.setenv("NNGP_URL", service.url)
        monkeypatch.setenv("NNGP_TOKEN", TOKEN)
        yield service


@pytest.fixture
def job(service: FakeService) -> str:
    with Client() as client:
        return client.estimate(FullyConnected(), Digits(n=4), [Parity(), Parity()]).id


def test_estimates_of_a_service(run, service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
    monkeypatch.delenv("NNGP_URL")
    options = "-n 50 --labelling parity --labelling threshold:3 --corrupt flip:2 --depth 1 --particles 64 --seed 5"
    ended = run("estimate", *options.split(), "--url", service.url, "--json")
    assert ended.code == 0
    document = parse(ended.out)
    assert (document["units"], document["n"]) == ("nats", 4)
    assert [(row["name"], row["log_p"]) for row in document["results"]] == [
        ("parity, flip:2", -10.0),
        ("threshold:3, flip:2", -11.0),
    ]
    (request,) = asked
    assert (request["architecture"]["depth"], request["estimator"]["particles"], request["seed"]) == (1, 64, 5)
    assert request["dataset"]["n"] == 50
    table = run("estimate", *options.split(), "--url", service.url)
    assert "-10.00 ± 0.50" in table.out


def test_files_are_uploaded(run, service: FakeService, tmp_path: Path) -> None:
    asked = []
    submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
    np.save(tmp_path / "y.npy", np.array([[1, -1, 1, 1], [-1, -1, 1, 1]]))
    np.savez(tmp_path / "x.npz", images=np.eye(4), labels=np.array([1, -1, 1, 1]))
    ended = run("estimate", "--inputs-file", tmp_path / "x.npz", "--labels-file", tmp_path / "y.npy", "--json")
    assert [row["name"] for row in parse(ended.out)["results"]] == ["y.npy[0]", "y.npy[1]"]
    ended = run("estimate", "--inputs-file", tmp_path / "x.npz", "--preprocessing", "unit-norm", "--json")
    assert [row["name"] for row in parse(ended.out)["results"]] == ["x.npz"]
    run("estimate", "--inputs-file", tmp_path / "x.npz", "--labelling", "random:3", "--json")
    run("estimate", "-n", 4, "--labels-file", tmp_path / "y.npy", "--json")
    assert [request["dataset"]["kind"] for request in asked] == ["blob", "blob", "blob", "digits"]
    assert [request["labellings"][0]["kind"] for request in asked] == ["blob", "blob", "random", "blob"]
    assert asked[1]["dataset"]["preprocessing"] == "unit-norm"
    assert all(request["dataset"]["classes"] in service.blobs for request in asked[:3])


def test_classes_as_labels_of_a_service(run, service: FakeService, tmp_path: Path) -> None:
    """Their number is that of the data, as in process."""
    asked = []
    submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
    np.savez(tmp_path / "x.npz", images=np.eye(4), labels=np.array([0, 1, 2, 1]))
    run("estimate", "-n", 4, "--labelling", "classes", "--method", "ep")
    run("estimate", "-n", 4, "--classes", "1,4,7", "--labelling", "classes", "--method", "ep")
    run("estimate", "--inputs-file", tmp_path / "x.npz", "--labelling", "classes", "--method", "ep")
    assert [request["estimator"]["classes"] for request in asked] == [10, 3, 3]
    mixed = run("estimate", "-n", 4, "--labelling", "classes", "--labelling", "parity", "--method", "ep")
    assert_refused(mixed, "classes beside labellings")


def test_what_a_service_does_not_take(run, service: FakeService, tmp_path: Path) -> None:
    np.save(tmp_path / "K.npy", np.eye(2))
    assert_refused(run("estimate", "--kernel-file", tmp_path / "K.npy"), "--kernel-file", "NNGP_URL")
    service.faults["POST"] = [refuse(422, "kernel-too-large", "n: at most 900 fit.")]
    assert_refused(run("estimate", "-n", 4), "n: at most 900 fit.")
    assert_refused(run("estimate", "-n", 4, "--url", "nonsense"), "url", "'nonsense'")


def test_bounds_of_a_service(run, service: FakeService, tmp_path: Path) -> None:
    asked = []
    submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
    options = "--m 50,20 --corrupt flip:2 --depth 1 --particles 64 --delta 0.1 --seed 5 --json"
    ended = run("bound", *options.split())
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert [point["m"] for point in document["points"]] == [20, 50]
    assert document["points"][0]["bounds"][0]["name"] == "realizable"
    assert document["labelling"] == "threshold:5, flip:2"
    (request,) = asked
    assert service.work == "bounds"
    assert (request["architecture"]["depth"], request["estimator"]["particles"], request["seed"]) == (1, 64, 5)
    assert (request["dataset"]["n"], request["sizes"], request["delta"]) == (50, [20, 50], 0.1)
    assert request["labellings"][0]["corruption"]["count"] == 2
    printed = run("bound", "-n", 4, "--plot", tmp_path / "bounds.png").out
    assert "-10.00 ± 0.50" in printed
    assert (tmp_path / "bounds.png").exists()
    np.save(tmp_path / "y.npy", np.array([1, -1, 1, 1]))
    run("bound", "-n", 4, "--labels-file", tmp_path / "y.npy", "--corrupt", "randomise:0.1", "--json")
    (uploaded,) = asked[-1]["labellings"]
    assert (uploaded["kind"], uploaded["corruption"]["probability"]) == ("blob", 0.1)
    np.save(tmp_path / "K.npy", np.eye(4))
    files = ("--kernel-file", tmp_path / "K.npy", "--labels-file", tmp_path / "y.npy")
    assert_refused(run("bound", *files), "--kernel-file", "NNGP_URL")


def test_samples_of_a_service(run, service: FakeService, tmp_path: Path) -> None:
    asked = []
    submit, service.submit = service.submit, lambda request: asked.append(request) or submit(request)
    options = ("-N", 10, "--bits", 2, "--width", 5, "--source", "gp", "--top", 4, "--seed", 5)
    document = parse(run("sample", *options, "--json").out)
    (request,) = asked
    assert service.work == "samples"
    assert (request["networks"], request["source"], request["top"], request["seed"]) == (10, "gp", 4, 5)
    assert (request["architecture"]["width"], request["dataset"]["bits"]) == (5, 2)
    assert (document["draws"], document["undecided"], document["functions"]) == (10, 1, 5)
    (top,) = document["top"]
    assert (top["labels"], top["draws"], top["lempel_ziv"]) == ("1101", 3, 7.0)
    ended = run("sample", *options, "--estimate", "ep")
    assert "-10.00 ± 0.50" in ended.out
    assert "most often at input 1" in ended.err
    assert asked[-1]["estimator"]["kind"] == "ep"
    for option in ("--out", "--compare", "--plot"):
        path = tmp_path / ("counts.png" if option == "--plot" else "counts.npz")
        assert_refused(run("sample", *options, option, path), option, "NNGP_URL")


class WaitedFor:
    """A job whose results are its number; the third wait is interrupted."""

    def __init__(self, number: int) -> None:
        self.number, self.id = number, f"{number}" * 64
        self.last = Status({"id": self.id, "kind": "estimates"})

    def result(self, progress: bool) -> int:
        if self.number == 2:
            raise KeyboardInterrupt
        return self.number


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (3, "The job keeps running: nngp-prior jobs watch 222222222222"),
        (5, "3 jobs keep running, this one first: nngp-prior"),
    ],
)
def test_jobs_go_on_where_the_wait_is_interrupted(capsys: pytest.CaptureFixture[str], jobs: int, said: str) -> None:
    waiting = [cast(RemoteJob, WaitedFor(number)) for number in range(jobs)]
    assert all_waited_for(waiting[:2]) == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        all_waited_for(waiting)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["estimate -n 4", "bound -n 4", "posterior -n 4 --train 2", "sample -N 10 --bits 2 --width 5"],
)
def test_names_and_tags_are_sent(run, service: FakeService, command: str) -> None:
    ended = run(*command.split(), "--name", "a b", "--tag", "x", "--tag", "y", "--json")
    assert ended.code == 0, ended.err
    assert [path.partition("?")[2] for method, path, _ in service.asked if method == "POST"] == ["name=a+b&tag=x&tag=y"]


def test_jobs_are_named_and_found(run, service: FakeService, job: str) -> None:
    shown = parse(run("jobs", "tag", job, "--name", "[red]a", "--tag", "b", "--untag", "c", "--json").out)
    assert (shown["name"], shown["tags"]) == ("[red]a", ["b"])
    assert "[red]a" in run("jobs", "show", job).out
    listed = run("jobs", "list", "--name", "A", "--tag", "b", "--tag", "c", "--state", "successful")
    assert "[red]a" in listed.out
    assert service.asked[-1][1] == "/v1/jobs?name=A&tag=b&tag=c&state=successful&limit=200"
    assert_refused(run("jobs", "tag", job), "--name, --tag or --untag", "at least one")
    assert_refused(run("jobs", "tag", job, "--tag", "b", "--untag", "b"), "--untag", "not both")
    assert_refused(run("jobs", "list", "--tag", " b"), "--tag", "' b'", "Remove the spaces")


def test_names_need_a_service(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNGP_URL", raising=False)
    assert_refused(run("estimate", "-n", 4, "--name", "a"), "--name", "--url")
    assert_refused(run("experiment", "run", "digits", "--tag", "a"), "--tag", "--url")


def test_jobs_are_listed_and_shown(run, service: FakeService, job: str) -> None:
    service.ready_after = 10**6
    assert parse(run("jobs", "list", "--json").out)["jobs"][0]["id"] == job
    assert parse(run("jobs", "list", "--state", "failed", "--json").out)["jobs"] == []
    assert job[:8] in run("jobs", "list").out
    assert parse(run("jobs", "show", job, "--json").out)["state"] == "running"
    assert "0 of 2 labellings" in run("jobs", "show", job[:8]).out
    assert_refused(run("jobs", "show", "nonsense"), "nonsense", "hexadecimal")
    assert_refused(run("jobs", "show", "f" * 64), "there is none")
    assert_refused(run("jobs", "results", job), "has not ended")


def test_a_job_is_watched_and_its_results_printed(run, service: FakeService, job: str) -> None:
    service.ready_after = 2
    ended = run("jobs", "watch", job, "--json")
    assert (ended.code, parse(ended.out)["state"]) == (0, "successful")
    assert [row["log_p"] for row in parse(run("jobs", "results", job, "--json").out)["results"]] == [-10.0, -11.0]
    assert "-11.00 ± 0.50" in run("jobs", "results", job[:12]).out
    rows = list(csv.DictReader(io.StringIO(run("jobs", "results", job, "--csv").out)))
    assert [(row["labelling"], float(row["log_p"])) for row in rows] == [("0", -10.0), ("1", -11.0)]


def test_a_job_that_is_dismissed_ends_the_watch_with_status_1(run, service: FakeService, job: str) -> None:
    service.ready_after = 10**6
    assert parse(run("jobs", "dismiss", job, "--json").out)["state"] == "dismissed"
    assert run("jobs", "watch", job).code == 1
    assert_refused(run("jobs", "results", job), "It was dismissed")


STUB = """
import json, os, signal, sys
if {immediately}:
    sys.exit(3)
signal.signal(signal.SIGINT, lambda *_: sys.exit(40))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(50))
print(json.dumps(dict((k, v) for k, v in os.environ.items() if k.startswith("NNGP_"))), flush=True)
signal.pause()
"""


def started(folder: Path, *arguments: str, immediately: bool = False, **environment: str) -> subprocess.Popen[str]:
    """``nngp-prior serve`` with something else in place of the service, which tells how it was started."""
    (folder / "api.py").write_text(STUB.format(immediately=immediately))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NNGP_")}
    path = os.pathsep.join([str(folder), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", "from nngp_prior.cli import main; main()", "serve", *arguments]
    environment = {**inherited, **environment, "PYTHONPATH": path}
    return subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 40), (signal.SIGTERM, 50), (signal.SIGHUP, 50), (signal.SIGKILL, None)]
)
def test_serve_hands_on_settings_and_signals_and_ends_with_the_services_status(
    tmp_path: Path, number: signal.Signals, status: int | None
) -> None:
    options = ["--port", "8123", "--slots", "2", "--no-token", "--memory-limit", "1000000"]
    with started(tmp_path, *options, NNGP_HOST="localhost", NNGP_QUEUE_LIMIT="7") as serving:
        assert serving.stdout is not None
        settings = json.loads(serving.stdout.readline())
        expected = {"NNGP_PORT": "8123", "NNGP_SLOTS": "2", "NNGP_NO_TOKEN": "True", "NNGP_MEMORY_LIMIT": "1000000"}
        assert settings == {**expected, "NNGP_HOST": "localhost", "NNGP_QUEUE_LIMIT": "7"}
        if status is not None:
            serving.send_signal(number)
            assert serving.wait(20) == status
            assert serving.stderr is not None
            assert serving.stderr.read() == ""
        else:  # the service itself dies
            children = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
            os.kill(int(children[0]), number)
            assert serving.wait(20) == 128 + number


def test_serve_ends_as_the_service_ends(tmp_path: Path) -> None:
    with started(tmp_path, immediately=True) as serving:
        assert serving.wait(20) == 3


def test_serve_takes_a_token_or_none(run) -> None:
    assert_refused(run("serve", "--token", "secret", "--no-token"), "--token", "--no-token")
