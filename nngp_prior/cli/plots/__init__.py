"""Figures drawn by commands, one module each."""
