"""What cannot be used is refused, by name, with a remedy, before any work."""

import re
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest

import nngp_prior.probability.factored_kernel
from nngp_prior import EP, SMC, estimate_cost, log_probabilities, log_probability
from nngp_prior.errors import InvalidInput, InvalidKernel, InvalidLabels, ResourceLimit
from nngp_prior.probability import ep_start
from nngp_prior.schemas.specs.estimator import Estimator, EstimatorOptions
from tests.cases import equicorrelated

_GOOD = equicorrelated(3, 0.5)


def _with(i: int, j: int, value: float) -> np.ndarray:
    K = _GOOD.copy()
    K[i, j] = value
    return K


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (np.ones((2, 3)), r"K: has shape \(2, 3\)\. Pass a square matrix"),
        (np.ones(3), r"K: has shape \(3,\)"),
        (np.ones((0, 0)), r"K: has shape \(0, 0\)"),
        ([["a"]], "K: is not a matrix of real numbers"),
        (np.eye(3).astype(str), "K: is not a matrix of real numbers .it holds text"),
        (np.eye(3).astype("datetime64[s]"), "it holds dates"),
        (np.eye(3).astype("timedelta64[s]"), "it holds time differences"),
        (np.eye(3).astype(str).astype(object), "it holds '1.0'"),
        (np.ma.array(_GOOD, mask=np.eye(3)), "some of its values are masked"),
        ([np.ma.array(row, mask=[1, 0, 0]) for row in _GOOD], "some of its values are masked"),
        (_with(1, 2, np.nan), r"K\[1, 2\] is nan"),
        (_with(2, 0, -np.inf), r"K\[2, 0\] is -inf"),
        (_with(0, 2, 0.4), r"not symmetric: K\[0, 2\] = 0.4 but K\[2, 0\] = 0.5"),
        (_with(1, 1, 0.0), "the variance K.* of input 1 is 0, so that its label is undefined. Leave the input out"),
        (_with(1, 1, -1.0), "of input 1 is -1"),
        (_with(0, 0, 0.1), "inputs 0 and 1 have correlation 1.58"),
        (equicorrelated(3, -0.6), r"not positive semi-definite.*Check how it was computed\.$"),
        (_GOOD * 1e-320, "the variance .* of input 0 is 9.99.*e-321"),
    ],
)
def test_kernels(K: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidKernel, match=message):
        log_probability(K, [1, 1, 1])


def test_the_jitter_proposed_is_enough() -> None:
    """A smooth kernel that rounding to float32 made indefinite."""
    x = np.linspace(0, 1, 300)
    rounded = np.exp(-0.5 * (x[:, None] - x) ** 2 / 0.3**2).astype(np.float32).astype(np.float64)
    labels = np.where(x > 0.4, 1, -1)
    with pytest.raises(InvalidKernel, match="jitter") as caught:
        log_probability(rounded, labels)
    jitter = float(re.findall(r"jitter=([\d.e+-]*\d)", str(caught.value))[0])
    assert log_probability(rounded, labels, jitter=jitter).status == "ok"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1], r"got labels 0 and 1 \(y\[0\] is 0\)\. Pass 2 \* y - 1, booleans, or classes=2"),
        ([1, 2, -1], r"\[1\] is 2"),
        ([1.0, np.nan, 1.0], r"\[1\] is nan"),
        ([1, -1], r"got shape \(2,\) where there are 3 inputs"),
        ([[1, 1, -1]], r"got shape \(1, 3\) where there are 3 inputs\. Pass y\.ravel"),
        ([0, 7, 9], r"\[0\] is 0\. .* pass y == 0\. .* classes=C, at least 10"),
        (["1", "1", "1"], "got type <U1"),
        (np.ma.array([1, 1, -1], mask=[0, 1, 0]), "masked"),
    ],
)
def test_labels(labels: list, message: str) -> None:
    with pytest.raises(InvalidLabels, match=message):
        log_probability(_GOOD, labels)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0, 1, 3], 3, r"\[2\] is 3\. With classes=3, labels are integers 0 … 2"),
        ([0, -1, 1], 3, r"\[1\] is -1"),
        ([0, 0.5, 1], 3, r"\[1\] is 0.5"),
        ([0, np.nan, 1], 2, r"\[1\] is nan"),
        ([True, False, True], 2, "got booleans. With classes=2, .*booleans need no classes"),
        ([0, 1], 3, r"got shape \(2,\)"),
        ([1, 2, 3], 3, r"\[2\] is 3\. .*: pass .* - 1\."),
        ([1, -1, 1], 3, r"\[1\] is -1\. .* -1 and \+1 need no classes"),
    ],
)
def test_labels_that_are_classes(labels: list, classes: int, message: str) -> None:
    with pytest.raises(InvalidLabels, match=message):
        log_probability(_GOOD, labels, classes=classes)
    with pytest.raises(InvalidLabels, match=message):
        log_probabilities(_GOOD, [[0, 1, 1], labels], classes=classes)


def test_booleans_and_floats_are_labels() -> None:
    values = {log_probability(_GOOD, y).value for y in ([1, -1, 1], [1.0, -1.0, 1.0], [True, False, True])}
    assert len(values) == 1


