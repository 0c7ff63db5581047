"""Studies of functions: frequencies of random and of trained networks, by independent networks, against log P."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import kernel, log_probability, posterior
from nngp_prior.data import Boolean
from nngp_prior.data import load as load_data
from nngp_prior.data.complexity import lempel_ziv
from nngp_prior.data.splits import training_data
from nngp_prior.errors import InvalidInput
from nngp_prior.experiments import FrequencyStudy, load, read_protocol, run
from nngp_prior.experiments.frequencies.choice import chosen_ranks, from_hex, to_hex
from nngp_prior.experiments.frequencies.study import expected_cost
from nngp_prior.experiments.report import write_report
from nngp_prior.experiments.store import Store
from nngp_prior.prior.sampling import FunctionCounts
from nngp_prior.progress import Progress
from nngp_prior.schemas.frequencies import FrequencyProtocol
from nngp_prior.sharpness import train
from tests.experiments.cases import FUNCTIONS, TRAINED, written


def protocol_of(folder: Path, text: str, *changes: str) -> FrequencyProtocol:
    protocol = read_protocol(written(folder, text), changes)
    assert isinstance(protocol, FrequencyProtocol)
    return protocol


@pytest.fixture(scope="module")
def whole(whole_functions: FrequencyStudy, tmp_path_factory: pytest.TempPathFactory) -> FrequencyStudy:
    """A copy of the uninterrupted run, with its report."""
    study = load(shutil.copytree(whole_functions.folder, tmp_path_factory.mktemp("report") / "study"))
    assert isinstance(study, FrequencyStudy)
    write_report(study)
    return study


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FrequencyStudy:
    folder = tmp_path_factory.mktemp("trained")
    study = run(protocol_of(folder, TRAINED), folder / "study")
    write_report(study)
    return study


def labels(row: dict[str, Any]) -> np.ndarray:
    return np.array([1 if bit == "1" else -1 for bit in row["function"]], np.int8)


def test_perceptron_frequencies_and_probabilities_are_uniform_in_the_number_of_ones(tmp_path: Path) -> None:
    """P(t) = 2⁻ⁿ for t ones of a perceptron without bias on {0, 1}ⁿ (Mingard et al. 2019, 1909.11522)."""
    changes = [
        "data.dataset={ kind = 'boolean', bits = 3, encoding = 'bits', leave_out_zero = true }",
        "architecture={ kind = 'fully-connected', depth = 0, bias_std = 0.0 }",
        "min_count=1",
        "functions=100",
        "seeds=40000",
        "quantities=['log-p']",
    ]
    study = run(protocol_of(tmp_path, FUNCTIONS, *changes), tmp_path / "study")
    ones = np.array([row["ones"] for row in study.rows])
    counts, P = (
        np.array([f(row) for row in study.rows]) for f in (lambda r: r["count"], lambda r: math.exp(r["log_p"]))
    )
    assert len(study.rows) == 32
    for t in range(8):
        assert counts[ones == t].sum() == pytest.approx(2500, abs=5 * math.sqrt(2500))
        assert P[ones == t].sum() == pytest.approx(1 / 8, rel=0.02)
    assert counts.sum() == 20_000


def test_functions_are_chosen_by_one_half_and_counted_by_the_other(whole: FrequencyStudy) -> None:
    (setting,) = whole.settings
    choosing, counting = (
        FunctionCounts.load(whole.folder / "networks" / f"{setting.key}-{half}.npz")
        for half in ("choosing", "counting")
    )
    assert choosing.draws == counting.draws == 2000
    assert choosing.about["seed"] != counting.about["seed"]
    for row in whole.rows:
        assert row["chosen_by"] == choosing.count(labels(row)) >= 20
        assert row["count"] == counting.count(labels(row))
        assert row["log_frequency"] == pytest.approx(math.log(row["count"] / 2000))
    top = [row for row in whole.rows if row["rank"] <= 6]
    assert [row["chosen_by"] for row in top] == choosing.counts[:6].tolist()


def test_frequencies_of_rarely_drawn_functions_are_not_too_high(tmp_path: Path) -> None:
    """Functions that few of 3,000 networks have are had by fewer of as many others, about as many as EP says."""
    changes = ["data.dataset.bits=4", "seeds=6000", "min_count=2", "functions=1000", "quantities=['ep-log-p']"]
    study = run(protocol_of(tmp_path, FUNCTIONS, *changes), tmp_path / "study")
    rare = [row for row in study.rows if row["chosen_by"] == 2]
    assert len(rare) > 50
    chosen_by, counted = (sum(row[name] for row in rare) for name in ("chosen_by", "count"))
    assert chosen_by > 1.25 * counted
    assert counted == pytest.approx(3000 * sum(math.exp(row["ep_log_p"]) for row in rare), rel=0.25)


def test_quantities_are_those_of_the_library(functions_protocol: FrequencyProtocol, whole: FrequencyStudy) -> None:
    K = kernel(functions_protocol.architecture, load_data(Boolean(bits=3)).X)
    row = whole.rows[3]
    assert (
        row["log_p"] == log_probability(K, labels(row), seed=functions_protocol.seed, particles=16, replicates=8).value
    )
    assert row["ep_log_p"] == log_probability(K, labels(row), "ep").value
    assert row["ep_log_p.stderr"] is None
    assert row["lempel_ziv"] == lempel_ziv(labels(row))
    with (whole.folder / "results.csv").open() as file:
        written_rows = list(csv.DictReader(file))
    assert [float(each["log_p"]) for each in written_rows] == [each["log_p"] for each in whole.rows]
    assert len(written_rows) == 12


def test_draws_at_infinite_width_agree_with_log_p(tmp_path: Path) -> None:
    quantities = "quantities=['log-p', { kind = 'sampled-log-p', draws = 20000 }]"
    study = run(protocol_of(tmp_path, FUNCTIONS, quantities), tmp_path / "study")
    for row in study.rows:
        error = math.hypot(row["log_p.stderr"], row["sampled_log_p.stderr"])
        assert row["sampled_log_p"] == pytest.approx(row["log_p"], abs=4.5 * error)


def test_functions_of_trained_networks_are_their_labels_of_the_test_inputs(trained: FrequencyStudy) -> None:
    setting = trained.settings[1]
    sets = training_data(setting.protocol.data)
    assert sets.test is not None
    assert setting.protocol.training is not None
    own = setting.protocol
    networks = train(
        own.architecture,
        *sets.train,
        own.training,
        seeds=60,
        seed=setting.seed,
        X_test=sets.test[0],
        y_test=sets.test[1],
    )
    functions = [to_hex(np.sign(outputs).astype(np.int8)) for outputs in networks.test_outputs]
    for row in trained.of_setting(1):
        function = to_hex(labels(row))
        assert row["chosen_by"] == functions[0::2].count(function) >= 1
        assert row["count"] == functions[1::2].count(function)
        assert row["networks"] == 30
        assert row["test_error"] == np.mean(labels(row) != sets.test[1])
        assert row["learning-rate"] == 0.3


def test_probabilities_of_trained_functions_are_given_the_training_labels(trained: FrequencyStudy) -> None:
    own = trained.settings[0].protocol
    sets = training_data(own.data)
    assert sets.test is not None
    K, S = kernel(own.architecture, np.concatenate([sets.train[0], sets.test[0]])), sets.train[1]
    row = trained.rows[0]
    assert (
        row["log_posterior"] == posterior(K, S, seed=0, particles=16, replicates=16).log_probability(labels(row)).value
    )
    joint = log_probability(K, np.concatenate([S, labels(row)]), "ep").value
    assert row["ep_log_p"] == pytest.approx(joint - log_probability(K[:30, :30], S, "ep").value, abs=1e-9)
    found = [
        each for each in trained.rows if each["sampled_log_p.status"] == "ok" and each["sampled_log_p.stderr"] < 0.3
    ]
    assert len(found) >= 4
    for each in found:
        error = math.hypot(each["sampled_log_p.stderr"], each["log_posterior.stderr"])
        assert each["sampled_log_p"] == pytest.approx(each["log_posterior"], abs=6 * error)


def test_settings_with_equal_functions_share_their_quantities(trained: FrequencyStudy) -> None:
    keys = [tuple(json.loads(line)["key"]) for line in (trained.folder / "rows.jsonl").read_text().splitlines()]
    assert len(set(keys)) == len(keys)
    functions = {row["function"] for row in trained.rows}
    assert len(functions) < len(trained.rows)
    assert sum(key[0] == "quantity" for key in keys) == 4 * len(functions)


def test_networks_that_do_not_reach_the_goal_have_no_function(tmp_path: Path) -> None:
    changes = ["training.epochs=2", "axes={}", "seeds=20", "min_count=1", "quantities=['entropy']"]
    study = run(protocol_of(tmp_path, TRAINED, *changes), tmp_path / "study")
    (choice,) = study.choices
    assert choice is not None
    assert sum(choice["networks"]) < 20
    assert any("without a function: error" in problem for problem in study.problems)
    write_report(study)


def test_nothing_is_done_twice(functions_protocol: FrequencyProtocol, whole: FrequencyStudy, tmp_path: Path) -> None:
    assert expected_cost(functions_protocol, Store(tmp_path / "nothing"), 1) is not None
    assert expected_cost(functions_protocol, Store(whole.folder), 1) is None
    events: list[Progress] = []
    assert run(functions_protocol, whole.folder, progress=events.append).rows == whole.rows
    assert len(events) == 1
    (whole.folder / "networks").rename(tmp_path / "moved")  # only needed until functions are chosen
    assert run(functions_protocol, whole.folder).rows == whole.rows
    (whole.folder / "networks").rmdir()
    (tmp_path / "moved").rename(whole.folder / "networks")


def test_more_networks_continue_the_draws_of_fewer(whole: FrequencyStudy, tmp_path: Path) -> None:
    few = whole.protocol
    folder, events = shutil.copytree(whole.folder, tmp_path / "study"), list[Progress]()
    more = few.model_copy(update={"seeds": 6000, "quantities": few.quantities[1:]})
    again = run(more, folder, progress=events.append)
    drawn = [event for event in events if event.stage == "networks" and event.cost is None]
    assert min(event.done for event in drawn) > 2000
    assert run(more, tmp_path / "at-once").rows == again.rows
    assert run(few, folder).rows == whole.rows


@pytest.mark.parametrize(("eligible", "most"), [(5, 10), (10, 10), (1000, 9), (1000, 10)])
def test_of_too_many_functions_the_most_frequent_and_some_others_are_chosen(eligible: int, most: int) -> None:
    ranks = chosen_ranks(eligible, most, seed=3)
    assert len(ranks) == min(eligible, most)
    assert np.all(np.diff(ranks) > 0)
    assert ranks[: (most + 1) // 2].tolist() == list(range(min(eligible, (most + 1) // 2)))
    assert ranks[-1] < eligible
    if eligible > most:
        assert ranks[-1] > most
        assert ranks.tolist() == chosen_ranks(eligible, most, seed=3).tolist()
        assert ranks.tolist() != chosen_ranks(eligible, most, seed=4).tolist()


@pytest.mark.parametrize("n", [1, 8, 50])
def test_functions_are_written_as_hexadecimal_digits(n: int) -> None:
    Y = np.where(np.random.default_rng(n).standard_normal((3, n)) > 0, 1, -1).astype(np.int8)
    assert np.array_equal(from_hex([to_hex(y) for y in Y], n), Y)


def test_the_report_needs_nothing_else(whole: FrequencyStudy, trained: FrequencyStudy) -> None:
    for study, figures in ((whole, 4), (trained, 6)):
        html = (study.folder / "report.html").read_text()
        assert "http" not in html.replace("http://www.w3.org", "")  # namespaces of SVG
        assert html.count("<svg") == figures == len(list((study.folder / "figures").glob("*.csv")))
        verdicts = json.loads((study.folder / "verdicts.json").read_text())
        assert len(verdicts) == len(study.settings) * len(study.quantities)
        assert "## The most frequent functions" in (study.folder / "report.md").read_text()
    assert "log P(f | S)" in (trained.folder / "report.html").read_text()
    assert "log P(f | S)" not in (whole.folder / "report.html").read_text()


def test_an_unfinished_study_can_be_read(
    whole: FrequencyStudy, functions_protocol: FrequencyProtocol, tmp_path: Path
) -> None:
    (tmp_path / "protocol.json").write_text(functions_protocol.model_dump_json())
    empty = load(tmp_path)
    assert isinstance(empty, FrequencyStudy)
    assert empty.rows == ()
    assert "unfinished" in empty.state
    write_report(empty)
    lines = (whole.folder / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(line for line in lines if b'"chosen"' in line))
    part = load(tmp_path)
    write_report(part)
    assert [row["count"] for row in part.rows] == [row["count"] for row in whole.rows]


@pytest.mark.parametrize(
    ("text", "before", "after", "line", "problem"),
    [
        (FUNCTIONS, '"frequencies"', '"frequency"', 1, "'networks', 'frequencies'"),
        (FUNCTIONS, "seeds = 4000", "seeds = 4001", 3, "multiple of 2"),
        (FUNCTIONS, "min_count = 20", "min_counts = 20", 4, "min_counts"),
        (FUNCTIONS, '"lempel-ziv"', '"lempel"', 6, "lempel-ziv"),
        (FUNCTIONS, '"lempel-ziv"', '"trace"', 6, "Choose one of log-p"),
        (FUNCTIONS, '"lempel-ziv"', '"log-posterior"', 6, "given training labels"),
        (FUNCTIONS, '"lempel-ziv"', '"log-p"', 6, "a name of its own"),
        (FUNCTIONS, "bits = 3 }", "bits = 3 }\ntest = 4", 12, "Without training"),
        (TRAINED, "test = 5\n", "", 12, "labellings of the test inputs"),
        (TRAINED, "batch_size = 10", 'goal = "none"', 21, "goal"),
    ],
)
def test_an_error_names_its_line(tmp_path: Path, text: str, before: str, after: str, line: int, problem: str) -> None:
    with pytest.raises(InvalidInput, match=f"line {line}\\b") as caught:
        read_protocol(written(tmp_path, text.replace(before, after)))
    assert problem in str(caught.value)
