"""``nngp-prior sharpness landscape``: the loss on a line or a plane through a trained network's parameters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from nngp_prior.cli import options, output
from nngp_prior.cli.trained_data import examples_of
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.landscape import Landscape
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.sharpness.surface import Surface


def landscape(
    file: Annotated[Path, typer.Argument(help="of trained networks (.npz), as sharpness train writes them")],
    network: Annotated[int, typer.Option(help="place of the network in the file, from 0")] = 0,
    dimensions: Annotated[int, typer.Option(help="1, a line, or 2, a plane")] = 1,
    points: Annotated[int, typer.Option(help="along each axis")] = 51,
    radius: Annotated[float | None, typer.Option(help="as far each way [1; with --trajectory: to cover it]")] = None,
    normalisation: Annotated[str, typer.Option(help="of random directions: filter, layer or none")] = "filter",
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="principal directions of the parameters that training has kept")
    ] = False,
    attack: Annotated[bool, typer.Option("--with-attack", help="loss and error of the attack set too")] = False,
    seed: Annotated[int, typer.Option(help="of random directions")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="a .npz file for the arrays; a run that was cut off goes on from it")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="a PNG of the landscape")] = None,
    json: options.Json = False,
) -> None:
    """Loss and training error along random directions, normalised filter by filter, or along the path of training."""
    fields = {"dimensions": dimensions, "points": points, "radius": radius, "normalisation": normalisation}
    specification = Landscape(**fields)
    if out is not None and out.suffix != ".npz":
        raise InvalidInput("--out", f"got {str(out)!r}", "Name a file that ends in .npz.")
    if plot is not None:
        output.require_plots("--plot", plot)
    from nngp_prior.sharpness.surface import landscape as landscape_of
    from nngp_prior.sharpness.trained import Trained

    trained = Trained.load(file)
    parameters = trained.network(network)
    path = None
    if trajectory:
        kept = [epoch for epoch in trained.kept_epochs if epoch <= trained.epochs[network]]
        if not kept:
            raise InvalidInput("--trajectory", f"{file} has no kept parameters", "Train with --keep-every 1.")
        path = [trained.network(network, int(epoch)) for epoch in kept]
    examples = examples_of(trained, attack)
    began = time.perf_counter()
    with output.ProgressBars() as bars:
        surface = landscape_of(
            trained.architecture,
            parameters,
            examples,
            specification,
            loss=trained.training.loss,
            seed=seed,
            trajectory=path,
            path=out,
            progress=bars.bar(f"network {trained.seeds[network]}, n = {len(examples[1]):,}"),
        )
    seconds = time.perf_counter() - began
    unit = "nats" if trained.training.loss == "cross-entropy" else "mse"
    if plot is not None:
        from nngp_prior.cli.landscape_plot import plot_landscape

        kind = f"{normalisation}-normalised" if path is None else "path of training"
        title = f"network {trained.seeds[network]}, {trained.finite.size:,} parameters, {kind}"
        plot_landscape(plot, title, surface, unit)
    if json:
        output.print_json(
            {
                "about": surface.about,
                "network": trained.seeds[network],
                "coordinates": [axis.tolist() for axis in surface.coordinates],
                "loss": surface.loss.tolist(),
                "error": surface.error.tolist(),
                "lengths": surface.lengths.tolist(),
                "trajectory": None if surface.trajectory is None else surface.trajectory.tolist(),
                "explained": None if surface.explained is None else surface.explained.tolist(),
                "seconds": seconds,
                "versions": versions(),
            }
        )
        return
    _print(surface, unit, seconds)
    for written in (out, plot):
        if written is not None:
            output.console.print(f"Written: {written}", highlight=False)


def _print(surface: Surface, unit: str, seconds: float) -> None:
    """The lowest and highest loss, and what they are at the network itself."""
    table = output.table("\nx", "\ny", f"loss\n({unit})", "training\nerror", rows="point")
    middle = np.unravel_index(
        np.argmin(sum(np.square(axis) for axis in np.meshgrid(*surface.coordinates, indexing="ij"))), surface.loss.shape
    )
    places = {
        "nearest to the network": middle,
        "lowest": np.unravel_index(np.argmin(surface.loss), surface.loss.shape),
        "highest": np.unravel_index(np.argmax(surface.loss), surface.loss.shape),
    }
    for name, place in places.items():
        at = [f"{axis[i]:.3g}" for axis, i in zip(surface.coordinates, place, strict=True)]
        table.add_row(name, *at, *["–"] * (2 - len(at)), f"{surface.loss[place]:.4g}", f"{surface.error[place]:.1%}")
    output.print_table(table)
    output.console.print(f"{surface.loss.size:,} points in {seconds:.1f} s", highlight=False)
