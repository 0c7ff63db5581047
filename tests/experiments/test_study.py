"""Studies of a few small networks: rows, their quantities, and explanations of what has no value."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import (
    SMC,
    FullyConnected,
    MonteCarlo,
    kernel,
    log_probability,
    monte_carlo_kernel,
    pac_bayes_bounds,
    posterior,
)
from nngp_prior.errors import DataUnavailable, InvalidInput
from nngp_prior.experiments import Study, load, read_protocol, run
from nngp_prior.experiments.grid import settings_of
from nngp_prior.experiments.report import write_report
from nngp_prior.experiments.store import opened
from nngp_prior.prior.uncertain_kernel import log_probability_under
from nngp_prior.progress import Progress
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.sharpness.training.trained import Trained
from nngp_prior.sharpness.training.trained_functions import functions_of, training_sets_of
from nngp_prior.versions import __version__


@pytest.fixture(scope="module")
def reported(whole: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A copy of the uninterrupted run, with its report."""
    study = load(shutil.copytree(whole.folder, tmp_path_factory.mktemp("report") / "study"))
    assert isinstance(study, Study)
    write_report(study)
    return study


def test_rows_equal_the_values_of_the_library(protocol: Protocol, whole: Study) -> None:
    assert len(whole.rows) == whole.total == 4
    networks = [(row["setting"], row["network"], row["attack"]) for row in whole.rows]
    assert networks == [(0, 0, 0), (0, 1, 0), (1, 0, 10), (1, 1, 10)]
    with (whole.folder / "results.csv").open() as file:
        written_rows = list(csv.DictReader(file))
    assert [float(row["log_p"]) for row in written_rows] == list(whole.column("log_p"))
    path = whole.folder / "networks" / f"{whole.settings[1].key}-2.npz"
    trained = Trained.load(path)
    X, labels = functions_of(trained)
    own = log_probability(kernel(FullyConnected(width=4), X), labels[1], seed=protocol.seed)
    assert whole.rows[3]["log_p"] == own.value
    assert whole.rows[3]["test_error"] == trained.test_error[1]
    assert len(X) == 50


def test_results_of_several_versions_are_a_problem(protocol: Protocol, whole: Study, tmp_path: Path) -> None:
    lines = (whole.folder / "rows.jsonl").read_text().splitlines()
    assert {json.loads(line)["versions"]["nngp-prior"] for line in lines} == {__version__}
    assert not any("versions" in problem for problem in whole.problems)
    (tmp_path / "protocol.json").write_text(protocol.model_dump_json())
    changed = [json.loads(line) for line in lines]
    changed[0]["versions"]["nngp-prior"] = "0.0.9"
    del changed[1]["versions"]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed))
    study = load(tmp_path)
    problem, *others = study.problems
    assert others == list(whole.problems)
    assert "different versions" in problem
    assert "1 by nngp-prior 0.0.9" in problem
    assert "1 by an unknown version" in problem
    write_report(study)
    assert "1 by nngp-prior 0.0.9" in (tmp_path / "report.html").read_text()
    assert "1 by nngp-prior 0.0.9" in (tmp_path / "report.md").read_text()


def test_finished_tasks_are_not_repeated_and_serve_other_protocols(
    protocol: Protocol, whole: Study, tmp_path: Path
) -> None:
    folder, events = shutil.copytree(whole.folder, tmp_path / "study"), list[Progress]()
    again = run(protocol, folder, progress=events.append)
    assert again.rows == whole.rows
    assert [event.done for event in events if event.stage == "tasks"] == [12 - 4]
    assert events[0].cost is None
    events.clear()
    fewer = protocol.model_copy(update={"quantities": protocol.quantities[:1], "axes": {"attack": (10,)}})
    part = run(fewer, folder, progress=events.append)
    assert [row["log_p"] for row in part.rows] == [row["log_p"] for row in whole.rows[2:]]
    assert len(events) == 1


def test_unfinished_study_can_be_read(protocol: Protocol, whole: Study, tmp_path: Path) -> None:
    lines = (whole.folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(line for line in lines if b'"train"' in line or b'"prior"' in line))
    (tmp_path / "protocol.json").write_text(protocol.model_dump_json())
    study = load(tmp_path)
    assert list(study.quantities) == ["log_p"]
    assert len(study.rows) == 4
    with pytest.raises(InvalidInput, match="no study"):
        load(tmp_path / "elsewhere")


def test_posterior_is_given_the_training_labels_and_not_the_signs_of_the_network(
    protocol: Protocol, tmp_path: Path
) -> None:
    """Networks without training: their signs at the training inputs are not the labels."""
    document = protocol.model_dump(mode="json") | {"quantities": ["log-posterior"], "axes": {}}
    document["training"] |= {"goal": "none", "epochs": 0}
    study = run(Protocol.model_validate(document), tmp_path)
    trained = Trained.load(next((tmp_path / "networks").iterdir()))
    X, labels = functions_of(trained)
    y = training_sets_of(trained).train[1]
    assert not np.array_equal(labels[0, :30], y)
    given = posterior(kernel(FullyConnected(width=4), X), y, seed=protocol.seed)
    expected = [given.log_probability(function[30:]).value for function in labels]
    assert study.column("log_posterior").tolist() == expected


def test_accuracies_have_the_error_of_their_own_test_set(protocol: Protocol, tmp_path: Path) -> None:
    document = protocol.model_dump(mode="json") | {"quantities": ["trace"], "axes": {"data.test": [5, 50]}, "seeds": 1}
    study = run(Protocol.model_validate(document), tmp_path)
    errors = study.column("test_error")
    assert study.accuracy_errors(study.rows) == pytest.approx(
        [max(e * (1 - e), 1 / t) ** 0.5 / t**0.5 for e, t in zip(errors, (5, 50), strict=True)]
    )


