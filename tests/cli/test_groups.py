"""Option groups of the command line."""

from dataclasses import FrozenInstanceError, dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from nngp_prior.cli.common.command import App


@dataclass(frozen=True)
class Grid:
    size: Annotated[int, typer.Option("-n", "--size", help="number of points")] = 3
    names: Annotated[list[str] | None, typer.Option("--name")] = None


@dataclass(frozen=True)
class LargeGrid(Grid):
    size: Annotated[int, typer.Option("-n", "--size", help="many points")] = 1000
    path: str | None = None


def printed(*arguments: str) -> str:
    app = App()

    @app.command()
    def small(grid: Grid, scale: float = 1.0) -> None:
        """Print a small grid."""
        with pytest.raises(FrozenInstanceError):
            grid.size = 0  # pyright: ignore[reportAttributeAccessIssue]
        typer.echo(f"{grid} {scale}")

    @app.command()
    def large(size_of_all: LargeGrid) -> None:
        """Print a large grid."""
        typer.echo(str(size_of_all))

    ended = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("small", "Grid(size=3, names=None) 1.0"),
        ("small -n 5 --name a --scale 2 --name b", "Grid(size=5, names=['a', 'b']) 2.0"),
        ("large", "LargeGrid(size=1000, names=None, path=None)"),
        ("large --path x --size 7", "LargeGrid(size=7, names=None, path='x')"),
    ],
)
def test_command_receives_groups(arguments: str, expected: str) -> None:
    assert printed(*arguments.split()).strip() == expected


def test_help_lists_fields_in_order_of_the_base_class() -> None:
    text = printed("large", "--help")
    assert "many points" in text
    assert text.index("--size") < text.index("--name") < text.index("--path")
