# %% [markdown]
# # PAC-Bayes learning curves
#
# log P(S) of m training labels S bounds the error on new inputs, without a test set. This notebook draws the bound over
# m and compares it with the error that it bounds: that of a random function of the posterior (Gibbs error).

# %%
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from nngp_prior import FullyConnected, clean_error_randomised, kernel, learning_curve, posterior, style

style.use()
images, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(images))[:1200]
X = images[chosen] / 16
y = np.where(digits[chosen] >= 5, 1, -1)
K = kernel(FullyConnected(depth=2), X)
sizes, tests = [50, 100, 200, 400, 800], np.arange(800, 1200)

# %% [markdown]
# ## Bounds
#
# `learning_curve` computes log P of the first m labels and all bounds of the library, for each m. The inputs are in
# random order, so the first m of them are m draws from the 1,797 digits. Each bound holds with probability 0.95.

# %%
curve = learning_curve(K, y, sizes, delta=0.05)
display(curve)  # noqa: F821 (Jupyter's)

# %% [markdown]
# `realizable` is the smallest in every row, as it should be: the published bounds follow from it.
#
# ## The error that is bounded
#
# `posterior` is the prior given the first labels. Its Gibbs error on 400 further digits has a standard error of the
# computation; the draw of these 400 adds about √(ε(1 - ε)/400). The vote of the posterior errs less.


# %%
def errors(labels):
    """Gibbs and vote errors on clean test labels, for each number of training labels."""
    found = []
    for m in sizes:
        inputs = np.r_[:m, tests]  # training inputs first
        given = posterior(K[np.ix_(inputs, inputs)], labels[:m])
        found.append((given.gibbs_error(y[tests]).value, given.vote_error(y[tests]).value))
    return np.array(found)


clean = errors(y)
for point, (gibbs, vote) in zip(curve, clean, strict=True):
    bound = point.bounds["realizable"].value
    print(f"m = {point.m:3}: bound {bound:.3f}, Gibbs error {gibbs:.3f}, vote {vote:.3f}, ratio {bound / gibbs:.1f}")

# %% [markdown]
# The bound is everywhere above the error, by a factor of about two, and falls with it.
#
# ## Corrupted labels
#
# Each label is now redrawn by a coin toss with probability ρ = 0.2. The bound on these labels is one on clean labels
# too, by `clean_error_randomised`: an error of ε on clean labels is (1 - ρ) ε + ρ/2 on redrawn ones.

# %%
rho, rng = 0.2, np.random.default_rng(1)
corrupted = np.where(rng.random(len(y)) < rho, rng.choice([-1, 1], size=len(y)), y)
noisy_curve = learning_curve(K, corrupted, sizes, delta=0.05)
noisy = errors(corrupted)

figure, axes = plt.subplots(ncols=2, figsize=(8.4, 3.4), sharey=True)
bounds = [point.bounds["realizable"].value for point in curve]
noisy_bounds = [clean_error_randomised(point.bounds["realizable"].value, rho) for point in noisy_curve]
panels = [("labels as given", bounds, clean), ("labels redrawn with probability 0.2", noisy_bounds, noisy)]
for axis, (title, values, measured) in zip(axes, panels, strict=True):
    gibbs, vote = measured.T
    spread = 2 * np.sqrt(gibbs * (1 - gibbs) / len(tests))
    axis.plot(sizes, np.minimum(values, 1), "o-", ms=4, label="bound, with probability 0.95")
    axis.errorbar(sizes, gibbs, spread, fmt="s-", ms=4, capsize=2, label="Gibbs error ± 2 s.e.")
    axis.plot(sizes, vote, "^-", ms=4, label="error of the vote")
    axis.axhline(0.5, color="grey", lw=0.8, ls=":")
    axis.set(xscale="log", xlabel="training labels m", title=title, ylim=(0, 0.6))
    axis.set_xticks(sizes, [str(m) for m in sizes])
    axis.minorticks_off()
axes[0].set(ylabel="error on clean labels")
axes[0].legend()
plt.show()

# %%
for m, bound, (gibbs, vote) in zip(sizes, noisy_bounds, noisy, strict=True):
    print(f"m = {m:3}: bound {bound:.3f}, Gibbs error {gibbs:.3f}, vote {vote:.3f}")

# %% [markdown]
# The posterior agrees with the wrong labels too, and with more labels it errs less all the same. The bound stays above
# the error and falls more slowly, since log P(S) pays for every wrong label.
