"""Independent ways to the same numbers."""

import math

import numpy as np
from scipy.stats import norm


def sequential_ep(K: np.ndarray, labels: np.ndarray, sweeps: int) -> float:
    """log Z of plain sequential EP: one site, one rank-one update, Σ recomputed from the sites after each sweep."""
    n = len(labels)
    K = K * np.outer(labels, labels)
    s, nu = np.zeros(n), np.zeros(n)
    Sigma, mean = K.copy(), np.zeros(n)
    for _ in range(sweeps):
        for i in range(n):
            tau = 1 / Sigma[i, i] - s[i]
            nu_cavity = mean[i] / Sigma[i, i] - nu[i]
            z = nu_cavity / math.sqrt(tau)
            hazard = math.exp(norm.logpdf(z) - norm.logcdf(z))
            tilted_mean = nu_cavity / tau + hazard / math.sqrt(tau)
            tilted_variance = (1 - hazard * (z + hazard)) / tau
            new_s = 1 / tilted_variance - tau
            new_nu = tilted_mean / tilted_variance - nu_cavity
            column = Sigma[:, i].copy()
            Sigma -= np.outer(column, column) * (new_s - s[i]) / (1 + (new_s - s[i]) * column[i])
            s[i], nu[i] = new_s, new_nu
            mean = Sigma @ nu
        Sigma = np.linalg.inv(np.linalg.inv(K) + np.diag(s))
        mean = Sigma @ nu
    variance = np.diagonal(Sigma)
    tau = 1 / variance - s
    nu_cavity = mean / variance - nu
    # log Z = Σ log Z̃_i + log ∫ N(g; 0, K) Π t_i, with t_i normalised to match the zeroth moment of the tilted.
    zeroth = norm.logcdf(nu_cavity / np.sqrt(tau)).sum()
    cavity_times_site = (
        0.5 * np.log(tau / (tau + s)) + 0.5 * (nu_cavity + nu) ** 2 / (tau + s) - 0.5 * nu_cavity**2 / tau
    ).sum()
    prior_times_sites = -0.5 * np.linalg.slogdet(np.eye(n) + K @ np.diag(s))[1] + 0.5 * nu @ mean
    return float(zeroth - cavity_times_site + prior_times_sites)


def all_labellings(n: int) -> np.ndarray:
    return np.array([[1 if (code >> i) & 1 else -1 for i in range(n)] for code in range(2**n)])
