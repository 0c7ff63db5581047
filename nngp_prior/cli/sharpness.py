"""``nngp-prior sharpness``: finite networks, trained, and how flat they are."""

from __future__ import annotations

import typer

from nngp_prior.cli.sharpness_landscape import landscape
from nngp_prior.cli.sharpness_train import train

app = typer.Typer(help="Train finite networks and measure how flat they are.", no_args_is_help=True)


@app.callback()
def _several() -> None:
    """A group of commands also while there is one alone."""


app.command()(train)
app.command()(landscape)