def test_reading_a_running_study_changes_nothing(protocol: Protocol, whole: Study, tmp_path: Path) -> None:
    """The last line may be half written by another process."""
    content = (whole.folder / "rows.jsonl").read_bytes() + b'{"key": ["train", "cut o'
    (tmp_path / "rows.jsonl").write_bytes(content)
    (tmp_path / "protocol.json").write_text(protocol.model_dump_json())
    assert load(tmp_path).rows == whole.rows
    assert (tmp_path / "rows.jsonl").read_bytes() == content


def test_one_process_at_a_time_writes(protocol: Protocol, tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(InvalidInput, match="in use"):
        run(protocol, tmp_path)


def test_a_damaged_line_is_named(protocol: Protocol, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"key": ["train", "a", "0"]}\nnothing\n')
    with pytest.raises(DataUnavailable, match="line 2"):
        run(protocol, tmp_path)


def test_networks_that_diverge_and_measures_that_do_not_apply_are_explained(protocol: Protocol, tmp_path: Path) -> None:
    """The rest goes on: one of two learning rates is far too large, and a measure knows other losses only."""
    document = protocol.model_dump(mode="json")
    document["axes"] = {"learning-rate": [0.1, 1e6]}
    document["training"] |= {"loss": "mse"}
    document["quantities"] = ["log-p", "log-posterior", "trace", {"kind": "trace", "layer": "dense 7"}]
    study = run(Protocol.model_validate(document), tmp_path)
    statuses = [row["status"] for row in study.rows]
    assert statuses[2:] == ["diverged"] * 2
    assert "diverged" not in statuses[:2]
    assert np.isfinite(study.column("log_p")).tolist() == [True, True, False, False]
    assert np.isfinite(study.column("log_posterior")).tolist() == [True, True, False, False]
    assert np.isfinite(study.column("trace(layer=None)")).tolist() == [True, True, False, False]
    assert any("dense 7" in problem for problem in study.problems)
    assert any("learning rate" in problem for problem in study.problems)


def test_report_is_self_contained(reported: Study) -> None:
    html = (reported.folder / "report.html").read_text()
    assert "http" not in html.replace("http://www.w3.org", "")  # namespaces of SVG
    assert html.count("<svg") == 3
    assert "log P(f)" in html
    assert json.loads((reported.folder / "verdicts.json").read_text())[0]["networks"] == 4
    assert "| log P(f) |" in (reported.folder / "report.md").read_text()


@pytest.mark.slow
def test_the_lines_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert len(names["study"].rows) == 4
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        (tmp_path / "own.toml").write_text(block, encoding="utf-8")
        settings = settings_of(read_protocol(tmp_path / "own.toml"))
        assert len(settings) == {"widths": 9, "five-bits": 2}[settings[0].protocol.name]


def test_quantities_of_the_prior_are_those_of_the_library(protocol: Protocol, tmp_path: Path) -> None:
    """Evidence, bound and posterior errors are equal for all networks of a setting; a second kernel stands beside."""
    document = protocol.model_dump(mode="json") | {"axes": {}}
    finite = {"kind": "monte-carlo", "networks": 64, "batches": 8}
    document["quantities"] = [
        "log-p",
        "log-evidence",
        "pac-bayes-bound",
        "posterior-errors",
        {"kind": "log-p", "name": "finite_log_p", "kernel": finite},
    ]
    study = run(Protocol.model_validate(document), tmp_path)
    trained = Trained.load(next((tmp_path / "networks").iterdir()))
    sets, (X, labels) = training_sets_of(trained), functions_of(trained)
    y, (_, y_test) = sets.train[1], sets.test or ()
    K = kernel(FullyConnected(width=4), X)
    evidence, given = log_probability(K[:30, :30], y, seed=protocol.seed), posterior(K, y, seed=protocol.seed)
    expected = {
        "log_evidence": evidence.value,
        "pac_bayes_bound": pac_bayes_bounds(evidence)["realizable"].value,
        "gibbs_error": given.gibbs_error(y_test).value,
        "vote_error": given.vote_error(y_test).value,
    }
    assert {name: study.column(name).tolist() for name in expected} == {
        name: [value, value] for name, value in expected.items()
    }
    estimated = monte_carlo_kernel(FullyConnected(width=4), X, MonteCarlo(networks=64, batches=8))
    under = [log_probability_under(estimated, y, SMC(), 20, protocol.seed).value for y in labels]
    assert study.column("finite_log_p").tolist() == under
    assert [quantity.group for quantity in study.quantities.values()] == [
        "log-p",
        "log-p",
        "prior",
        "prior",
        "prior",
        "log-p",
    ]


def test_a_kernel_that_excludes_the_training_labels_is_explained(protocol: Protocol, tmp_path: Path) -> None:
    """Two networks: the kernel has rank 8 of 50, and the labels of 30 inputs have probability 0."""
    document = protocol.model_dump(mode="json") | {"axes": {}, "seeds": 1}
    few = {"kind": "monte-carlo", "networks": 2, "batches": 2}
    document["quantities"] = [{"kind": "log-posterior", "kernel": few}, "log-evidence"]
    study = run(Protocol.model_validate(document), tmp_path)
    assert np.isfinite(study.column("log_evidence")).all()
    assert any("no posterior" in problem for problem in study.problems), study.problems
