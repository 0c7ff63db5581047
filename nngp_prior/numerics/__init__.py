"""Numerical building blocks that know nothing of kernels, labels or networks."""
