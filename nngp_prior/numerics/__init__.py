"""Numerical building blocks, independent of kernels, labels and networks."""
