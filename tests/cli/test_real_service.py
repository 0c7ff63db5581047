"""Commands say the same whoever computes: this process or a service."""

import csv
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from api.app import create_app
from nngp_prior import Client, FullyConnected
from nngp_prior.data.splits import training_sets
from nngp_prior.schemas.specs.data import Boolean, Digits, Flip, OneVsRest, Parity
from tests.api.apps import TOKEN, InProcess, settings
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused
from tests.cli.test_experiment import QUICK
from tests.experiments.cases import NETWORKS, written


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service on a port, which computes in a thread."""
    home = tmp_path_factory.mktemp("service")
    server = uvicorn.Server(uvicorn.Config(create_app(settings(home), InProcess(home)), port=0, log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks with an attack set."""
    from nngp_prior.schemas.specs.training import Training
    from nngp_prior.sharpness import train

    dataset, labelling = Digits(n=20), OneVsRest(label=3)
    sets = training_sets(dataset, labelling, 5, 0)
    source = {"dataset": dataset.model_dump(mode="json"), "labelling": labelling.model_dump(mode="json")}
    path = tmp_path_factory.mktemp("trained") / "trained.npz"
    how = Training(batch_size=8, epochs=2, keep_every=1, goal="none")
    networks = train(
        FullyConnected(depth=1, width=3), *sets.train, how, seeds=2, attack=sets.attack,
        source={**source, "attack": 5, "test": 0},
    )  # fmt: skip
    networks.save(path)
    return path


def without_times(document):
    match document:
        case dict():
            return {key: without_times(value) for key, value in document.items() if key != "seconds"}
        case list():
            return [without_times(value) for value in document]
    return document


@pytest.mark.parametrize(
    "command",
    [
        "bound --m 40,20 --labelling parity --corrupt randomise:0.1 --delta 0.1 --gamma 0.2 --seed 3 --method ep",
        "bound -n 4 --labels-file {labels} --corrupt flip:1 --corrupt-seed 2",
        "select -n 30 -m 20 --labelling parity --depths 0,1 --seed 3",
        "select -n 20 --labels-file {many} --depth 0",
        "sample -N 3000 --bits 3 --width 3 --weight-std 1 --bias-std 0 --top 3 --estimate smc --seed 5",
        "sharpness measure {trained} --measure fisher-trace:layer=each --measure frobenius:probes=5 --seed 3",
        "sharpness measure {trained} --network 1 --network 1 --measure fisher-rao-norm --on all --epoch 1 --loss mse",
    ],
)
def test_here_and_there(
    run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained: Path, command: str
) -> None:
    monkeypatch.setenv("NNGP_TOKEN", TOKEN)
    np.save(tmp_path / "labels.npy", np.array([1, -1, -1, 1]))
    np.save(tmp_path / "many.npy", np.tile([1, -1, -1, 1], 5))
    arguments = command.format(labels=tmp_path / "labels.npy", many=tmp_path / "many.npy", trained=trained).split()
    here, there = run(*arguments, "--json"), run(*arguments, "--json", "--url", url)
    assert (here.code, there.code) == (0, 0), here.err + there.err
    assert without_times(parse(there.out)) == without_times(parse(here.out))


