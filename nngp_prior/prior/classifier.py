"""Classifier with scikit-learn's interface: the posterior of an infinitely wide network."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.kernels import kernel, kernel_diagonal
from nngp_prior.prior.class_posterior import ClassPosterior
from nngp_prior.prior.posterior import Posterior, smc_of
from nngp_prior.probability import require_memory
from nngp_prior.progress import ProgressOption, shown
from nngp_prior.schemas.results.class_predictive import ClassPredictive
from nngp_prior.schemas.results.posterior import Predictive
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.estimator import SMC

_ENTRIES = 2**24  # covariances of test with training inputs held in memory at a time


class NNGPClassifier(ClassifierMixin, BaseEstimator):
    """Bayesian prediction of an infinitely wide network: P(label | training labels) under its prior.

    Classes of any values. With two, an input has the second one (``classes_[1]``) if the network's output is positive;
    with C of three or more, that of the largest of C independent outputs (at (C - 1)³ times the cost).
    The likelihood is exact (each training input has its label) unless ``method`` has a ``noise_variance``.

    Args:
        architecture: specification of the network, or a user's own with a ``kernel_fn``; default: ``FullyConnected()``.
        method: ``"smc"``, or ``SMC(…)`` for its options; not ``classes`` and ``target_stderr``.
        seed: random seed.
        progress: True to show progress, or a callback, called with ``Progress`` events.

    Attributes:
        classes_: the classes, sorted.
        posterior_: posterior given the training labels; ``posterior_.log_p`` estimates their log P, nats.
        X_: (n, …) training inputs.
        n_features_in_: number of features, the second axis of X.
        feature_names_in_: names of the features, if X has names.
    """

    classes_: Shaped[np.ndarray, " classes"]
    posterior_: Posterior | ClassPosterior
    X_: Float[np.ndarray, "n ..."]
    n_features_in_: int

    def __init__(
        self,
        architecture: Architecture | FromNetwork | None = None,
        *,
        method: str | SMC = "smc",
        seed: SeedLike = 0,
        progress: ProgressOption = None,
    ) -> None:
        self.architecture = architecture
        self.method = method
        self.seed = seed
        self.progress = progress

    def fit(self, X: Any, y: Any) -> NNGPClassifier:
        """Compute the posterior given labels.

        Args:
            X: (n, …) inputs, as for :func:`nngp_prior.kernel`: images for networks on images.
            y: (n,) classes, at least two.

        Returns:
            self.

        Raises:
            InvalidInput: if X or a parameter is invalid.
            InvalidLabels: if there is one class, or the labels have probability 0, such as different labels of
                equal inputs without noise.
            ResourceLimit: if n is too large for the memory.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidLabels("y", "has 1 class", "Pass labels of two or more classes.")
        binary = len(self.classes_) == 2
        parameters = _parameters(self.method, None if binary else len(self.classes_))
        network = self._network
        self.X_ = check_inputs("X", X, network)
        require_memory(len(X), parameters, with_kernel=True)
        with shown(self.progress, "posterior") as report:
            K = kernel(network, self.X_, progress=report)
            if binary:
                self.posterior_ = Posterior(K, 2 * indices - 1, parameters, self.seed, report)
            else:
                self.posterior_ = ClassPosterior(K, indices, parameters, self.seed, report)
        return self

    def predictive(self, X: Any) -> Predictive | ClassPredictive:
        """Compute probabilities of the classes, with their standard errors.

        Args:
            X: (t, …) inputs of the training inputs' shape.

        Returns:
            P(``classes_[1]`` | training labels) per input, or P(class | training labels) per input and class if there
            are three or more; the standard errors are those of the computation.

        Raises:
            InvalidInput: if X is invalid.
        """
        check_is_fitted(self)
        X = check_inputs("X", validate_data(self, X, dtype=np.float64, allow_nd=True, reset=False), self._network)
        if X.shape[1:] != self.X_.shape[1:]:
            problem = f"has inputs of shape {X.shape[1:]}; the training inputs have {self.X_.shape[1:]}"
            raise InvalidInput("X", problem, "Pass inputs of the same shape.")
        size = max(1, _ENTRIES // len(self.X_))
        parts = [self._block(X[start : start + size]) for start in range(0, len(X), size)]
        names = [field.name for field in fields(parts[0]) if field.name != "freedom"]
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return type(parts[0])(**joined, freedom=parts[0].freedom)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "t classes"]:
        """Compute probabilities of all classes.

        Args:
            X: (t, …) inputs of the training inputs' shape.

        Returns:
            P(class | training labels), columns in the order of ``classes_``.

        Raises:
            InvalidInput: if X is invalid.
        """
        value = self.predictive(X).value
        return np.column_stack([1 - value, value]) if value.ndim == 1 else value

    def predict(self, X: Any) -> Shaped[np.ndarray, " t"]:
        """Predict the more probable class of each input; the first of equally probable ones.

        Args:
            X: (t, …) inputs of the training inputs' shape.

        Returns:
            the classes.

        Raises:
            InvalidInput: if X is invalid.
        """
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @property
    def _network(self) -> Architecture | FromNetwork:
        return FullyConnected() if self.architecture is None else self.architecture

    def _block(self, X: Float[np.ndarray, "t ..."]) -> Predictive | ClassPredictive:
        cross = kernel(self._network, X, self.X_)
        return self.posterior_.predictive_at(cross, kernel_diagonal(self._network, X))


def _parameters(method: str | SMC, classes: int | None) -> SMC:
    if isinstance(method, SMC):
        return smc_of(dict(method), classes)
    if method != "smc":
        raise InvalidInput("method", f"got {method!r}", "Pass 'smc', or SMC(…) for its options.")
    return SMC(classes=classes)
