"""Measures of a network with three outputs, against dense derivatives."""

import functools
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from nngp_prior import FromNetwork
from nngp_prior.errors import InvalidInput
from nngp_prior.progress import ignore
from nngp_prior.schemas.measures.registry import measure_of
from nngp_prior.sharpness import (
    ASAMSharpness,
    ContrastiveFlatness,
    ContrastRegret,
    Eigenvalues,
    FisherRaoNorm,
    FisherSAMSharpness,
    FisherTrace,
    Frobenius,
    GradientContrast,
    Keskar,
    LogDeterminant,
    PACBayes,
    RelativeFlatness,
    SAMSharpness,
    SpectralDensity,
    Trace,
    measure,
    measure_networks,
    train,
)
from nngp_prior.sharpness.measurement import checked
from nngp_prior.sharpness.measures import contrastive_flatness
from nngp_prior.sharpness.measures.of_classes import OF_CLASSES
from nngp_prior.sharpness.measures.registry import MEASURES, MeasureOutcome
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.minibatches import pairs_of_minibatches
from tests.sharpness.cases import CLASSES, SMALL, classes_of, data, dense_of_classes, of_classes

_risk = functools.partial(of_classes, chunk=20)


def outcome(specification, seed: int = 0, risk: EmpiricalRisk | None = None) -> MeasureOutcome:
    risk = risk or _risk()
    checked(risk, [specification])
    return MEASURES[specification](risk, specification, seed, ignore)


def figures(specification, risk: EmpiricalRisk | None = None) -> dict[str, float]:
    return {each.name: each.value for each in outcome(specification, risk=risk).quantities}


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "empirical-fisher"])
def test_eigenvalues_trace_and_norm_are_those_of_the_dense_matrix(matrix: str) -> None:
    A = dense_of_classes(_risk()).matrix(matrix)
    prefix = "" if matrix == "hessian" else matrix.replace("-", "_") + "_"
    values = np.linalg.eigvalsh(A)
    found = figures(Eigenvalues(matrix=matrix, largest=3, smallest=1, tolerance=1e-7, max_steps=73))
    expected = [*values[:-4:-1], values[0]]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6, atol=1e-6 * values[-1])
    assert figures(Trace(matrix=matrix, probes="basis"))[f"{prefix}trace"] == pytest.approx(np.trace(A), rel=1e-6)
    if matrix != "hessian":
        exact = outcome(Trace(matrix=matrix, layer="each")).quantities
        assert [each.stderr for each in exact] == [None] * 3
        blocks = [(0, 25), (25, 55), (55, 73)]
        expected = [np.trace(A[start:stop, start:stop]) for start, stop in blocks]
        np.testing.assert_allclose([each.value for each in exact], expected, rtol=1e-6)


def test_random_estimates_are_within_their_errors() -> None:
    H = dense_of_classes(_risk()).hessian
    expected = {"trace": np.trace(H), "frobenius": np.linalg.norm(H)}
    for specification in (Trace(probes=30), Trace(probes=30, method="hutchinson"), Frobenius(probes=30)):
        (found,) = outcome(specification).quantities
        assert 0 < found.stderr < 0.5 * expected[found.name]
        assert abs(found.value - expected[found.name]) < 4 * found.stderr
    assert figures(Frobenius(probes="basis"))["frobenius"] == pytest.approx(np.linalg.norm(H), rel=1e-6)


def test_the_trace_of_a_relu_network_is_that_of_its_fisher_information() -> None:
    risk = of_classes(activation="relu", chunk=20)
    dense = dense_of_classes(risk)
    (found,) = outcome(Trace(), risk=risk).quantities
    assert found.stderr is None
    assert found.value == pytest.approx(np.trace(dense.hessian), rel=1e-6)
    assert figures(FisherTrace(), risk)["fisher_trace"] == pytest.approx(found.value, rel=1e-9)


def test_spectra_are_those_of_the_dense_matrix() -> None:
    values = np.linalg.eigvalsh(dense_of_classes(_risk()).hessian[25:55, 25:55])
    block = {"layer": "dense 2", "probes": "basis", "steps": 30}
    found = figures(LogDeterminant(**block))["logdet[dense 2]"]
    assert found == pytest.approx(np.log1p(values).sum(), rel=1e-6)
    found = figures(SpectralDensity(negligible=1e-6, **block))
    assert found["negative_mass[dense 2]"] == pytest.approx(np.mean(values < -1e-6 * values[-1]), abs=1e-6)


