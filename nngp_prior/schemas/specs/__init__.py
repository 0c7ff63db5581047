"""Specifications: architectures, data sets, estimators, kernels, training."""
