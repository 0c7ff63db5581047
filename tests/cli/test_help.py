"""Help, version, and tables of all commands."""

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.core import TyperGroup

import nngp_prior
from nngp_prior.cli import app
from tests.cli.strict_json import parse


def _commands(group: TyperGroup, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [before]
    for name, command in group.commands.items():
        path = (*before, name)
        found += _commands(command, path) if isinstance(command, TyperGroup) else [path]
    return found


PAIR = ("--labelling", "parity", "--labelling", "threshold:5")
COMMANDS = _commands(typer.main.get_command(app))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_for_users(run, command: tuple[str, ...]) -> None:
    ended = run(*command, "--help")
    assert (ended.code, ended.err) == (0, "")
    assert "Usage: nngp-prior" in ended.out
    for section in ("Args:", "Attributes:", "Raises:", "Returns:", "Yields:"):
        assert section not in ended.out


@pytest.mark.parametrize("command", [(), ("estimate",), ("sharpness",), ("sharpness", "train")], ids=" ".join)
def test_help_has_a_short_option(run, command: tuple[str, ...]) -> None:
    assert run(*command, "-h") == run(*command, "--help")


def test_help_shows_options_in_panels_with_their_defaults(run) -> None:
    out = run("estimate", "-h").out
    for panel in ("Inputs", "Labels", "Architecture", "Method", "Service", "Output"):
        assert f"─ {panel} ─" in out
    shown = re.sub(r"[│\s]+", " ", out)
    for default in ("train or test [train]", "boolean: signs or bits [signs]", "or identity [relu]", "random[:seed]"):
        assert default in shown


def test_a_shell_completes_commands() -> None:
    words = {"_NNGP_PRIOR_COMPLETE": "complete_bash", "COMP_WORDS": "nngp-prior sharpness tr", "COMP_CWORD": "2"}
    program = str(Path(sys.executable).with_name("nngp-prior"))
    done = subprocess.run([program], env={**os.environ, **words}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["train"]


def test_version(run) -> None:
    assert run("--version") == (0, f"nngp-prior {nngp_prior.__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "rows", "nested"),
    [
        (
            ("estimate", "-n", 60, "--labelling", "parity", "--labelling", "threshold:5", "--method", "ep"),
            "results",
            "diagnostics.ep_sweeps",
        ),
        (("bound", "--m", "20,40", "--method", "bernstein-yue"), "points", "bounds.0.value"),
        (("sample", "--bits", 2, "-N", 100, "--width", 4), "top", "frequency.interval.1"),
    ],
    ids=["estimate", "bound", "sample"],
)
def test_csv_has_the_rows_of_json(run, command: tuple, rows: str, nested: str) -> None:
    document, table = run(*command, "--json"), run(*command, "--csv")
    assert (document.code, table.code) == (0, 0), table.err
    expected, found = parse(document.out)[rows], list(csv.DictReader(io.StringIO(table.out)))
    assert len(found) == len(expected) > 1
    for row, whole in zip(found, expected, strict=True):
        for name, value in whole.items():
            if isinstance(value, str | int | float) and name != "seconds":
                assert row[name] == str(value)
    assert nested in found[0]


def test_tables_fit_eighty_columns_or_fold(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngp_prior.cli.common.output.console", Console(width=80))
    wide = run("bound", "--m", "20,40", "--method", "bernstein-yue", "--corrupt", "randomise:0.1")
    assert max(map(len, wide.out.splitlines())) <= 80
    assert [line.split()[0] for line in wide.out.splitlines() if line.startswith((" 20", " 40"))] == ["20", "40"] * 2
    narrow = run("estimate", "-n", 60, "--method", "ep", "--labelling", "parity", "--labelling", "constant")
    assert max(map(len, narrow.out.splitlines())) <= 80
