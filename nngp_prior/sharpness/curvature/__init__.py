"""Hessian and other symmetric matrices of an empirical risk, as matrix-free operators."""
