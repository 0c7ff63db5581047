# %% [markdown]
# # The Boolean system
#
# Random networks with 7 binary inputs compute Boolean functions of 7 bits, of which there are 2¹²⁸. Some functions are
# drawn so often that their probability can be counted. This notebook compares the frequencies with log P at infinite
# width, and shows how probability depends on complexity (Valle-Pérez, Camargo and Louis 2019, arXiv 1805.08522).

# %%
import numpy as np
from matplotlib import pyplot as plt

from nngp_prior import FullyConnected, complexity, kernel, log_probabilities, sample_functions, style
from nngp_prior.data import Boolean, load

style.use()
# Inputs are 0 and 1. Without biases the output at 0 … 0 is 0 and has no sign: 127 inputs are left.
X = load(Boolean(bits=7, encoding="bits", leave_out_zero=True)).X
network = FullyConnected(depth=2, width=40, weight_std=1, bias_std=0)

# %% [markdown]
# ## Counts
#
# `sample_functions` draws networks, labels the inputs by the signs of their outputs, and counts the functions.

# %%
counts = sample_functions(network, X, 500_000)
print(counts)
for rank, labels, draws, frequency in counts.top(6):
    low, high = np.exp(frequency.interval(0.95))
    print(f"rank {rank}: +1 at {np.sum(labels > 0):3} inputs, drawn {draws:6,} times, P in {low:.5f} … {high:.5f}")

# %% [markdown]
# The two constant functions are the most frequent ones, by far. If all functions were equally probable, hardly any
# would be drawn twice.
#
# ## log P at infinite width
#
# log P needs no draws, and its error does not grow as P shrinks. It is computed here for functions of many ranks. The
# frequencies of functions that were chosen because they are frequent are too high on average; they are therefore taken
# from a second sample.

# %%
chosen = np.unique(np.geomspace(1, np.sum(counts.counts >= 10), 60).astype(int)) - 1  # ranks, from 0
functions = counts.labels(chosen)
second = sample_functions(network, X, 500_000, seed=1)
K = kernel(network, X)
smc = log_probabilities(K, functions)
ep = log_probabilities(K, functions, "ep")
log_frequency = np.array([second.frequency(function).value for function in functions])
log_p, log_p_ep = (np.array([found.value for found in estimates]) for estimates in (smc, ep))

for name, difference in (("smc - log frequency", log_p - log_frequency), ("EP - smc", log_p_ep - log_p)):
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    print(f"{name:20}{difference.mean():+.3f} ± {error:.3f} nats on average of {len(difference)} functions")
print(f"largest standard error of smc: {max(found.stderr for found in smc):.3f} nats")
print(f"correlation of log P and log frequency: {np.corrcoef(log_p, log_frequency)[0, 1]:.4f}")

# %%
figure, (left, right) = plt.subplots(ncols=2, figsize=(9.5, 3.8))
ends = (log_frequency.min() - 0.5, log_frequency.max() + 0.5)
left.plot(ends, ends, color="grey", lw=0.8)
left.plot(log_frequency, log_p, "o", ms=4, label="smc")
left.plot(log_frequency, log_p_ep, "x", ms=4, label="EP")
left.set(xlabel="log frequency, 500,000 networks of width 40", ylabel="log P, infinite width (nats)")
left.legend()

ranks = np.unique(np.geomspace(1, len(counts), 300).astype(int))
right.plot(ranks, counts.counts[ranks - 1] / counts.draws, lw=1.4, label="frequency, networks of width 40")
right.plot(chosen + 1, np.exp(log_p), "o", ms=3.5, label="P at infinite width, smc")
right.set(xscale="log", yscale="log", xlabel="rank of the function", ylabel="P")
right.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# log P at infinite width agrees with the frequencies at width 40 on average, and EP is below it by nearly the same
# third of a nat for all functions. On the right, frequencies are those of the first sample, by which the ranks were
# chosen: the last points show by how much they are too high. The tail is flat at one draw: counting says nothing about
# a function that was drawn once. log P does.
#
# ## Complexity
#
# The Lempel-Ziv complexity of the labels, in bits, against P: of the functions above, of functions drawn by random
# networks whatever their frequency, and of random labels.

# %%
rng = np.random.default_rng(0)
drawn = counts.labels(rng.choice(len(counts), 120, p=counts.counts / counts.counts.sum()))
coins = rng.choice([-1, 1], size=(40, len(X)))
groups = {"frequent functions": functions, "functions of random networks": drawn, "random labels": coins}

figure, axis = plt.subplots(figsize=(5.4, 3.8))
for (name, labels), marker in zip(groups.items(), "o^s", strict=True):
    bits = np.array([complexity("lempel-ziv", function) for function in labels])
    found = log_p if labels is functions else np.array([each.value for each in log_probabilities(K, labels)])
    axis.plot(bits, found / np.log(10), marker, ms=3.5, alpha=0.7, label=name)
    print(f"{name:29} median complexity {np.median(bits):3.0f} bits, median log P {np.median(found):7.1f} nats")
print(f"{len(X)} coin tosses: {len(X) * np.log(0.5):.1f} nats")
axis.axhline(len(X) * np.log10(0.5), color="grey", lw=0.8, ls=":")
axis.set(xlabel="Lempel-Ziv complexity (bits)", ylabel="log₁₀ P")
axis.legend()
plt.show()

# %% [markdown]
# P falls by tens of orders of magnitude with growing complexity: the prior is biased towards simple functions. Random
# labels are less probable than coin tosses (dotted line).
