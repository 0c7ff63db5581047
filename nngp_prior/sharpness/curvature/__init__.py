"""Hessian and other symmetric matrices of an empirical risk, known by products with vectors."""
