"""Specifications of measures of flatness."""
