"""Training with relative flatness as a penalty (FAM)."""

import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.layerwise import RelativeFlatness
from nngp_prior.schemas.specs.training import SGD, FlatnessPenalty, Training
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.training.train import train
from tests.sharpness.small import NETWORK, X, Y

HOW = Training(optimizer=SGD(learning_rate=0.1), batch_size=12, goal="none", dtype="float64")
STRENGTH = 0.3


def objective(arrays: list[np.ndarray]) -> float:
    """L + λ κ_Tr of the output layer: E[log(1 + e^(-yf))] + λ E[σ(f) σ(-f) ‖a‖²] ‖w‖²."""
    W, b, w, c = arrays
    a = np.maximum(X @ W + b, 0)
    f = (a @ w + c)[:, 0]
    curvature = 1 / (1 + np.exp(f)) / (1 + np.exp(-f))
    kappa = np.mean(curvature * np.sum(a**2, axis=1)) * np.sum(w**2)
    return float(np.mean(np.logaddexp(0, -Y * f)) + STRENGTH * kappa)


def numerical_gradient(arrays: list[np.ndarray]) -> list[np.ndarray]:
    found = [np.zeros_like(array) for array in arrays]
    for array, slopes in zip(arrays, found, strict=True):
        for place in np.ndindex(array.shape):
            before = array[place]
            ends = []
            for step in (1e-5, -1e-5):
                array[place] = before + step
                ends.append(objective(arrays))
            array[place] = before
            slopes[place] = (ends[0] - ends[1]) / 2e-5
    return found


def arrays_of(parameters) -> list[np.ndarray]:
    return [np.array(array) for layer in parameters for array in layer]


def kappa(trained, **options) -> float:
    asked = [RelativeFlatness(eigenvalues=False, **options)]
    return measure(NETWORK, trained.network(), X, Y, asked).measurements[0].value


def test_a_step_goes_down_the_loss_and_the_penalty() -> None:
    how = HOW.model_copy(update={"penalty": FlatnessPenalty(strength=STRENGTH), "epochs": 1})
    start = arrays_of(train(NETWORK, X, Y, how.model_copy(update={"epochs": 0})).network())
    found = arrays_of(train(NETWORK, X, Y, how).network())
    for before, after, slopes in zip(start, found, numerical_gradient(start), strict=True):
        assert after == pytest.approx(before - 0.1 * slopes, abs=1e-8)


def test_networks_are_flatter_with_it() -> None:
    def ended(penalty: FlatnessPenalty | None):
        return train(NETWORK, X, Y, HOW.model_copy(update={"penalty": penalty, "epochs": 150}), seeds=[2])

    plain, output, all_layers = (
        ended(penalty) for penalty in (None, FlatnessPenalty(), FlatnessPenalty(layer="each", strength=0.05))
    )
    assert output.statuses == ("epochs-spent",)
    assert kappa(output) < 0.7 * kappa(plain)
    assert kappa(all_layers, layer="dense 1") < 0.7 * kappa(plain, layer="dense 1")
    # What is written down is the loss alone.
    assert output.loss[0] == pytest.approx(
        measure(NETWORK, output.network(), X, Y, ["fisher-trace"]).training_loss, rel=1e-9
    )


def test_a_layer_that_is_not_there() -> None:
    how = HOW.model_copy(update={"penalty": FlatnessPenalty(layer="dense 7")})
    with pytest.raises(InvalidInput, match="dense 7"):
        train(NETWORK, X, Y, how)
    with pytest.raises(InvalidInput, match="strength"):
        FlatnessPenalty(strength=0)
