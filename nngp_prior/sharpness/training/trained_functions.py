"""Data of trained networks, generated again from their source, and log P of the functions of the networks."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from jaxtyping import Float, Int8

from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.data.splits import Examples, Sets, training_data
from nngp_prior.errors import InvalidInput
from nngp_prior.kernels import kernel
from nngp_prior.probability import compute, estimator_of, prepare, require_memory
from nngp_prior.progress import ProgressCallback
from nngp_prior.schemas.results.estimate import Estimate
from nngp_prior.schemas.specs.data import TrainingData
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions
from nngp_prior.schemas.specs.labels import check_labels, check_labels_for
from nngp_prior.sharpness.training.train import digest
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
        raise InvalidInput("trained", problem, "Pass the data: to measure, or as data=(X, y) and test=X.")
    sets = training_data(TrainingData(**source))
    X, y = (np.concatenate(parts) for parts in zip(*filter(None, (sets.train, sets.attack)), strict=True))
    if digest(check_inputs("X", X, trained.architecture), y.astype(np.float64)) != trained.about["examples"]:
        problem = "the data are not those that the networks were trained on: a file has changed"
        raise InvalidInput("trained", problem, "Restore it, or pass the data.")
    return sets


def functions_of(
    trained: Trained, data: Examples | None = None, test: Any = None
) -> tuple[Float[np.ndarray, "inputs ..."], Int8[np.ndarray, "networks inputs"]]:
    """Return the functions of networks, as labellings of the training inputs and the test inputs.

    Args:
        trained: the networks.
        data: training set, inputs and labels, without the attack set. Default: generated from the source in
            ``trained``.
        test: inputs of the test set. Default: those of ``trained`` if ``data`` is also absent, else none.

    Returns:
        inputs, training inputs first; and the signs of each network's outputs, one row per network: on the training
        inputs these are the training labels if the training error is 0.

    Raises:
        InvalidInput: if the data are unknown or do not fit, or an output is exactly 0, which has no sign.
    """
    if data is None:
        sets = training_sets_of(trained)
        data, given = sets.train, None if sets.test is None else sets.test[0]
        test = given if test is None else test
    X = check_inputs("X", data[0], trained.architecture)
    y = check_labels(data[1], len(X), field="y")
    inputs = X if test is None else np.concatenate([X, check_inputs("test", test, trained.architecture)])
    signs = np.sign(trained.outputs(inputs)).astype(np.int8)
    # Training counted zero errors on these inputs; rounding with other chunks could change the sign of outputs near 0.
    signs[trained.error == 0, : len(y)] = y
    if not signs.all():
        network, i = np.argwhere(signs == 0)[0]
        problem = f"network {trained.seeds[network]} has the output 0 at input {i}, which has no sign"
        raise InvalidInput("trained", problem, "Leave the input out, or the network.")
    return inputs, signs


def function_probability(
    trained: Trained,
    i: int = 0,
    *,
    data: Examples | None = None,
    test: Any = None,
    method: str | Estimator = "smc",
    seed: int = 0,
    progress: ProgressCallback | None = None,
    **options: Unpack[EstimatorOptions],
) -> Estimate:
    """Estimate log P of the function of a trained network, under the prior of its architecture at infinite width.

    The function is defined as by :func:`functions_of`: the training labels, and the signs of the network's outputs at
    the
    test inputs. For many networks compute the kernel once: with ``X, labels = functions_of(trained)``,
    ``log_probabilities(kernel(trained.architecture, X), labels)``.

    Args:
        trained: networks, as ``train`` returns them.
        i: index of the network.
        data: training inputs and labels, as for :func:`functions_of`; required if ``train`` was called without
            ``source``.
        test: test inputs, as for :func:`functions_of`.
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
    X, labels = functions_of(trained, data, test)
    check_labels_for(estimator, labels[i], len(X))
    require_memory(len(X), estimator, with_kernel=True)
    K = kernel(trained.architecture, X, progress=progress)
    return compute(prepare(K, estimator), labels[i], estimator, seed, progress)