def test_a_bad_labelling_stops_a_batch_before_it_begins() -> None:
    with pytest.raises(InvalidLabels, match=r"^Y\[1\]: Y\[1\]\[2\] is 3"):
        log_probabilities(_GOOD, np.array([[1, 1, 1], [1, 1, 3]]), as_completed=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "magic"},
            "method: got 'magic'. Choose one of bernstein-yue, closed-form, ep, ep2, ghk, laplace, minimax-tilting, "
            "sampling, smc",
        ),
        ({"particles": 0}, "particles: got 0"),
        ({"replicates": 1}, "replicates: got 1"),
        ({"sweeps": 3}, "sweeps: SMC has no such field .*It has: .*max_sweeps"),
        ({"method": "ep", "particles": 10}, "particles: EP has no such field"),
        ({"partcles": 10}, "partcles: SMC has no such field .*Did you mean particles[?] It has"),
        ({"method": "bernstein"}, "method: got 'bernstein'. Did you mean 'bernstein-yue'"),
        ({"method": SMC(), "particles": 64}, "particles: are given beside a specification. Put them into SMC"),
        ({"noise_variance": -1}, "noise_variance: got -1"),
        ({"jitter": float("nan")}, "jitter: got nan"),
        ({"classes": 1}, "classes: got 1"),
        ({"classes": 2.5}, "classes: got 2.5"),
        ({"classes": 3, "method": "laplace", "noise_variance": 1}, "classes: got 3 where laplace takes labels -1"),
        ({"shares": (1.0, 1.0, 0.0)}, "shares must not be negative and must sum to 1"),
    ],
)
def test_options(options: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        log_probability(_GOOD, [1, 1, 1], **options)


def test_too_large_is_refused_with_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    free = estimate_cost(1000).bytes
    monkeypatch.setattr(nngp_prior.probability.cost.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    log_probability(equicorrelated(1000, 0.5), np.ones(1000, dtype=int), method="ep")
    with pytest.raises(ResourceLimit, match=r"smc on n = 1,001 inputs needs .* Use at most 1,000 inputs"):
        log_probability(equicorrelated(1001, 0.5), np.ones(1001, dtype=int))


def test_classes_cost_what_as_many_constraints_do(monkeypatch: pytest.MonkeyPatch) -> None:
    ten, two = estimate_cost(1000, classes=10, particles=32), estimate_cost(9000)
    assert two.bytes < ten.bytes < 1.02 * two.bytes
    assert ten.seconds == two.seconds
    assert estimate_cost(1000, classes=2) == estimate_cost(1000)
    monkeypatch.setattr(
        nngp_prior.probability.cost.psutil, "virtual_memory", lambda: SimpleNamespace(available=ten.bytes)
    )
    with pytest.raises(ResourceLimit, match=r"smc on n = 1,001 inputs of 10 classes needs .* Use at most 1,000 inputs"):
        log_probability(equicorrelated(1001, 0.5), np.ones(1001, dtype=int), classes=10, particles=32)


def test_a_start_is_of_two_classes() -> None:
    with pytest.raises(InvalidInput, match=r"classes: got 3\. A start is of labels -1"):
        ep_start(_GOOD, [1, 1, 0], classes=3)
    start = ep_start(_GOOD, [1, 1, -1])
    with pytest.raises(InvalidInput, match="start: is of labels -1 and \\+1 where there are 3 classes"):
        log_probability(_GOOD, [1, 1, 0], classes=3, start=start)
    assert log_probability(_GOOD, [1, 1, 0], classes=2, method="ep", start=start).diagnostics["ep_sweeps"] <= 2


def test_cost_grows_as_it_should() -> None:
    for method in ("smc", "ep", "ep2", "laplace", "bernstein-yue", "sampling", "closed-form"):
        small, large = (estimate_cost(n, method, noise_variance=1.0) for n in (1000, 4000))
        assert small.bytes < large.bytes < 17 * small.bytes
        assert large.seconds > small.seconds
    assert estimate_cost(1000, labellings=3).seconds == pytest.approx(3 * estimate_cost(1000).seconds)


def test_memory_is_asked_for_before_the_matrix_is_read() -> None:
    """Reading 320 GB of a matrix that is all one number would take minutes."""
    n = 200_000
    with pytest.raises(ResourceLimit, match="Use at most"):
        log_probability(np.broadcast_to(np.float64(1), (n, n)), np.ones(n, dtype=int))


def test_one_labelling_is_no_list_of_labellings() -> None:
    with pytest.raises(InvalidLabels, match=r"Y: has shape \(3,\)\. Pass \(L, n\)"):
        log_probabilities(_GOOD, np.ones(3, dtype=int))


def test_sizes_are_positive() -> None:
    with pytest.raises(InvalidInput, match="n: got -1"):
        estimate_cost(-1)


def test_jitter_serves_near_duplicates_of_a_float32_kernel() -> None:
    K = np.array([[1, 1.0000001, 0.5], [1.0000001, 1, 0.5], [0.5, 0.5, 1]])
    with pytest.raises(InvalidKernel, match=r"have correlation 1.0000001.*pass it as a float32 array.*jitter=1e-06"):
        log_probability(K, [1, 1, 1])
    assert log_probability(K, [1, 1, 1], jitter=1e-5).status == "ok"


def test_a_specification_is_its_name_with_options() -> None:
    labels = [1, -1, 1]
    named = log_probability(_GOOD, labels, particles=64, replicates=8)
    assert log_probability(_GOOD, labels, SMC(particles=64, replicates=8)) == named
    assert log_probabilities(_GOOD, [labels], EP(max_sweeps=7)) == [log_probability(_GOOD, labels, "ep", max_sweeps=7)]
    assert estimate_cost(3, SMC(particles=64)) == estimate_cost(3, particles=64)


def test_typed_options_are_the_fields_of_all_estimators() -> None:
    specifications = get_args(get_args(Estimator)[0])
    fields = {name for specification in specifications for name in specification.model_fields} - {"kind"}
    assert set(EstimatorOptions.__annotations__) == fields
