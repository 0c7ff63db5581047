import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.numerics.random import generator
from nngp_prior.schemas.measures.neighbourhoods import Keskar
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.measures.keskar import box_of
from nngp_prior.sharpness.rescaling import rescale, rescale_nodes
from tests.sharpness.cases import RELU, of_matrix, trained
from tests.sharpness.quadratics import LINEAR, highest_in_box, linear, quadratic

WIDE = 0.7  # ε of a box in which the quadratic term counts


def one(risk, seed: int = 0, **options):
    (found,) = measure_risk(risk, [Keskar(**options)], seed).measurements
    return found


def sharpness(highest: float, here: float) -> float:
    return 100 * (highest - here) / (1 + here)


def widths(risk, epsilon: float) -> np.ndarray:
    return epsilon * (np.abs(np.asarray(risk.theta)) + 1)


@pytest.mark.parametrize("epsilon", [1e-3, 0.05, WIDE])
def test_sign_pgd_finds_the_highest_corner_of_the_box(epsilon: float) -> None:
    risk = linear()
    function = quadratic(risk)
    expected = sharpness(highest_in_box(function, widths(risk, epsilon)), function.L)
    found = one(risk, mode="sign-pgd", epsilon=epsilon, starts=8)
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.stderr is None
    assert found.diagnostics["at_edge"] == 1
    assert found.gradients == 1 + 8 * 31


def test_lbfgsb_finds_it_where_the_loss_is_steep_on_the_scale_of_the_box() -> None:
    risk = linear()
    function = quadratic(risk)
    for epsilon in (1e-3, 5e-4):
        found = one(risk, epsilon=epsilon)
        expected = sharpness(highest_in_box(function, widths(risk, epsilon)), function.L)
        assert found.value == pytest.approx(expected, rel=1e-9)
        assert found.diagnostics["at_edge"] == 1
    assert one(risk).value == one(risk, epsilon=1e-3).value
    wide = one(risk, epsilon=WIDE).value
    assert 0 < wide <= sharpness(highest_in_box(function, widths(risk, WIDE)), function.L) * (1 + 1e-12)


def test_a_subspace_has_its_own_box() -> None:
    risk = linear()
    box = box_of(risk, Keskar(subspace=3, epsilon=WIDE), 4, 0)
    A = np.asarray(box.A)
    np.testing.assert_allclose(np.linalg.norm(A, axis=0), 1)
    np.testing.assert_allclose(box.widths, WIDE * (np.abs(np.linalg.pinv(A) @ np.asarray(risk.theta)) + 1))
    assert not np.allclose(A, box_of(risk, Keskar(subspace=3), 4, 1).A)


def test_in_subspaces_it_is_the_mean_over_their_maxima() -> None:
    risk = linear()
    function = quadratic(risk)
    options = {"mode": "sign-pgd", "subspace": 3, "epsilon": WIDE, "repeats": 4, "starts": 16}
    found = one(risk, seed=2, **options)
    own = int(generator(2, "keskar").integers(2**63))
    boxes = [box_of(risk, Keskar(**options), own, i) for i in range(4)]
    highest = [highest_in_box(function, np.asarray(box.widths), np.asarray(box.A)) for box in boxes]
    values = [sharpness(high, function.L) for high in highest]
    assert found.value == pytest.approx(np.mean(values), rel=1e-9)
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / 2, rel=1e-9)
    assert found.diagnostics["largest_loss"] == pytest.approx(max(highest), rel=1e-9)


def test_standard_errors_over_subspaces_are_calibrated() -> None:
    risk = linear()
    figures = [one(risk, seed, subspace=2, repeats=8, epsilon=0.1) for seed in range(20)]
    values, errors = np.array([(each.value, each.stderr) for each in figures]).T
    standardised = (values - values.mean()) / errors
    # Student's t with 7 degrees of freedom has a standard deviation of √(7/5).
    assert np.sqrt(np.mean(standardised**2)) == pytest.approx(np.sqrt(7 / 5), rel=0.4)


