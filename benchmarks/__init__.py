"""Measurements of the estimators, side by side with their peers in one run: ``python -m benchmarks``."""
