# %% [markdown]
# # A network of your own
#
# Networks without a formula for their kernel have one that is estimated: the covariance of the outputs of random
# finite networks. log P under it includes the error of the kernel. The network here is a pair of functions in the
# style of `stax`, with gated units, which no built-in architecture has.

# %%
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from nngp_prior import FromNetwork, FullyConnected, MonteCarlo, log_prior, monte_carlo_kernel, style

style.use()
images, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(images))[:100]
X = images[chosen] / 16
y = np.where(digits[chosen] >= 5, 1, -1)

# %% [markdown]
# ## The network
#
# `init(key, input_shape)` draws parameters; it returns the shape of the outputs, and the parameters.
# `apply(parameters, X)` returns the outputs, one row per input. In `gated` half of the hidden units gate the other
# half; `relu` is a plain network with one hidden layer, whose kernel is known, as a check of the method.

# %%
WIDTH, OUTPUTS = 128, 64


def init(key, input_shape):
    first, second = jax.random.split(key)
    hidden = jax.random.normal(first, (input_shape[-1], 2 * WIDTH))
    readout = jax.random.normal(second, (WIDTH, OUTPUTS))
    return (input_shape[0], OUTPUTS), (hidden, readout)


def gate(parameters, X):
    hidden, readout = parameters
    value, opening = jnp.split(X @ hidden / jnp.sqrt(X.shape[-1]), 2, axis=1)
    return (value * jax.nn.sigmoid(4 * opening)) @ readout / jnp.sqrt(WIDTH)


def rectify(parameters, X):
    hidden, readout = parameters
    return jax.nn.relu(X @ hidden[:, :WIDTH]) @ readout


gated = FromNetwork(init, gate, name="gated, width 128")
relu = FromNetwork(init, rectify, name="relu, width 128")

# %% [markdown]
# The scale of the outputs does not matter: log P depends on their signs alone. All 64 outputs of a network are used;
# their readout weights are independent, so each contributes to the mean.
#
# ## Its kernel
#
# The kernel is the mean over networks of products of outputs, with a standard error of each entry. Its rank is at most
# the number of outputs of all networks together; if that is less than the number of inputs, almost every labelling has
# P = 0.

# %%
how = MonteCarlo(networks=400)
found = monte_carlo_kernel(gated, X, how)
scale = np.sqrt(np.outer(np.diag(found.K), np.diag(found.K)))
print(f"rank {found.rank} of {len(X)}")
print(f"median standard error of an entry, in units of the diagonal: {np.median(found.stderr / scale):.4f}")

# %% [markdown]
# ## log P with the kernel's error
#
# The standard error has two parts: that of the estimator given the kernel, and that of the kernel, by a bootstrap over
# batches of networks.

# %%
sizes = [100, 200, 400, 800, 1600]


def estimates(network):
    found = [log_prior(network, X, y, kernel=MonteCarlo(networks=size)) for size in sizes]
    for size, estimate in zip(sizes, found, strict=True):
        parts = estimate.diagnostics
        print(
            f"{size:5,} networks: log P = {estimate.value:.2f} ± {estimate.stderr:.2f} nats "
            f"(estimator {parts['estimator_stderr']:.3f}, kernel {parts['kernel_stderr']:.3f}), "
            f"bias of the kernel's error {parts['kernel_bias']:+.2f}"
        )
    return found


of_gated = estimates(gated)

# %%
of_relu = estimates(relu)
exact = log_prior(FullyConnected(depth=1, bias_std=0), X, y)
print(f"analytic kernel: {exact}")

# %%
figure, axes = plt.subplots(ncols=2, figsize=(8.4, 3.4))
for axis, title, values in zip(axes, ("gated units", "ReLU, one hidden layer"), (of_gated, of_relu), strict=True):
    bars = [2 * estimate.stderr for estimate in values]
    axis.errorbar(sizes, [estimate.value for estimate in values], bars, fmt="o", ms=4, capsize=2, label="± 2 s.e.")
    axis.set(xscale="log", xlabel="networks", title=title)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.minorticks_off()
axes[0].set(ylabel="log P (nats)")
axes[1].axhline(exact.value, color="grey", lw=0.8, label="analytic kernel")
axes[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# The error falls about as 1/√networks. The values of the ReLU network agree with that of the analytic
# kernel within two standard errors. (Larger numbers of networks include the smaller ones: the values are correlated.)
