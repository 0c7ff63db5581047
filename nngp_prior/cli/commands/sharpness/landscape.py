"""``nngp-prior sharpness landscape``: the loss on a line or a plane through a trained network's parameters."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from nngp_prior.cli.common import options, output, trained_networks
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.specs.landscape import Landscape
from nngp_prior.schemas.text import number_of
from nngp_prior.versions import versions

if TYPE_CHECKING:
    from nngp_prior.sharpness.surface import Surface
    from nngp_prior.sharpness.training.trained import Trained


def landscape(
    file: trained_networks.File,
    network: trained_networks.Network = None,
    epoch: trained_networks.Epoch = None,
    on: trained_networks.On = "training",
    dimensions: Annotated[int, typer.Option(help="1 (a line) or 2 (a plane)")] = 1,
    points: Annotated[int, typer.Option(help="number of points along each axis")] = 51,
    radius: Annotated[
        float | None, typer.Option(help="largest distance in each direction [1; with --trajectory: covers it]")
    ] = None,
    normalisation: Annotated[
        str, typer.Option(help="normalisation of random directions: filter, layer or none")
    ] = "filter",
    trajectory: Annotated[
        bool, typer.Option("--trajectory", help="use the principal directions of the parameters kept in training")
    ] = False,
    loss: trained_networks.Loss = None,
    dtype: options.Dtype = "float64",
    seed: Annotated[int, typer.Option(help="random seed of the directions")] = 0,
    out: options.Checkpoint = None,
    plot: Annotated[Path | None, typer.Option(help="figure of the landscape (.png, .svg, .pdf)")] = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Compute loss and error along random directions, normalised per filter, or along the path of training."""
    fields = {"dimensions": dimensions, "points": points, "radius": radius, "normalisation": normalisation}
    specification = Landscape(**fields)
    options.require_npz(out)
    if plot is not None:
        output.require_plots("--plot", plot)
    found = trained_networks.open_networks(file, on)
    trained = found.trained
    place = trained_networks.places(trained, None if network is None else [network])[0]
    trained_networks.note_statuses(trained, [place])
    path = _kept(trained, place, epoch) if trajectory else None
    loss = loss or trained.training.loss
    from nngp_prior.sharpness.loss_landscape import landscape as landscape_of

    number, began = trained.seeds[place], time.perf_counter()
    with output.ProgressBars() as bars:
        surface = landscape_of(
            trained.architecture,
            trained.network(place, epoch),
            *found.data,
            specification,
            loss=loss,  # pyright: ignore[reportArgumentType]
            dtype=dtype,
            classes=trained.classes,
            seed=seed,
            trajectory=path,
            path=out,
            progress=bars.bar(f"network {number}"),
        )
    seconds, unit = time.perf_counter() - began, "nats" if loss == "cross-entropy" else "mse"
    if plot is not None:
        from nngp_prior.cli.plots.landscape import plot_landscape

        directions = "path of training" if trajectory else f"normalisation: {normalisation}"
        plot_landscape(plot, f"Loss at network {number}, {directions}\n{found.title}", surface)
    if json:
        output.print_json(
            {
                **{"file": str(file), "network": number, "epoch": epoch, "on": on, **found.source},
                **{"specification": specification.model_dump(mode="json"), "seed": seed},
                "coordinates": [axis.tolist() for axis in surface.coordinates],
                **{"loss": surface.loss.tolist(), "error": surface.error.tolist()},
                "lengths": surface.lengths.tolist(),
                "trajectory": None if surface.trajectory is None else surface.trajectory.tolist(),
                "explained": None if surface.explained is None else surface.explained.tolist(),
                **{"seconds": seconds, "versions": versions()},
            }
        )
        return
    _print(f"network {number}: {found.title}", surface, unit, seconds)
    for written in (out, plot):
        if written is not None:
            output.console.print(f"Written: {written}", highlight=False, soft_wrap=True)


def _kept(trained: Trained, place: int, epoch: int | None) -> list:
    """Return the saved parameters of a network, up to an epoch."""
    last = int(trained.epochs[place]) if epoch is None else epoch
    kept = [int(each) for each in trained.kept_epochs if each <= last]
    if not kept:
        raise InvalidInput("--trajectory", "the file has no parameters on the way", "Train with --keep-every 1.")
    return [trained.network(place, each) for each in kept]


def _print(title: str, surface: Surface, unit: str, seconds: float) -> None:
    """Print the loss at or next to the network, and the lowest and highest."""
    table = output.table("\nx", "\ny", f"loss\n({unit})", "\nerror", title=title, rows="point")
    nearest = tuple(int(np.argmin(np.abs(axis))) for axis in surface.coordinates)
    places = {
        "nearest to the network": nearest,
        "lowest": np.unravel_index(np.argmin(surface.loss), surface.loss.shape),
        "highest": np.unravel_index(np.argmax(surface.loss), surface.loss.shape),
    }
    for name, place in places.items():
        at = [f"{axis[i]:.3g}" for axis, i in zip(surface.coordinates, place, strict=True)]
        table.add_row(name, *at, *["–"] * (2 - len(at)), f"{surface.loss[place]:.4g}", f"{surface.error[place]:.1%}")
    output.print_table(table)
    output.console.print(f"{number_of(surface.loss.size, 'point')} in {seconds:.1f} s", highlight=False)
