"""Requests for studies: the results of the library, kept in a folder; what cannot be done is refused at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from nngp_prior import LocalClient
from nngp_prior.errors import DataUnavailable, InvalidInput, NngpPriorError
from nngp_prior.experiments import run
from nngp_prior.experiments.changes import changes
from nngp_prior.experiments.requests import ExperimentRunner
from nngp_prior.experiments.store import Store
from nngp_prior.progress import Progress
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.requests import ExperimentRequest
from nngp_prior.schemas.results.base import finite
from nngp_prior.schemas.results.experiment import ExperimentResults, Verdict
from tests.experiments.cases import FOUR, TINY, assert_same


def test_a_local_client_has_the_results_of_the_library(tmp_path: Path) -> None:
    protocol = Protocol.model_validate(FOUR)
    events: list[Progress] = []
    with LocalClient() as local:
        job = local.experiment(protocol)
        assert local.experiment(FOUR) is job
        assert job.status().title == f"job {job.id[:12]} (experiments, 20 digits)"
        with pytest.raises(NngpPriorError, match="not finished"):
            job.report()
        results = job.result(progress=events.append)
        assert_same(results, protocol, tmp_path)
        assert job.report("csv") == results.to_csv()
        assert job.report().startswith("<!doctype html>")
        assert "| log P(f) |" in job.report("markdown")
        with pytest.raises(InvalidInput, match="pdf"):
            job.report("pdf")
        tasks = list(job.results())
    assert [event.done for event in events if event.stage == "tasks"] == [0, 0, *range(1, 10)]
    assert {event.stage for event in events} > {"tasks", "epochs"}
    assert [task.task for task in tasks[:3]] == ["train", "prior", "measure"]
    assert repr(tasks[2]) == "measure fisher-trace (attack = 0)"
    assert len(results) == 4
    assert repr(results).startswith("<ExperimentResults tiny, 4 networks: ")
    assert results._repr_html_().count("<tr>") == 3
    assert results.to_pandas()["log_p"].tolist() == [row["log_p"] for row in results.rows]
    assert results.summary.endswith(".")


def test_a_course_has_changes_and_no_verdicts(tmp_path: Path) -> None:
    protocol = Protocol.model_validate({**TINY, "axes": {}, "course": {"epochs": 2, "every": 1, "rescale_after": 1}})
    study = run(protocol, tmp_path)
    with LocalClient() as local:
        job = local.experiment(protocol)
        results = job.result()
        assert "rescaling" in job.report("markdown")
    assert list(results.rows) == list(study.rows)
    assert [row["epoch"] for row in results.rows] == [0, 1, 1, 2]
    assert (len(results), results.finished, results.verdicts) == (4, 1, ())
    wanted = finite([each._asdict() for each in changes(study)])
    assert results.document()["changes"] == wanted
    assert {each["name"] for each in results.changes} == {"test_error", "log_p", "fisher_trace"}
    assert results.summary.startswith("The rescaling")


def test_verdicts_survive_json() -> None:
    document = {
        "name": "trace", "expected": -1, "group": "flatness", "networks": 4, "missing": 0, "scale": "log10",
        **{name: {"value": -0.5, "low": "NaN", "high": 0.25} for name in ("pearson", "spearman", "kendall", "partial")},
        "gap": "NaN", "granulated": 0.5, "along": {"attack": -0.5}, "information": 0.125,
        "sign_error": {"environments": 0, "mean": "NaN", "median": "NaN", "upper": "NaN", "worst": "NaN"},
        "published": {"source": "a paper", "pearson": None, "spearman": None, "kendall": 0.5},
    }  # fmt: skip
    verdict = Verdict.of_json(json.loads(json.dumps(document)))
    assert verdict.kendall.high == 0.25
    assert verdict.published is not None
    assert verdict.published.kendall == 0.5
    assert verdict.as_json() == document


def test_what_is_in_the_folder_is_not_computed_again(tmp_path: Path) -> None:
    request, runner = ExperimentRequest.model_validate({"protocol": TINY}), ExperimentRunner(tmp_path)
    assert runner.count(request) == 7
    rows = dict(runner.results(request, [0, 1, 2, 3]))
    path = runner.folder(request) / "rows.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + b'{"key": ["train", "cut o')
    again = dict(runner.results(request, range(7)))
    assert path.read_bytes().startswith(before)
    assert len(path.read_bytes().splitlines()) == 6
    assert {row: again[row] for row in rows} == rows
    assert again[6]["status"] == "ok"
    assert_same(ExperimentResults(again[6], {"protocol": TINY}), request.protocol, tmp_path / "whole")


def test_a_study_without_some_results_says_so(tmp_path: Path) -> None:
    """Rows that a service gave up are not computed by the study's row, which a new attempt computes again."""
    request, runner = ExperimentRequest.model_validate({"protocol": TINY}), ExperimentRunner(tmp_path)
    list(runner.results(request, [0, 1, 3, 4, 5]))
    row = dict(runner.results(request, [6]))[6]
    assert row["status"] == "incomplete"
    assert row["problems"][-1] == "attack = 0, network 0: fisher-trace: has no result"
    assert [network["setting"] for network in row["rows"]] == [0, 1]


