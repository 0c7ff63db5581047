"""Command line: one module of ``commands`` per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from nngp_prior.cli.commands.bound import bound
from nngp_prior.cli.commands.demo import demo
from nngp_prior.cli.commands.doctor import doctor
from nngp_prior.cli.commands.estimate import estimate
from nngp_prior.cli.commands.experiment import app as experiment
from nngp_prior.cli.commands.jobs import app as jobs
from nngp_prior.cli.commands.kernel import app as kernel
from nngp_prior.cli.commands.posterior import posterior
from nngp_prior.cli.commands.sample import sample
from nngp_prior.cli.commands.select import select
from nngp_prior.cli.commands.serve import serve
from nngp_prior.cli.commands.sharpness import app as sharpness
from nngp_prior.cli.commands.slurm import slurm
from nngp_prior.cli.commands.worker import worker
from nngp_prior.cli.common import output
from nngp_prior.cli.common.command import App
from nngp_prior.errors import NngpPriorError
from nngp_prior.versions import PACKAGE, __version__

app = App(
    name="nngp-prior",
    help="How probable is a labelling under a neural network's prior? log P in nats, with an error bar.",
    epilog="Status: 0 done; 1 a check, or a job that was waited for, failed; 2 something that you can correct, named "
    "in one line; 130 interrupted. serve and worker end with their process's own.",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.console.print(f"{PACKAGE} {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    del version


app.command()(estimate)
app.add_typer(kernel, name="kernel")
app.command()(posterior)
app.command()(bound)
app.command()(select)
app.command()(sample)
app.add_typer(sharpness, name="sharpness")
app.add_typer(experiment, name="experiment")
app.command()(serve)
app.command()(worker)
app.command()(slurm)
app.add_typer(jobs, name="jobs")
app.command()(demo)
app.command()(doctor)


def main() -> None:
    """Run the command line; user errors are printed in one line, without a traceback."""
    try:
        app(prog_name=PACKAGE)
    except NngpPriorError as error:
        output.fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
