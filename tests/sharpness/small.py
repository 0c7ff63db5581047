"""Small problems of training."""

import numpy as np

from nngp_prior import FullyConnected
from nngp_prior.schemas.specs.training import SGD, Training

NETWORK = FullyConnected(depth=1, width=8, bias_std=0.5)
_rng = np.random.default_rng(3)
X = _rng.standard_normal((12, 3))
Y = np.where(X[:, 0] + 0.3 * X[:, 1] ** 2 > 0.2, 1, -1)
ATTACK = (_rng.standard_normal((5, 3)), np.array([1, -1, 1, 1, -1]))
TEST = {"X_test": _rng.standard_normal((6, 3)), "y_test": np.array([1, -1, 1, 1, -1, 1])}
QUICK = Training(optimizer=SGD(learning_rate=0.3), batch_size=5, epochs=60)
