# %% [markdown]
# # A first log P of your own data
#
# log P(y) is the logarithm of the probability that a random neural network of infinite width gives the labels y to
# the inputs X. This notebook computes it for 500 handwritten digits, with its error, by the library and by a service.
# For your own data replace `X` (one input per row) and `y` (-1 and +1) below.

# %%
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits

from nngp_prior import FullyConnected, kernel, log_probabilities, log_probability, style

style.use()
images, digits = load_digits(return_X_y=True)
chosen = np.random.default_rng(0).permutation(len(images))[:500]
X = images[chosen] / 16  # pixels from 0 to 1
y = np.where(digits[chosen] >= 5, 1, -1)

# %% [markdown]
# ## One labelling
#
# The architecture determines the kernel K, the covariance of the outputs of random networks at all pairs of inputs.
# log P follows from K and y alone. It is estimated by sequential Monte Carlo and has a standard error, in nats.

# %%
network = FullyConnected(depth=2)
K = kernel(network, X)
estimate = log_probability(K, y)
print(estimate)
print(f"status: {estimate.status}")

# %% [markdown]
# The interval follows from the spread of 32 independent replicates. The lower bound holds with the stated probability
# whatever the distribution of the estimator; PAC-Bayes bounds are computed from it.

# %%
low, high = estimate.interval(0.95)
print(f"95 % interval: {low:.2f} … {high:.2f} nats")
print(f"lower bound, with probability 0.99: {estimate.lower_bound(delta=0.01):.2f} nats")
print(f"500 coin tosses: {500 * np.log(0.5):.2f} nats")

# %% [markdown]
# The labelling "at least 5" is far more probable than 500 given coin tosses.
#
# ## Several labellings
#
# `log_probabilities` shares the work on K between labellings. Here a growing fraction of the labels is redrawn by coin
# tosses.

# %%
rng = np.random.default_rng(1)
fractions = np.linspace(0, 1, 11)
coins, order = rng.choice([-1, 1], size=len(y)), rng.permutation(len(y))
noisy = np.stack([np.where(order < fraction * len(y), coins, y) for fraction in fractions])
estimates = log_probabilities(K, noisy)

figure, axis = plt.subplots(figsize=(5, 3.2))
values, errors = [found.value for found in estimates], [2 * found.stderr for found in estimates]
axis.errorbar(fractions, values, errors, fmt="o-", ms=4, capsize=2, label="log P(y) ± 2 s.e.")
axis.axhline(len(y) * np.log(0.5), color="grey", lw=0.8, ls=":", label="500 coin tosses")
axis.set(xlabel="fraction of labels redrawn at random", ylabel="log P(y) (nats)", title="500 digits, depth 2")
axis.legend()
plt.show()

# %% [markdown]
# Random labels cost probability: the prior prefers labellings that follow the structure of the inputs. The standard
# errors are smaller than the symbols. Labels that are all random are *less* probable than coin tosses: the
# probability that structured labellings have is missing here.

# %%
print(f"as given:   {estimates[0]}")
print(f"all random: {estimates[-1]}")

# %% [markdown]
# ## The same on a service
#
# `nngp-prior serve` runs a service that computes for several users and keeps its jobs on disk. Usually it is
# running already, and `Client()` finds it. This notebook starts one of its own, on a free port and with a temporary
# store, and stops it at the end.

# %%
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from nngp_prior import Client

store = tempfile.TemporaryDirectory()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
url, token = f"http://127.0.0.1:{port}", secrets.token_urlsafe()
service = subprocess.Popen(
    [Path(sys.executable).with_name("nngp-prior"), "serve", "--port", str(port), "--slots", "1"],
    env=os.environ | {"NNGP_HOME": store.name, "NNGP_TOKEN": token},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
while service.poll() is None:
    try:
        urlopen(f"{url}/readyz")
        break
    except URLError:
        time.sleep(0.2)
print("ready" if service.poll() is None else f"ended with status {service.returncode}")

# %% [markdown]
# The client uploads X and the labellings once and waits for the results.

# %%
with Client(url, token) as client:
    results = client.estimate(network, X, noisy).result()
print(results[0].estimate)
print("equal to the library's values:", results.values.tolist() == values)

# %% [markdown]
# The service computes the same numbers: the random numbers of a labelling depend on the seed and the labels alone.

# %%
service.terminate()
service.wait()
store.cleanup()
