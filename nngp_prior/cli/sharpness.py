"""``nngp-prior sharpness``: finite networks, trained, and how flat they are."""

from __future__ import annotations

from nngp_prior.cli.command import App
from nngp_prior.cli.sharpness_landscape import landscape
from nngp_prior.cli.sharpness_measure import measure
from nngp_prior.cli.sharpness_spectrum import spectrum
from nngp_prior.cli.sharpness_train import train

app = App(help="Train finite networks and measure how flat they are.")
app.command()(train)
app.command()(measure)
app.command()(spectrum)
app.command()(landscape)
