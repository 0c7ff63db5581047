"""Running the command line in this process, as ``nngp-prior`` would."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from nngp_prior.cli import main


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Ended]:
    """A function that runs one command line, with a cache of the test's own."""
    monkeypatch.setenv("NNGP_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.delenv("NNGP_DATA", raising=False)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["nngp-prior", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return run