@pytest.mark.parametrize("batch", [8, 3])
def test_zhang2021_takes_clipped_steps_on_minibatches(batch: int) -> None:
    risk = linear()
    found = one(risk, 3, mode="zhang2021", batch=batch, iterations=4, epsilon=0.02, learning_rate=0.01, repeats=2)
    own, box = int(generator(3, "keskar").integers(2**63)), widths(risk, 0.02)
    values = []
    for repeat in range(2):
        z, losses = np.zeros(7), [quadratic(risk).L]
        for epoch in range(4):
            order = generator(own, "minibatches", repeat, epoch).permutation(8)
            for i in range(8 // batch):
                summed = batch * quadratic(risk, order[i * batch : (i + 1) * batch]).slope(z)
                z = np.clip(z + 0.01 * summed, -box, box)
            losses.append(quadratic(risk)(z))
        values.append(sharpness(max(losses), losses[0]))
    assert found.value == pytest.approx(np.mean(values), rel=1e-9)
    assert 0 < found.diagnostics["at_edge"] < 1
    assert found.gradients == pytest.approx(1 + 2 * (4 * (8 // batch) * batch / 8 + 5 / 3))


def test_zhang2021_has_its_own_box() -> None:
    risk = linear()
    explicit = one(risk, mode="zhang2021", epsilon=1e-4, iterations=100, batch=8, repeats=1)
    assert one(risk, mode="zhang2021", batch=8, repeats=1).value == explicit.value > 0


def test_progress_ends() -> None:
    for options in ({"subspace": 2}, {"mode": "zhang2021", "batch": 4, "iterations": 3}, {"mode": "sign-pgd"}):
        events = []
        measure_risk(linear(), [Keskar(repeats=2, **options)], 0, events.append)
        own = [event for event in events if event.stage != "measures"]
        assert [event.done for event in own] == list(range(1, own[-1].total + 1))


def test_where_the_gradient_is_zero_only_random_starts_help() -> None:
    saddle = of_matrix(np.diag([1.0, -2.0]))
    for mode in ("keskar", "zhang2021"):
        found = one(saddle, mode=mode, batch=5, iterations=3)
        assert (found.value, found.status) == (0, "zero-gradient")
        assert "sign-pgd" in found.message
    corner = one(saddle, mode="sign-pgd", epsilon=0.5)
    assert corner.status == "ok"
    assert corner.value > 0
    flat = one(of_matrix(np.zeros((2, 2))), mode="sign-pgd")
    assert (flat.value, flat.status) == (0, "zero-gradient")


def test_rescaling_moves_it_about_as_much_as_in_the_literature() -> None:
    """2.6 at α = 5.9 and 1.2 for the units of one layer, within a factor of 2."""
    risk = trained(4)
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    layer, nodes = rescale(RELU, parameters), rescale_nodes(RELU, parameters, layer=0)
    before = one(risk).value
    for moved, ratio in ((layer, 2.6), (nodes, 1.2)):
        after = one(risk.at(risk.network.flatten(moved))).value
        assert ratio / 2 < after / before < 2 * ratio


@pytest.mark.parametrize("mode", ["keskar", "zhang2021", "sign-pgd"])
def test_in_float32(mode: str) -> None:
    options = {"mode": mode, "batch": 4, "iterations": 5, "epsilon": 0.01}
    assert one(linear(dtype="float32"), **options).value == pytest.approx(one(linear(), **options).value, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "zhang2021", "batch": 9}, "batch: got 9 where there are 8 examples"),
        ({"mode": "zhang2021"}, "batch: got 32 where there are 8 examples"),
        ({"subspace": 8}, "subspace: has 8 dimensions where there are 7 parameters"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    risk = linear()
    parameters = risk.network.unflatten(np.asarray(risk.theta))
    with pytest.raises(InvalidInput, match=f"^{message}"):
        measure(LINEAR, parameters, risk.X, risk.y, [Keskar(**options)], loss="mse")


def test_minibatches_have_no_subspace() -> None:
    with pytest.raises(InvalidInput, match="subspace is not of the mode zhang2021"):
        Keskar(mode="zhang2021", subspace=2)


@pytest.mark.parametrize("mode", ["keskar", "zhang2021", "sign-pgd"])
def test_a_loss_that_is_not_finite_in_the_box_is_a_status(mode: str) -> None:
    risk = linear(dtype="float32")
    large = risk.at(3e18 * np.asarray(risk.theta))
    found = one(large, mode=mode, epsilon=1, batch=4, iterations=5, learning_rate=1)
    assert np.isfinite(found.diagnostics["loss"])
    assert found.status == "not-finite"
