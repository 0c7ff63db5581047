"""Protocols of small studies, and the files of their folders."""

from pathlib import Path
from typing import Any

from nngp_prior.experiments import run
from nngp_prior.experiments.analysis import verdicts
from nngp_prior.schemas.protocols import Protocol
from nngp_prior.schemas.results.experiment import ExperimentResults

NETWORKS = """\
name = "small"
seeds = 2
quantities = ["log-p", "trace"]

[data]
dataset = { kind = "digits", n = 30 }
labelling = { kind = "threshold", at = 5 }
test = 20

[architecture]
kind = "fully-connected"
width = 4

[axes]
attack = [0, 10]

[statistics]
resamples = 50
"""
CHANGES = ["training.epochs=30", 'training.optimizer={ kind = "sgd", learning_rate = 0.1 }', "training.batch_size=8"]
FUNCTIONS = """\
kind = "frequencies"
name = "few-bits"
seeds = 4000
min_count = 20
functions = 12
quantities = [
    { kind = "log-p", estimator = { kind = "smc", particles = 16, replicates = 8 } },
    "ep-log-p",
    "lempel-ziv",
]

[data]
dataset = { kind = "boolean", bits = 3 }

[architecture]
kind = "fully-connected"
width = 8
weight_std = 1.0
bias_std = 0.0

[statistics]
resamples = 50
"""
TRAINED = """\
kind = "frequencies"
name = "trained"
seeds = 60
min_count = 1
quantities = [
    { kind = "log-posterior", particles = 16, replicates = 16 },
    "ep-log-p",
    { kind = "sampled-log-p", draws = 20_000, runs = 20 },
    "entropy",
]

[data]
dataset = { kind = "digits", n = 30 }
labelling = { kind = "threshold", at = 5 }
test = 5

[architecture]
kind = "fully-connected"
width = 8

[training]
optimizer = { kind = "sgd", learning_rate = 0.1 }
batch_size = 10

[axes]
learning-rate = [0.1, 0.3]

[statistics]
resamples = 50
"""
TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "dataset": {"kind": "digits", "n": 20},
        "labelling": {"kind": "threshold", "at": 5},
        "test": 10,
    },
    "architecture": {"kind": "fully-connected", "width": 3},
    "training": {"optimizer": {"kind": "sgd", "learning_rate": 0.1}, "batch_size": 10, "epochs": 3},
    "axes": {"attack": [0, 10]},
    "seeds": 1,
    "quantities": ["log-p", "fisher-trace"],
    "statistics": {"resamples": 50},
}
FOUR = {**TINY, "seeds": 2}  # networks, enough for verdicts


def written(folder: Path, text: str) -> Path:
    """Return the path of a protocol file."""
    path = folder / "own.toml"
    path.write_text(text)
    return path


def files(folder: Path) -> dict[str, bytes]:
    """Return the contents of a study's files by path, without kernels; rows are sorted, as they finish in any order."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "kernels")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    found["rows.jsonl"] = b"\n".join(sorted(found["rows.jsonl"].splitlines()))
    return found


def assert_same(found: ExperimentResults, protocol: Protocol, folder: Path) -> None:
    """The results are those of the library, bit for bit."""
    study = run(protocol, folder)
    assert list(found.rows) == list(study.rows)
    assert [each.as_json() for each in found.verdicts] == [each.as_json() for each in verdicts(study)]
    assert found.problems == study.problems
    assert found.to_csv() == study.to_csv()
    assert found.protocol == protocol
