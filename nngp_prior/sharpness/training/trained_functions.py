"""Data of trained networks, generated again from their source, and log P of the functions of the networks."""

from __future__ import annotations

from typing import Unpack

import numpy as np
from jaxtyping import Float, Int8
from numpy.typing import ArrayLike

from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.data.splits import Sets, training_data
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import kernel
from nngp_prior.numerics.hashing import digest
from nngp_prior.probability import compute, estimator_of, prepare, require_memory
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions
from nngp_prior.schemas.specs.labels import check_labels, check_labels_for
from nngp_prior.sharpness.training.trained import Trained


def training_sets_of(trained: Trained) -> Sets:
    """Generate the training, attack and test set of networks from the source stored in their file.

    Args:
        trained: the networks.

    Returns:
        the sets.

    Raises:
        InvalidInput: if the source is not stored, or the data have changed since.
        DataUnavailable: if a data file is missing or damaged.
    """
    source = trained.about.get("source") or {}
    if not ({"dataset", "inputs_file"} & set(source)):
        problem = "the networks do not say what data they were trained on"
        raise InvalidInput("trained", problem, "Pass the data, as X, y and, if there is a test set, X_test.")
    sets = training_data(TrainingData(**source), trained.classes)
    X, y = (np.concatenate(parts) for parts in zip(*filter(None, (sets.train, sets.attack)), strict=True))
    if digest(check_inputs("X", X, trained.architecture), y.astype(np.float64)) != trained.about["examples"]:
        problem = "the data are not those that the networks were trained on: a file has changed"
        raise InvalidInput("trained", problem, "Restore it, or pass the data.")
    return sets


def functions_of(
    trained: Trained, X: ArrayLike | None = None, y: ArrayLike | None = None, X_test: ArrayLike | None = None
) -> tuple[Float[np.ndarray, "inputs ..."], Int8[np.ndarray, "networks inputs"]]:
    """Return the functions of networks, as labellings of the training inputs and the test inputs.

    Args:
        trained: the networks.
        X: (n, …) training inputs, without the attack set. Default: generated from the source in ``trained``.
        y: (n,) training labels; required with ``X``.
        X_test: (t, …) test inputs. Default: those of ``trained`` if ``X`` is also absent, else none.

    Returns:
        inputs, training inputs first; and the signs of each network's outputs, one row per network: on the training
        inputs these are the training labels if the training error is 0.

    Raises:
        InvalidInput: if the networks have C outputs, the data are unknown or do not fit, or an output is exactly 0,
            which has no sign.
    """
    if trained.classes is not None:
        problem = f"has networks with {trained.classes} outputs, and a function is the signs of one"
        remedy = "Pass trained.outputs(X).argmax(axis=-1) to log_probabilities with classes=C."
        raise InvalidInput("trained", problem, remedy)
    if (X is None) != (y is None):
        given, missing = ("y", "X") if X is None else ("X", "y")
        raise InvalidInput(missing, f"is missing beside {given}", "Pass both, or neither.")
    if X is None or y is None:
        sets = training_sets_of(trained)
        X, y = sets.train
        X_test = sets.test[0] if X_test is None and sets.test is not None else X_test
    inputs = check_inputs("X", X, trained.architecture)
    labels = check_labels(y, len(inputs))
    if X_test is not None:
        inputs = np.concatenate([inputs, check_inputs("X_test", X_test, trained.architecture)])
    signs = np.sign(trained.outputs(inputs)).astype(np.int8)
    # Training counted zero errors on these inputs; rounding with other chunks could change the sign of outputs near 0.
    signs[trained.error == 0, : len(labels)] = labels
    if not signs.all():
        network, i = np.argwhere(signs == 0)[0]
        problem = f"network {trained.seeds[network]} has the output 0 at input {i}, which has no sign"
        raise InvalidInput("trained", problem, "Leave the input out, or the network.")
    return inputs, signs


def function_probability(
    trained: Trained,
    i: int = 0,
    *,
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    X_test: ArrayLike | None = None,
    method: str | Estimator = "smc",
    seed: SeedLike = 0,
    progress: ProgressCallback | None = None,
    **options: Unpack[EstimatorOptions],
) -> Estimate:
    """Estimate log P of the function of a trained network, under the prior of its architecture at infinite width.

    The function is defined as by :func:`functions_of`: the training labels, and the signs of the network's outputs at
    the test inputs. For many networks compute the kernel once: with ``X, Y = functions_of(trained)``,
    ``log_probabilities(kernel(trained.architecture, X), Y)``.

    Args:
        trained: networks, as ``train`` returns them.
        i: index of the network.
        X: training inputs, as for :func:`functions_of`; required if ``train`` was called without ``source``.
        y: training labels, as for :func:`functions_of`.
        X_test: test inputs, as for :func:`functions_of`.
        method: as for :func:`nngp_prior.log_probability`.
        seed: as for :func:`nngp_prior.log_probability`.
        progress: called with ``Progress`` events.
        **options: as for :func:`nngp_prior.log_probability`.

    Returns:
        the estimate.

    Raises:
        InvalidInput: if there is no such network, its data are unknown or have changed, or an option is invalid.
    """
    estimator = estimator_of(method, **options)
    trained.network(i)
    inputs, Y = functions_of(trained, X, y, X_test)
    check_labels_for(estimator, Y[i], len(inputs))
    require_memory(len(inputs), estimator, with_kernel=True)
    K = kernel(trained.architecture, inputs, progress=progress)
    return compute(prepare(K, estimator), Y[i], estimator, seed, progress)