@pytest.mark.parametrize("fisher", ["model", "empirical"])
def test_fisher_information_is_that_of_the_definition(fisher: str) -> None:
    risk = _risk()
    F = dense_of_classes(risk).matrix("ggn" if fisher == "model" else "empirical-fisher")
    theta, prefix = np.asarray(risk.theta), "" if fisher == "model" else "empirical_"
    assert figures(FisherTrace(fisher=fisher))[f"{prefix}fisher_trace"] == pytest.approx(np.trace(F), rel=1e-6)
    norm = figures(FisherRaoNorm(fisher=fisher))[f"{prefix}fisher_rao_norm"]
    assert norm == pytest.approx(theta @ F @ theta, rel=1e-6)


@pytest.mark.parametrize(
    "specification",
    [SAMSharpness(), ASAMSharpness(eta=0.1, biases=True), FisherSAMSharpness(fisher="model", damping=0.1),
     FisherSAMSharpness(fisher="empirical", damping=0.1)],
    ids=["sam", "asam", "fisher-sam", "fisher-sam, empirical"],
)  # fmt: skip
def test_one_step_of_sam_is_the_rise_of_the_dense_loss(specification) -> None:
    risk = _risk()
    dense, theta = dense_of_classes(risk), np.asarray(risk.theta)
    T = np.ones(risk.size)
    if isinstance(specification, ASAMSharpness):
        T = np.abs(theta) + specification.eta
    elif isinstance(specification, FisherSAMSharpness):
        F = dense.matrix("ggn" if specification.fisher == "model" else "empirical-fisher")
        T = (np.diag(F) + specification.damping) ** -0.5
    step = specification.rho * T * (T * dense.gradient) / np.linalg.norm(T * dense.gradient)
    expected = dense_of_classes(risk.at(theta + step)).value - dense.value
    (found,) = figures(specification).values()
    assert found == pytest.approx(expected, rel=1e-6)


@functools.cache
def _linear() -> EmpiricalRisk:
    """f = Wᵀx, whose cross-entropy is convex: its maximum over a box is at a corner."""
    own = FromNetwork(
        lambda key, shape: ((1, 3), jnp.zeros((2, 3))), lambda W, X: X @ W, name="two inputs, three outputs"
    )
    W = np.random.default_rng(2).standard_normal((2, 3))
    X = data(20, 2)[0]
    y = np.argmax(X @ W, axis=1)
    y[:2] = (y[:2] + 1) % CLASSES  # two errors
    return EmpiricalRisk.of(own, W, X, y, classes=CLASSES)


def test_keskar_sharpness_of_a_convex_loss_is_that_of_the_highest_corner() -> None:
    risk = _linear()
    X, y, W = np.asarray(risk.X), np.asarray(risk.y, int), np.asarray(risk.theta)

    def loss(w: np.ndarray) -> float:
        f = X @ w.reshape(2, 3)
        return float(np.mean(np.log(np.exp(f).sum(axis=1)) - f[np.arange(20), y]))

    cases = [(0.1, {"mode": "sign-pgd"}), (1e-3, {"mode": "keskar"}), (1e-4, {"mode": "zhang2021", "batch": 5})]
    for epsilon, mode in cases:
        corners = (W + epsilon * (np.abs(W) + 1) * np.array(signs) for signs in itertools.product((-1, 1), repeat=6))
        expected = 100 * (max(map(loss, corners)) - loss(W)) / (1 + loss(W))
        found = figures(Keskar(epsilon=epsilon, **mode), risk)["keskar"]
        if mode["mode"] == "zhang2021":  # its steps are of minibatches: a lower bound near the maximum
            assert 0.99 * expected < found <= expected * (1 + 1e-9)
        else:
            assert found == pytest.approx(expected, rel=1e-6), mode


