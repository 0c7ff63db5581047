"""Labels of the wrong kind: what a message proposes works where it is proposed."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nngp_prior import (
    FullyConnected,
    complexity,
    contributions,
    function_posterior,
    learning_curve,
    log_prior,
    log_prior_gradient,
    log_probabilities,
    log_probability,
    log_probability_gradient,
    phase_diagram,
    posterior,
    select_architecture,
)
from nngp_prior.errors import InvalidInput, InvalidLabels
from nngp_prior.probability import ep_start
from nngp_prior.schemas.specs.training import Training
from nngp_prior.sharpness import finite_network, measure, train
from tests.cases import equicorrelated

N = 6
K = equicorrelated(N, 0.5)
X = np.random.default_rng(0).standard_normal((N, 3))
NETWORK = FullyConnected(depth=1, width=2)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log_probability": lambda y, **options: log_probability(K, y, **options),
    "log_probability by laplace": lambda y, **o: log_probability(K, y, method="laplace", noise_variance=1.0, **o),
    "log_probability in closed form": lambda y, **options: log_probability(K, y, method="closed-form", **options),
    "log_probabilities": lambda y, **options: log_probabilities(K, [y], **options),
    "log_prior": lambda y, **options: log_prior(NETWORK, X, y, **options),
    "learning_curve": lambda y, **options: learning_curve(K, y, [3, N], **options),
    "posterior": lambda y, **options: posterior(K, y, **options),
    "function_posterior": lambda y, **options: function_posterior(NETWORK, X, y, X, **options),
    "contributions": lambda y, **options: contributions(K, y, **options),
    "log_probability_gradient": lambda y, **options: log_probability_gradient(K, y, K, **options),
    "log_prior_gradient": lambda y, **options: log_prior_gradient(NETWORK, X, y, **options),
    "select_architecture": lambda y, **options: select_architecture(NETWORK, X, y, **options),
    "phase_diagram": lambda y: phase_diagram(NETWORK, X, y, weight_std=[1.0], bias_std=[1.0]),
    "ep_start": lambda y, **options: ep_start(K, y, **options),
    "complexity": lambda y: complexity("lempel-ziv", y),
    "train": lambda y, **options: train(NETWORK, X, y, Training(epochs=1), **options),
    "measure": lambda y, **options: measure(
        NETWORK, finite_network(NETWORK, (3,), **options).init(0), X, y, ["fisher-trace"], **options
    ),
}
WITH_CLASSES = {
    "log_probability",
    "log_probabilities",
    "log_prior",
    "learning_curve",
    "posterior",
    "function_posterior",
    "train",
    "measure",
}


@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 1, 0], [2, 0, 1, 7, 1, 0]], ids=["two classes", "eight classes"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_message_proposes_what_is_refused_next(name: str, labels: list[int]) -> None:
    with pytest.raises(InvalidLabels) as caught:
        FUNCTIONS[name](np.array(labels))
    proposed = re.findall(r"classes=(?:C, at least )?(\d+)", str(caught.value))
    assert bool(proposed) == (name in WITH_CLASSES)
    if proposed:
        FUNCTIONS[name](np.array(labels), classes=int(proposed[0]))
    elif max(labels) > 1:  # "for one class against the rest, pass y == 2"
        class_ = int(re.findall(r"pass (?:y|Y\[0\]) == (\d)", str(caught.value))[0])
        if "closed" not in name:  # which has no form for n = 6
            FUNCTIONS[name](np.array(labels) == class_)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_masked_labels_are_refused_everywhere(name: str) -> None:
    masked = np.ma.array([1, -1, 1, 1, -1, 1], mask=[0, 0, 1, 0, 0, 0])
    with pytest.raises(InvalidLabels, match="masked"):
        FUNCTIONS[name](masked)


@pytest.mark.parametrize("name", ["contributions", "log_prior_gradient", "select_architecture"])
def test_classes_are_refused_where_labels_have_signs(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"classes: got 3 where labels are -1 and \+1"):
        FUNCTIONS[name](np.array([0, 1, 2, 0, 1, 2]), classes=3)