def test_no_quantity_without_networks(tmp_path: Path) -> None:
    request, runner = ExperimentRequest.model_validate({"protocol": TINY}), ExperimentRunner(tmp_path)
    row = dict(runner.results(request, [1]))[1]
    assert (row["status"], row["results"]) == ("incomplete", [])


def test_processes_may_add_rows_to_one_folder(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    one.add(("train", "a", "0"), {"value": 1})
    with (tmp_path / "rows.jsonl").open("ab") as file:
        file.write(b'{"key": ["train", "of a process that was kill')
    other.add(("train", "b", "0"), {"value": 2})
    one.add(("train", "c", "0"), {"value": 3})
    assert [row["value"] for row in Store(tmp_path).rows("train")] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "field", "part"),
    [
        ({"protocol": "digts"}, "protocol", "Did you mean digits?"),
        ({"protocol": "tests/experiments/own.toml"}, "protocol", "Choose one of "),
        ({"quantities": ["trac"]}, "protocol.networks.quantities.0.kind", "'trac'"),
        (
            {"data": {**TINY["data"], "inputs_file": "/etc/passwd"}},
            "protocol.data.inputs_file",
            "requests have no files",
        ),
        ({"axes": {"data.labels_file": ["y.npy"]}}, "protocol.data.labels_file", "have no files"),
        ({"data": {"labelling": {"kind": "parity"}}}, "protocol.data.dataset", "Name a data set"),
        ({"axes": {"attack": [0, float("inf")]}}, "protocol.axes.attack", "finite"),
        ({"axes": {"attack": [[[[[[[[[[1]]]]]]]]]]}}, "protocol.axes.attack", "8 levels"),
        ({"axes": {"wide": [1]}}, "protocol.axes", "'wide' is no field"),
        ({"axes": {"width": [4, -4]}}, "protocol.axes (width = -4): architecture.fully-connected.width", "-4"),
        ({"axes": {"width": [4] * 200, "train": [9] * 51}}, "protocol.axes", "10,200 combinations"),
        ({"seeds": 10_000, "quantities": ["trace"] * 11}, "protocol.seeds", "more than 100,000 tasks"),
        ({"course": {"epochs": 10**9, "every": 1}}, "protocol.course.every", "more than 10,000 measurements"),
        ({"axes": {"attack": [0, 5000]}}, "protocol.data (attack = 5000): n", "1,437"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, change: dict[str, Any], field: str, part: str) -> None:
    with LocalClient() as local, pytest.raises(InvalidInput) as caught:
        local.submit(ExperimentRequest(**({"protocol": TINY | change} if "protocol" not in change else change)))
    assert caught.value.field == field
    assert part in str(caught.value)


def test_data_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    request = ExperimentRequest.model_validate({"protocol": "zhang2021-fcn-mnist"})
    runner = ExperimentRunner(tmp_path)
    with pytest.raises(DataUnavailable, match="mnist"):
        runner.costs(request, runner.plan(request))
