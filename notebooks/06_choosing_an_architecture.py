# %% [markdown]
# # Choosing an architecture by log P(S)
#
# log P(S), the logarithm of the probability of the training labels S under the prior of an architecture, is its
# evidence. It needs no trained network and no test data. This notebook compares it with the test error of the posterior
# over a grid of depths and standard deviations of weights and biases, on digits.

# %%
import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import kendalltau
from sklearn.datasets import load_digits

from nngp_prior import FullyConnected, kernel, posterior, style

style.use()
images, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(images))[:800]
X = images[chosen] / 16
y = np.where(digits[chosen] >= 5, 1, -1)
train = 200  # the other 600 are test inputs

# %% [markdown]
# ## The grid
#
# The activation is erf: with it the weights' standard deviation matters, from networks that forget their inputs layer
# by layer to chaotic ones, in which near inputs move apart. (A ReLU network without biases has the same log P for all
# of them.)

# %%
depths, weights, biases = [1, 2, 4, 8], [0.7, 1.0, 1.5, 2.0, 3.0], [0.1, 0.5]
evidence, vote, gibbs = (np.zeros((len(biases), len(depths), len(weights))) for _ in range(3))
largest = 0.0
for index in np.ndindex(evidence.shape):
    bias, depth, weight = biases[index[0]], depths[index[1]], weights[index[2]]
    network = FullyConnected(depth=depth, activation="erf", weight_std=weight, bias_std=bias)
    given = posterior(kernel(network, X), y[:train])
    evidence[index], largest = given.log_p.value, max(largest, given.log_p.stderr)
    vote[index] = given.vote_error(y[train:]).value
    gibbs[index] = given.gibbs_error(y[train:]).value
print(f"largest standard error of log P(S): {largest:.2f} nats")

# %%
figure, axes = plt.subplots(nrows=2, ncols=2, figsize=(8.4, 5.6), sharex=True, sharey=True, layout="constrained")
for row, bias in enumerate(biases):
    for column, (title, values) in enumerate((("log P(S) (nats)", evidence), ("error of the vote", vote))):
        axis, cells = axes[row, column], values[row]
        shades = axis.imshow(
            cells, cmap="Blues" if column == 0 else "Reds", vmin=values.min(), vmax=values.max(), aspect="auto"
        )
        dark = (cells - values.min()) / np.ptp(values) > 0.6
        for (i, j), value in np.ndenumerate(cells):
            text = f"{value:.0f}" if column == 0 else f"{value:.3f}"
            axis.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark[i, j] else "black")
        axis.set_xticks(range(len(weights)), weights)
        axis.set_yticks(range(len(depths)), depths)
        axis.set_title(f"{title}, bias_std {bias}")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
for axis in axes[-1]:
    axis.set_xlabel("weight_std")
for axis in axes[:, 0]:
    axis.set_ylabel("depth")
plt.show()

# %% [markdown]
# ## Does it predict the test error?

# %%
best = np.unravel_index(evidence.argmax(), evidence.shape)
print(f"largest log P(S): depth {depths[best[1]]}, weight_std {weights[best[2]]}, bias_std {biases[best[0]]}")
print(f"its error of the vote: {vote[best]:.3f}; smallest of the grid {vote.min():.3f}, largest {vote.max():.3f}")
spread = np.sqrt(vote[best] * (1 - vote[best]) / (len(y) - train))
print(f"standard error of a test error on {len(y) - train} inputs: {spread:.3f}")
for name, values in (("vote", vote), ("Gibbs", gibbs)):
    print(f"Kendall's τ of log P(S) and the {name} error: {kendalltau(evidence.ravel(), values.ravel()).statistic:.2f}")

figure, axis = plt.subplots(figsize=(4.8, 3.4))
for depth_index, depth in enumerate(depths):
    axis.plot(evidence[:, depth_index].ravel(), vote[:, depth_index].ravel(), "o", ms=4, label=f"depth {depth}")
axis.set(xlabel="log P(S) of 200 labels (nats)", ylabel="error of the vote")
axis.legend()
plt.show()

# %% [markdown]
# The architecture with the largest log P(S) errs more than the best one of the grid by less than a standard error, and
# log P(S) orders most of the grid by the error. The exceptions are deep chaotic networks (depth 8, weight_std 2 and 3):
# they give the labels a low probability, and the vote errs little all the same.