def test_a_study_here_and_there(run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NNGP_TOKEN", TOKEN)
    path, folder = written(tmp_path, NETWORKS), tmp_path / "there"
    command = ("experiment", "run", path, *QUICK[:-2], "--folder")
    here = run(*command, tmp_path / "here", "--workers", 0, "--json")
    planned = run(*command, folder, "--dry-run", "--url", url)
    assert "4 networks, about" in planned.out
    assert not folder.exists()
    there = run(*command, folder, "--json", "--url", url)
    assert (here.code, there.code) == (0, 0), here.err + there.err
    assert parse(there.out) == parse(here.out)
    for name in ("report.html", "report.md", "results.csv", "verdicts.json"):
        assert (folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    again = run(*command, folder, "--url", url)
    assert "4 networks of 4" in again.out
    assert_refused(run(*command, folder, "--url", url, "--workers", 2), "--workers", "means nothing to a service")
    with Client(url, TOKEN) as client:
        job = next(job for job in client.jobs() if job.last.document["kind"] == "experiments")
    shown = run("jobs", "results", job.id, "--url", url)
    assert "Hessian trace" in shown.out
    document = parse(run("jobs", "results", job.id, "--url", url, "--json").out)
    assert [row["network"] for row in document["rows"]] == [0, 1] * 2
    assert document["verdicts"] == parse(here.out)["verdicts"]
    lines = list(csv.DictReader(io.StringIO(run("jobs", "results", job.id, "--url", url, "--csv").out)))
    assert [float(line["log_p"]) for line in lines] == [row["log_p"] for row in document["rows"]]


def test_what_the_service_refuses_is_told(run, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NNGP_TOKEN", TOKEN)
    np.save(tmp_path / "labels.npy", np.array([1, 2]))
    ended = run("bound", "-n", 2, "--labels-file", tmp_path / "labels.npy", "--url", url)
    assert ended.code == 2
    assert "--labels-file (Y): Y[1] is 2" in ended.err
    ended = run("sample", "-N", 100, "--bits", 3, "--encoding", "bits", "--keep-zero", "--bias-std", 0, "--url", url)
    assert ended.code == 2
    assert "input 0 is zero everywhere" in ended.err
    assert_refused(run("select", "-n", 20, "-m", 30, "--url", url), "--train", "30")
    ended = run("bound", "-n", 20, "--m", 30, "--url", url)
    assert ended.code == 2
    assert "--m (sizes): got 30" in ended.err


def test_measures_that_a_service_refuses_are_told(
    run, url: str, monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setenv("NNGP_TOKEN", TOKEN)
    too_large = "sam-sharpness:minibatch=99"
    command = ("sharpness", "measure", trained, "--network", 0, "--url", url, "--measure")
    ended = run(*command, too_large, "--measure", "fisher-trace")
    assert ended.code == 0
    assert "fisher_trace" in ended.out
    assert "sam-sharpness [invalid-measure]: minibatch: got 99" in ended.err
    (document,) = parse(run(*command, too_large, "--measure", "fisher-trace", "--json").out)["networks"]
    assert [each["name"] for each in document["measurements"]] == ["fisher_trace"]
    assert [(each["measure"], each["status"]) for each in document["refused"]] == [("sam-sharpness", "invalid-measure")]
    for measure, said in [(too_large, "minibatch: got 99"), ("fisher-trace:layer=dense 9", "got 'dense 9'")]:
        ended = run(*command, measure)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err


def test_results_of_jobs_are_printed_by_their_kind(run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_TOKEN", TOKEN)
    with Client(url, TOKEN) as client:
        labellings = [Parity(corruption=Flip(count=1)), {"kind": "explicit", "values": [1]}]
        bounds = client.bound(FullyConnected(), Digits(n=20), labellings, sizes=[10, 20], delta=0.1)
        narrow = FullyConnected(width=4, bias_std=0)
        samples = client.sample(narrow, Boolean(bits=3), 2000, top=2, complexities=["entropy"])
        (bound, _), sample = bounds.result(), samples.result()
        weights = [(np.eye(8).reshape(64, 1), None)]
        flatness = client.sharpness(FullyConnected(depth=0, bias_std=0), weights, Digits(n=20), Parity(), "trace")
        trace = flatness.result().report["trace"]
        selection = client.select(FullyConnected(depth=0), Digits(n=12), Parity(), train=8, particles=4, replicates=4)
        best = selection.result()[0]
    shown = run("jobs", "results", bounds.id, "--url", url)
    assert shown.code == 0
    for point in bound.points:
        assert f"{point.bound:.4f}" in shown.out
        assert f"{point.clean_error:.4f}" in shown.out
    assert "with probability 0.9." in shown.out.replace("\n", " ")
    assert "labelling 1: " in shown.err
    shown = run("jobs", "results", samples.id, "--url", url)
    assert shown.code == 0
    assert "2,000 draws" in shown.out
    assert f" {sample[0].draws:,} " in shown.out
    assert f"{sample[1].complexities['entropy']:.3f}" in shown.out
    assert "exactly 0" in shown.err
    shown = run("jobs", "results", flatness.id, "--url", url)
    assert shown.code == 0
    assert "fully-connected, 20 inputs, 64 parameters" in shown.out
    assert f"{trace.value:.6g}" in shown.out
    shown = run("jobs", "results", selection.id, "--url", url)
    assert f"{best.log_p.value:.3f} ± " in shown.out
    assert "choices" in shown.out
    document = parse(run("jobs", "results", selection.id, "--url", url, "--json").out)
    assert document["results"][0]["log_p"] == best.log_p.value
    assert document["train"] == 8
    for id, wanted in ((bounds.id, [str(p.estimate.n) for p in bound.points]), (samples.id, ["1", "2"])):
        lines = list(csv.DictReader(io.StringIO(run("jobs", "results", id, "--url", url, "--csv").out)))
        name = "m" if id == bounds.id else "rank"
        assert [line[name] for line in lines if line[name]] == wanted
    document = parse(run("jobs", "results", samples.id, "--url", url, "--json").out)
    assert document["results"] == [sample.row]
    assert parse(run("jobs", "results", bounds.id, "--url", url, "--json").out)["results"][0] == bound.row
