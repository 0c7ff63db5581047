"""``nngp-prior sharpness``: training of finite networks, and their sharpness."""

from __future__ import annotations

from nngp_prior.cli.commands.sharpness.landscape import landscape
from nngp_prior.cli.commands.sharpness.measure import measure
from nngp_prior.cli.commands.sharpness.spectrum import spectrum
from nngp_prior.cli.commands.sharpness.train import train
from nngp_prior.cli.common.command import App

app = App(help="Train finite networks and measure how flat they are.")
app.command()(train)
app.command()(measure)
app.command()(spectrum)
app.command()(landscape)
