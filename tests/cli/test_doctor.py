import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.strict_json import parse
from tests.data.idx_files import write_archive


def test_says_what_it_found(run) -> None:
    ended = run("doctor", "--json")
    checks = {check["check"]: check for check in parse(ended.out)["checks"]}
    assert ended.code == 0
    assert [name for name in ("kernels", "estimator", "JAX", "no TensorFlow", "python") if not checks[name]["ok"]] == []
    # Without NNGP_DATA there are no images, which is no fault.
    assert checks["mnist"]["ok"] is None
    assert "NNGP_DATA" in checks["mnist"]["found"]


@pytest.mark.usefixtures("image_data")
def test_prints_a_table(run, image_data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_DATA", str(image_data))
    ended = run("doctor")
    assert ended.code == 0
    assert "60,000 training images, 10,000 test images" in ended.out


def test_a_corrupt_file_is_bad_and_an_absent_one_is_not(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = np.zeros((3, 32, 32, 3), dtype=np.uint8), np.arange(3)
    path = write_archive(tmp_path / "cifar10" / "train.npz", images=images, labels=labels)
    monkeypatch.setenv("NNGP_DATA", str(tmp_path))
    whole = {check["check"]: check for check in parse(run("doctor", "--json").out)["checks"]}
    assert whole["cifar10"] == {"check": "cifar10", "ok": True, "found": "3 training images, no test images"}
    assert whole["mnist"]["ok"] is None
    assert str(tmp_path) in whole["mnist"]["found"]
    path.write_bytes(path.read_bytes()[:-9])
    ended = run("doctor", "--json")
    broken = {check["check"]: check for check in parse(ended.out)["checks"]}
    assert ended.code == 1
    assert broken["cifar10"]["ok"] is False
    assert str(path) in broken["cifar10"]["found"]
    assert broken["mnist"]["ok"] is None


def test_ends_with_1_where_a_check_fails(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise AssertionError("off by 1")

    monkeypatch.setattr(sys.modules["nngp_prior.cli.commands.doctor"], "_kernels", fails)
    ended = run("doctor", "--json")
    checks = {check["check"]: check for check in parse(ended.out)["checks"]}
    assert ended.code == 1
    assert checks["kernels"] == {"check": "kernels", "ok": False, "found": "off by 1"}
