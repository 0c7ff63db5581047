"""Figures that commands draw, one module each."""
