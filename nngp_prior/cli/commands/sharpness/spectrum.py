"""``nngp-prior sharpness spectrum``: figure of the density of the Hessian's eigenvalues."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nngp_prior.cli.common import options, output, trained_networks
from nngp_prior.schemas.measures.curvature import SpectralDensity
from nngp_prior.versions import versions

_NAMES = {"hessian": "Hessian", "ggn": "Gauss-Newton matrix", "empirical-fisher": "empirical Fisher matrix"}


def spectrum(
    file: trained_networks.File,
    out: options.PlotFile = Path("spectrum.png"),
    network: trained_networks.Network = None,
    epoch: trained_networks.Epoch = None,
    on: trained_networks.On = "training",
    matrix: Annotated[str, typer.Option(help="matrix: hessian, ggn or empirical-fisher")] = "hessian",
    layer: Annotated[str | None, typer.Option(help="layer whose block is used, such as 'dense 1'")] = None,
    probes: Annotated[int, typer.Option(help="number of random starting vectors")] = 10,
    steps: Annotated[
        int, typer.Option(help="Lanczos steps per starting vector; fewer once the curve has converged")
    ] = 80,
    width: Annotated[
        float, typer.Option(help="width of the Gaussians, relative to that of the spectrum", rich_help_panel="Options")
    ] = 0.01,
    points: Annotated[int, typer.Option(help="number of points of the curve")] = 1000,
    loss: trained_networks.Loss = None,
    dtype: Annotated[
        str, typer.Option(help="precision: float32 or float64; the curves agree to a millionth of their height")
    ] = "float32",
    seed: Annotated[int, typer.Option(help="random seed of the starting vectors")] = 0,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Draw the density of a trained network's Hessian eigenvalues (stochastic Lanczos quadrature)."""
    output.require_plots("--out", out)
    fields = {"matrix": matrix, "layer": layer, "probes": probes, "steps": steps, "width": width, "points": points}
    specification = SpectralDensity(**fields)
    found = trained_networks.open_networks(file, on)
    place = trained_networks.places(found.trained, None if network is None else [network])[0]
    trained_networks.note_statuses(found.trained, [place])
    risk = found.risk(place, epoch, loss, dtype)
    from nngp_prior.cli.plots.spectrum import plot_spectrum
    from nngp_prior.sharpness.measures.spectrum import grid, spectral_density

    began = time.perf_counter()
    number = found.trained.seeds[place]
    with output.ProgressBars() as bars:
        drawn = spectral_density(risk, specification, seed=seed, progress=bars.bar(f"network {number}"))
    at, deviation = grid(drawn, specification)
    density = drawn.density(at, deviation)
    block = "" if layer is None else f", block of {layer}"
    title = f"{_NAMES[matrix]} of network {number}{block}, {drawn.size:,} rows\n{found.title}"
    plot_spectrum(out, title, at, density, drawn)
    if json:
        output.print_json(
            {
                **{"file": str(file), "network": number, "epoch": epoch, "on": on, "dtype": dtype, **found.source},
                "specification": specification.model_dump(mode="json"),
                **{"seed": seed, "rows": drawn.size, "products": drawn.products, "deviation": deviation},
                **{"smallest_node": drawn.smallest, "largest_node": drawn.largest},
                "nodes": [nodes.tolist() for nodes in drawn.nodes],
                "weights": [weights.tolist() for weights in drawn.weights],
                **{"eigenvalues": at.tolist(), "density": density.tolist()},
                **{"plot": str(out), "seconds": time.perf_counter() - began, "versions": versions()},
            }
        )
        return
    output.console.print(
        f"{drawn.products:,} products, eigenvalues from {drawn.smallest:.4g} to {drawn.largest:.4g}. Plot: {out}",
        highlight=False,
        soft_wrap=True,
    )
