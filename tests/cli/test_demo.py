import struct
from contextlib import nullcontext
from pathlib import Path

import pytest

from nngp_prior import log_probability
from nngp_prior.cli.commands import demo as module
from nngp_prior.schemas.specs.data import Digits, OneVsRest
from tests.cases import digits
from tests.cli.strict_json import parse
from tests.client.service import TOKEN, fake_service

NAMES = ["threshold:5", "one-vs-rest:3", "random:1", "constant:1"]


@pytest.fixture(autouse=True)
def _one_process_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNGP_SLOTS", "1")


def test_writes_a_plot_and_its_data_and_prints_a_table(run, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    ended = run("demo", "-n", 50, "--folder", folder)
    assert ended.code == 0
    assert "Traceback" not in ended.err
    assert [name for name in NAMES if name not in ended.out] == []
    assert str(folder / "digits.png") in ended.out.replace("\n", "")
    image = (folder / "digits.png").read_bytes()
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", image[16:24])
    assert width > 800
    assert height > 300
    document = parse((folder / "digits.json").read_text(encoding="utf-8"))
    assert document["dataset"] == Digits(n=50).model_dump(mode="json")
    assert [result["name"] for result in document["results"]] == NAMES
    by_name = {result["name"]: result for result in document["results"]}
    expected = log_probability(*digits(50, OneVsRest(label=3)))
    assert by_name["one-vs-rest:3"]["log_p"] == pytest.approx(expected.value, abs=1e-9)
    for result in document["results"]:
        assert result["lower_bound"]["log_p"] < result["log_p"] < 0
        assert 0 < result["pac_bayes"]["value"] < 1
        assert f"{result['pac_bayes']['value']:.3f}" in ended.out
    assert by_name["random:1"]["pac_bayes"]["value"] == max(r["pac_bayes"]["value"] for r in document["results"])


@pytest.mark.usefixtures("without_extras")
def test_needs_the_service(run, tmp_path: Path) -> None:
    ended = run("demo", "--folder", tmp_path / "none")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == 'error: alembic: is not installed. Run: pip install "nngp-prior[service]"\n'
    assert not (tmp_path / "none").exists()


def test_json_is_what_the_file_holds(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_service() as service:
        monkeypatch.setattr(module, "passing_service", lambda: nullcontext((service.url, TOKEN)))
        ended = run("demo", "-n", 4, "--folder", tmp_path, "--json")
    assert ended.code == 0, ended.err
    document = parse(ended.out)
    assert [result["name"] for result in document["results"]] == NAMES
    assert document == parse((tmp_path / "digits.json").read_text(encoding="utf-8"))
