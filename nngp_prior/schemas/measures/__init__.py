"""Specifications of flatness measures."""