def test_sigma_of_pac_bayes_drops_the_accuracy_of_the_largest_output_by_the_limit() -> None:
    risk = _linear()
    (found,) = outcome(PACBayes(perturbations=200, drop=0.1), risk=risk).quantities
    X, y, W = np.asarray(risk.X), np.asarray(risk.y, int), np.asarray(risk.theta)
    noise = np.random.default_rng(9).standard_normal((4000, 6)) * found.diagnostics["sigma"]
    errors = np.mean(np.argmax(X @ (W + noise).reshape(-1, 2, 3), axis=-1) != y, axis=1)
    here = np.mean(np.argmax(X @ W.reshape(2, 3), axis=-1) != y)
    assert found.diagnostics["training_error"] == pytest.approx(here)
    spread = np.hypot(errors.std() / np.sqrt(4000), found.diagnostics["drop_stderr"])
    assert abs(np.mean(errors) - here - 0.1) < 4 * spread
    assert found.value == pytest.approx(found.diagnostics["sigma"] ** -2)


def test_gradient_contrasts_are_those_of_the_dense_gradients() -> None:
    dense, pairs = dense_of_classes(_risk()), list(pairs_of_minibatches(np.arange(20), 5, 4, 3))
    gradients = np.einsum("nc,ncp->np", dense.slopes, dense.jacobian)
    expected = []
    for rows in pairs:
        g = gradients[rows].mean(axis=1)
        norms = np.linalg.norm(g, axis=1)
        expected.append(norms.mean() * (1 - g[0] @ g[1] / norms.prod()))
    contrast = outcome(GradientContrast(batch=5, pairs=4), seed=3).quantities[0]
    assert contrast.value == pytest.approx(np.mean(expected), rel=1e-6)
    regret = outcome(ContrastRegret(batch=5, pairs=4, radius=1e-5), seed=3).quantities[0]
    assert regret.value == pytest.approx(np.mean(expected), rel=1e-3)


def test_contrastive_flatness_is_that_of_the_dense_matrices() -> None:
    specification = ContrastiveFlatness(batch=10, of=Eigenvalues(matrix="ggn", tolerance=1e-9, max_steps=73))
    dense, parts = dense_of_classes(_risk()), contrastive_flatness.minibatches(20, specification, 0)
    J, blocks = dense.jacobian, dense.blocks

    def largest(rows: np.ndarray) -> float:
        return float(np.linalg.eigvalsh(np.einsum("ncp,ncd,ndq->pq", J[rows], blocks[rows], J[rows]) / len(rows))[-1])

    expected = np.mean([largest(rows) for rows in parts]) - largest(np.arange(20))
    found = figures(specification)["contrastive_ggn_lambda_max"]
    assert found == pytest.approx(expected, rel=1e-6)


REFUSED = sorted(kind().kind for kind in set(MEASURES) - set(OF_CLASSES))


@pytest.mark.parametrize("kind", REFUSED)
def test_measures_of_one_output_are_refused_with_what_to_use(kind: str) -> None:
    with pytest.raises(InvalidInput, match=rf"^measures: '{kind}' is of networks with one output, and there are 3\. "):
        checked(_risk(), [measure_of(kind)])


def test_options_of_one_output_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^measures: 'relative-flatness' is of networks with one output"):
        checked(_risk(), [ContrastiveFlatness(batch=5, of=RelativeFlatness())])
    with pytest.raises(InvalidInput, match=r"^normalize_logits: is of networks with one output"):
        checked(_risk(), [SAMSharpness(normalize_logits=True)])


def test_measure_takes_trained_networks() -> None:
    X, y = data(20, 4)[0], classes_of(20)
    from nngp_prior.schemas.specs.training import Training

    networks = train(SMALL, X, y, Training(goal="none", epochs=1), classes=CLASSES, seeds=2)
    reports = measure_networks(SMALL, networks, X, y, [FisherTrace()], chunk=8)
    alone = measure(SMALL, networks.network(1), X, y, [FisherTrace()], classes=CLASSES, chunk=8)
    assert reports[1]["fisher_trace"].value == alone["fisher_trace"].value
    assert alone.training_loss == pytest.approx(networks.loss[1], rel=1e-5)
    assert alone.training_error == pytest.approx(networks.error[1])
    with pytest.raises(InvalidInput, match=r"^y: .*pass classes=C, at least 3"):
        measure(SMALL, networks.network(1), X, y)
