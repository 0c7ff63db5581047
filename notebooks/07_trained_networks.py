# %% [markdown]
# # Trained networks: Hessian spectrum, loss landscape, rescaling
#
# How flat is the loss at trained networks, and which measures of flatness survive a rescaling that leaves the function
# unchanged? And does log P?

# %%
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from nngp_prior import FullyConnected, kernel, log_probability, style
from nngp_prior.sharpness import (
    SGD,
    EmpiricalRisk,
    Landscape,
    SpectralDensity,
    Training,
    finite_network,
    landscape,
    measure,
    rescale,
    spectral_density,
    train,
)

style.use()
images, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(images))[:600]
X = images[chosen] / 16
y = np.where(digits[chosen] >= 5, 1, -1)
(X_train, X_test), (y_train, y_test) = np.split(X, [200]), np.split(y, [200])

# %% [markdown]
# ## Training
#
# Two networks start from the same draw of the prior and are trained by SGD to zero error on 200 digits. The second one
# is trained on 100 further digits with wrong labels too, the attack set, and therefore generalizes worse.

# %%
network = FullyConnected(depth=2, width=40, bias_std=1)
how = Training(optimizer=SGD(learning_rate=0.1), epochs=5000)
others = np.random.default_rng(0).permutation(len(images))[600:700]
attack = images[others] / 16, np.where(digits[others] >= 5, -1, 1)
plain = train(network, X_train, y_train, how, X_test=X_test, y_test=y_test)
attacked = train(network, X_train, y_train, how, attack=attack, X_test=X_test, y_test=y_test)
for name, trained in (("plain", plain), ("attacked", attacked)):
    print(f"{name:8}: {trained.statuses[0]} after {trained.epochs[0]} epochs, test error {trained.test_error[0]:.3f}")

# %% [markdown]
# ## Flatness and log P
#
# Measures are of the loss on the 200 training digits alone; log P is that of the function at all 600 digits.

# %%
K = kernel(network, X)
parameters = {"plain": plain.network(0), "attacked": attacked.network(0)}
signs = {"plain": np.sign(plain.outputs(X)[0]).astype(int), "attacked": np.sign(attacked.outputs(X)[0]).astype(int)}
for name in parameters:
    report = measure(network, parameters[name], X_train, y_train, ["trace", "eigenvalues"])
    trace, largest = report["trace"].value, report["lambda_max"].value
    print(f"{name:8}: trace {trace:.1f}, λ_max {largest:.2f}, {log_probability(K, signs[name])}")

# %% [markdown]
# The function of the attacked network is less probable by 185 nats. Its trace is larger, and its largest eigenvalue is
# not.
#
# ## Hessian spectrum
#
# The density of the Hessian's eigenvalues, by stochastic Lanczos quadrature, on a logarithmic axis: almost all of them
# are near zero, and a few are large.

# %%
figure, axis = plt.subplots(figsize=(5.4, 3.4))
for name in parameters:
    risk = EmpiricalRisk.of(network, parameters[name], X_train, y_train)
    spectrum = spectral_density(risk, SpectralDensity(probes=4), seed=1)
    at = np.linspace(spectrum.smallest - 0.3, spectrum.largest + 0.3, 800)
    axis.plot(at, spectrum.density(at, deviation=0.05), lw=1.3, label=name)
    small, error = spectrum.mean(lambda values, top=spectrum.largest: np.abs(values) < 0.01 * top)
    print(f"{name:8}: {small:.2%} ± {error:.2%} of {spectrum.size:,} eigenvalues are below λ_max/100 in absolute value")
axis.set(yscale="log", ylim=(1e-5, 30), xlabel="eigenvalue", ylabel="density")
axis.legend()
plt.show()

# %% [markdown]
# ## Loss landscape
#
# The loss along two random directions, scaled filter by filter (Li et al. 2018, arXiv 1712.09913).

# %%
figure, axes = plt.subplots(ncols=2, figsize=(8.4, 3.6), sharex=True, sharey=True, layout="constrained")
levels = np.geomspace(1e-2, 3, 13)
for axis, name in zip(axes, parameters, strict=True):
    surface = landscape(
        network, parameters[name], X_train, y_train, Landscape(dimensions=2, points=25, radius=1), seed=1
    )
    drawn = axis.contour(*surface.coordinates, surface.loss.T, levels, cmap="viridis_r", norm="log", linewidths=1)
    axis.clabel(drawn, levels[::3], fmt="%.2g", fontsize=7)
    axis.plot(0, 0, "k.", ms=5)
    axis.set(title=name, xlabel="first direction", aspect="equal")
    print(f"{name:8}: loss {surface.loss[12, 12]:.4f} at the network, largest on the grid {surface.loss.max():.2f}")
axes[0].set(ylabel="second direction")
plt.show()

# %% [markdown]
# ## Rescaling
#
# The first layer is divided by α = 5.9, and the next layer's weights are multiplied by it (Dinh et al. 2017, arXiv
# 1703.04933). With ReLU this leaves the function unchanged.

# %%
before, after = parameters["plain"], rescale(network, parameters["plain"], alpha=5.9)
measures = ["trace", "eigenvalues", "fisher-rao-norm", "relative-flatness", "scaled-eigenvalue"]
names = {
    "trace": "trace of the Hessian",
    "lambda_max": "largest eigenvalue",
    "fisher_rao_norm": "Fisher-Rao norm",
    "kappa_tr": "relative flatness κ_Tr",
    "scaled_lambda_max": "scaled eigenvalue",
}
reports = [measure(network, each, X_train, y_train, measures) for each in (before, after)]
for key, name in names.items():
    old, new = (report[key].value for report in reports)
    print(f"{name:24}{old:10.4g} → {new:10.4g}   × {new / old:.3g}")

# %%
apply = finite_network(network, X.shape[1:]).apply
old, new = (np.asarray(apply(each, X)).ravel() for each in (before, after))
print(f"largest change of an output: {np.abs(new - old).max():.1e}, of outputs up to {np.abs(old).max():.1f}")
print(f"equal signs at all {len(X)} inputs, hence equal log P: {np.array_equal(np.sign(old), np.sign(new))}")

# %% [markdown]
# The rescaling multiplies trace and largest eigenvalue by almost 30, while the function, its test error and its log P
# stay as they were. The other three measures were made invariant under it.
