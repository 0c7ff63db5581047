import sys

import pytest

from tests.cli.strict_json import parse


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
    assert "60,000 training images" in ended.out


def test_ends_with_1_where_a_check_fails(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise AssertionError("off by 1")

    monkeypatch.setattr(sys.modules["nngp_prior.cli.doctor"], "_kernels", fails)
    ended = run("doctor", "--json")
    checks = {check["check"]: check for check in parse(ended.out)["checks"]}
    assert ended.code == 1
    assert checks["kernels"] == {"check": "kernels", "ok": False, "found": "off by 1"}
