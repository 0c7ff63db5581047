"""Classifier with scikit-learn's interface: the posterior of an infinitely wide network."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from nngp_prior.architectures import FromNetwork
from nngp_prior.architectures.inputs import check_inputs
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.kernels import kernel, kernel_diagonal
from nngp_prior.prior.posterior import Posterior, smc_of
from nngp_prior.probability import require_memory
from nngp_prior.progress import ProgressOption, shown
from nngp_prior.schemas.results.posterior import Predictive
from nngp_prior.schemas.seeds import SeedLike
from nngp_prior.schemas.specs.architecture import Architecture, FullyConnected
from nngp_prior.schemas.specs.estimator import SMC

_ENTRIES = 2**24  # covariances of test with training inputs held in memory at a time


class NNGPClassifier(ClassifierMixin, BaseEstimator):
    """Bayesian prediction of an infinitely wide network: P(label | training labels) under its prior.

    Two classes, of any two values. An input has the second class (``classes_[1]``) if the network's output is positive.
    The likelihood is exact (each training input has its label) unless ``method`` has a ``noise_variance``.

    Args:
        architecture: specification of the network, or a user's own with a ``kernel_fn``; default: ``FullyConnected()``.
        method: ``"smc"``, or ``SMC(…)`` for its options; not ``classes`` and ``target_stderr``.
        seed: random seed.
        progress: True to show progress, or a callback, called with ``Progress`` events.

    Attributes:
        classes_: the two classes, sorted.
        posterior_: posterior given the training labels; ``posterior_.log_p`` estimates their log P, nats.
        X_: (n, …) training inputs.
        n_features_in_: number of features, the second axis of X.
        feature_names_in_: names of the features, if X has names.
    """

    classes_: Shaped[np.ndarray, " 2"]
    posterior_: Posterior
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
            y: (n,) labels of two classes.

        Returns:
            self.

        Raises:
            InvalidInput: if X or a parameter is invalid.
            InvalidLabels: if there are not two classes, or the labels have probability 0, such as different labels of
                equal inputs without noise.
            ResourceLimit: if n is too large for the memory.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True)
        check_classification_targets(y)
        self.classes_, indices = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidLabels("y", "has 1 class", "Pass labels of two classes.")
        if len(self.classes_) > 2:
            problem = f"has {len(self.classes_)} classes. Only binary classification is supported"
            remedy = "Wrap the classifier: sklearn.multiclass.OneVsRestClassifier(NNGPClassifier(…))."
            raise InvalidLabels("y", problem, remedy)
        parameters, network = _parameters(self.method), self._network
        self.X_ = check_inputs("X", X, network)
        require_memory(len(X), parameters, with_kernel=True)
        with shown(self.progress, "posterior") as report:
            K = kernel(network, self.X_, progress=report)
            self.posterior_ = Posterior(K, 2 * indices - 1, parameters, self.seed, report)
        return self

    def predictive(self, X: Any) -> Predictive:
        """Compute probabilities of the second class, with their standard errors.

        Args:
            X: (t, …) inputs of the training inputs' shape.

        Returns:
            P(``classes_[1]`` | training labels) per input; the standard errors are those of the computation.

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
        value, stderr = (np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "stderr"))
        return Predictive(value, stderr, parts[0].freedom)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "t 2"]:
        """Compute probabilities of both classes.

        Args:
            X: (t, …) inputs of the training inputs' shape.

        Returns:
            P(class | training labels), columns in the order of ``classes_``.

        Raises:
            InvalidInput: if X is invalid.
        """
        second = self.predictive(X).value
        return np.column_stack([1 - second, second])

    def predict(self, X: Any) -> Shaped[np.ndarray, " t"]:
        """Predict the more probable class of each input; the first if both are equally probable.

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

    def _block(self, X: Float[np.ndarray, "t ..."]) -> Predictive:
        cross = kernel(self._network, X, self.X_)
        return self.posterior_.predictive_at(cross, kernel_diagonal(self._network, X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.classifier_tags is not None
        tags.classifier_tags.multi_class = False
        return tags


def _parameters(method: str | SMC) -> SMC:
    if isinstance(method, SMC):
        return smc_of(dict(method))
    if method != "smc":
        raise InvalidInput("method", f"got {method!r}", "Pass 'smc', or SMC(…) for its options.")
    return SMC()
