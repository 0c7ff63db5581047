"""``nngp-prior experiment``."""

from pathlib import Path

import pytest

from nngp_prior.experiments import read_protocol
from tests.cli.strict_json import parse
from tests.cli.test_bad_input import assert_refused
from tests.experiments.cases import FUNCTIONS, NETWORKS, written

QUICK = ["--set", "training.epochs=20", "--set", "training.batch_size=8", "--workers", 0]


def test_a_study_from_protocol_to_report(run, tmp_path: Path) -> None:
    path, folder = written(tmp_path, NETWORKS), tmp_path / "study"
    planned = run("experiment", "run", path, *QUICK, "--folder", folder, "--dry-run")
    assert planned.code == 0
    assert "4 networks, about" in planned.out
    assert not folder.exists()
    ended = run("experiment", "run", path, *QUICK, "--folder", folder)
    assert ended.code == 0
    assert "Hessian trace" in ended.out
    assert "4 networks of 4" in ended.out
    assert len((folder / "results.csv").read_text().splitlines()) == 5
    before = (folder / "report.html").read_bytes()
    again = parse(run("experiment", "report", folder, "--json").out)
    assert [verdict["networks"] for verdict in again["verdicts"]] == [4, 4]
    assert (folder / "report.html").read_bytes() == before
    compared = run("experiment", "compare", folder, folder)
    assert compared.code == 0
    assert compared.out.count(f"{again['verdicts'][0]['kendall']['value']:.3f}") >= 2
    finished = run("experiment", "run", path, *QUICK, "--folder", folder, "--dry-run")
    assert "4 networks, finished" in finished.out


def test_the_protocols_are_listed(run) -> None:
    ended = run("experiment", "list")
    assert ended.code == 0
    assert "zhang2021-fcn-mnist" in ended.out


def test_what_cannot_be_run(run, tmp_path: Path) -> None:
    path = written(tmp_path, NETWORKS.replace("seeds = 2", "seeds = 0"))
    assert_refused(run("experiment", "run", path), "own.toml, line 2", "seeds", "0")
    assert_refused(run("experiment", "run", "digts"), "Did you mean digits?")
    assert_refused(run("experiment", "run", "digits", "--set", "seeds"), "--set", "FIELD=VALUE")
    assert_refused(run("experiment", "report", tmp_path), "has no study")
    assert_refused(run("experiment", "compare", tmp_path), "at least two")


def test_data_that_are_missing(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    folder = tmp_path / "study"
    assert_refused(run("experiment", "run", "zhang2021-fcn-mnist", "--folder", folder), "mnist")


@pytest.mark.slow
def test_a_study_of_functions_from_protocol_to_report(run, tmp_path: Path) -> None:
    path, folder = written(tmp_path, FUNCTIONS), tmp_path / "study"
    planned = run("experiment", "run", path, "--folder", folder, "--dry-run")
    assert planned.code == 0
    assert "4,000 networks, about" in planned.out
    ended = run("experiment", "run", path, "--folder", folder, "--workers", 0)
    assert ended.code == 0
    assert "12 functions of 4,000 networks" in ended.out
    assert "log P(f), EP" in ended.out
    again = parse(run("experiment", "report", folder, "--json").out)
    assert [verdict["functions"] for verdict in again["verdicts"]] == [12] * 3
    compared = run("experiment", "compare", folder, folder)
    assert compared.out.count(f"{again['verdicts'][0]['kendall']['value']:.3f}") == 2
    assert "with log frequency" in compared.out
    assert "4,000 networks, finished" in run("experiment", "run", path, "--folder", folder, "--dry-run").out


def test_studies_of_different_kinds_are_not_compared(run, tmp_path: Path) -> None:
    folders = []
    for name, text in (("networks", NETWORKS), ("functions", FUNCTIONS)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        protocol = read_protocol(written(tmp_path, text))
        (folders[-1] / "protocol.json").write_text(protocol.model_dump_json())
    assert_refused(run("experiment", "compare", *folders), "different kinds")
