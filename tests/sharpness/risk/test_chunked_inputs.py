"""Inputs that are read chunk by chunk give what inputs in memory give, and nothing keeps them longer than it should."""

import gc
import pickle
import threading
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.measures.curvature import Eigenvalues, Trace
from nngp_prior.schemas.measures.gradients import GradientNoiseScale, NaturalGradientContrast
from nngp_prior.schemas.measures.neighbourhoods import Keskar, SAMSharpness
from nngp_prior.sharpness import measure
from nngp_prior.sharpness.measurement import measure_risk
from nngp_prior.sharpness.risk import chunked_inputs as examples
from nngp_prior.sharpness.risk.chunked_inputs import Held, Read
from nngp_prior.sharpness.risk.empirical_risk import EmpiricalRisk
from nngp_prior.sharpness.risk.networks import finite_network, high_precision
from tests.sharpness.cases import SMALL, being_read, data, small

PARAMETERS = finite_network(SMALL, (4,)).init(1)
X, Y = data(20, 4)


@pytest.fixture
def few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_HELD_BYTES", 100)


def test_few_are_copied_and_many_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(EmpiricalRisk.of(SMALL, PARAMETERS, X, Y, chunk=8).inputs, Held)
    monkeypatch.setattr(examples, "_HELD_BYTES", X.nbytes - 1)
    assert isinstance(
        EmpiricalRisk.of(SMALL, PARAMETERS, X, Y, chunk=20).inputs, Held
    )  # the one chunk that is worked on
    risk = EmpiricalRisk.of(SMALL, PARAMETERS, X, Y, chunk=8)
    assert isinstance(risk.inputs, Read)
    assert np.shares_memory(risk.inputs.source.X, X)
    monkeypatch.setattr(examples, "_READ_BYTES", 5 * 4 * 8)
    assert EmpiricalRisk.of(SMALL, PARAMETERS, X, Y, chunk=8).chunk == 5
    assert isinstance(risk.subset(range(15)).inputs, Held)


@pytest.mark.parametrize(
    "specification",
    [
        Eigenvalues(),  # chunks
        Keskar(mode="zhang2021", batch=7, iterations=2),  # a minibatch
        SAMSharpness(minibatch=6),  # a partition
        NaturalGradientContrast(batch=3, pairs=3, damping=0.1),  # pairs
        GradientNoiseScale(),  # examples
    ],
    ids=lambda specification: specification.kind,
)
def test_measures_are_those_of_inputs_in_memory(specification) -> None:
    held, read = (measure_risk(risk, [specification], 3) for risk in (small(), being_read(small())))
    for one, other in zip(held.measurements, read.measurements, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-12)
        assert (other.status, other.gradients) == (one.status, one.gradients)


@pytest.mark.usefixtures("few_are_held")
@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        *(
            (each, "float64")
            for each in ("float64", "float32", "float16", "int64", "uint8", ">f8", "longdouble", "bool")
        ),
        ("float64", "float32"),
        ("uint8", "float32"),
    ],
)
def test_inputs_of_all_real_types_are_read(stored: str, dtype: str) -> None:
    inputs = np.round(np.abs(40 * X)).astype(stored)
    risk = EmpiricalRisk.of(SMALL, PARAMETERS, inputs, Y, dtype=dtype, chunk=8)
    assert isinstance(risk.inputs, Read)
    np.testing.assert_array_equal(risk.X, inputs.astype(np.float64))
    assert risk.X.dtype == dtype
    in_memory = EmpiricalRisk.of(SMALL, PARAMETERS, inputs.astype(np.float64), Y, dtype=dtype, chunk=20)
    np.testing.assert_allclose(risk.all_outputs(risk.theta), in_memory.all_outputs(in_memory.theta), rtol=1e-5)


@pytest.mark.usefixtures("few_are_held")
def test_inputs_may_be_a_view_or_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    in_file = np.load(tmp_path / "X.npy", mmap_mode="r")
    held = EmpiricalRisk.of(SMALL, PARAMETERS, X, Y)
    expected = held.gradient(held.theta)
    for inputs in (np.repeat(X, 2, axis=0)[::2], np.asfortranarray(X), X[::-1][::-1], in_file):
        risk = EmpiricalRisk.of(SMALL, PARAMETERS, inputs, Y, chunk=8)
        assert np.shares_memory(risk.inputs.source.X, inputs)
        np.testing.assert_allclose(risk.gradient(risk.theta), expected, rtol=1e-12)


def test_minibatches_are_read_side_by_side() -> None:
    risk, rows = being_read(small()), np.array([[3, 1], [0, 19], [7, 7]])
    with high_precision():
        found = jax.jit(jax.vmap(lambda risk, rows: risk.inputs.take(rows), (None, 0)))(risk, rows)
    np.testing.assert_array_equal(found, np.asarray(small().X)[rows])


def test_many_examples_are_read_by_several_threads_at_once() -> None:
    inputs = np.arange(60_000.0).reshape(-1, 1)
    sums = []

    @jax.jit
    def total(read: Read, rows: jax.Array) -> jax.Array:
        return jax.lax.map(lambda i: read.take((rows + i) % len(inputs)).sum() + read.chunk(i).sum(), np.arange(10))

    def work() -> None:
        with high_precision():
            read = Read.of(inputs, "float64", 1000)
            sums.append([np.asarray(total(read, np.arange(50_000))) for _ in range(5)])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert len(sums) == 4
    i = np.arange(10)
    taken = [inputs[(np.arange(50_000) + each) % len(inputs)].sum() for each in i]
    np.testing.assert_array_equal(sums, np.broadcast_to(taken + inputs.reshape(-1, 1000)[i].sum(axis=1), (4, 5, 10)))


def test_compiled_functions_serve_other_arrays_and_keep_none() -> None:
    calls = []

    @jax.jit
    def loss(risk: EmpiricalRisk):
        calls.append(risk)
        return risk.loss(risk.theta)

    with high_precision():
        first, second = (being_read(small("mse").subset(range(start, start + 17))) for start in (0, 3))
        values = [float(loss(risk)) for risk in (first, second)]
    assert len(calls) == 1
    assert values == pytest.approx([float(p.loss(p.theta)) for p in (first, second)], rel=1e-14)
    assert values[0] != values[1]
    source = weakref.ref(first.inputs.source)
    del first
    gc.collect()
    assert source() is None


def test_a_problem_travels_with_its_inputs() -> None:
    risk = being_read(small())
    with high_precision():
        inputs = pickle.loads(pickle.dumps(risk.inputs))
        np.testing.assert_array_equal(inputs.take(np.arange(20)), X)
    assert inputs.number != risk.inputs.number


def test_inputs_of_a_problem_that_is_gone_are_told_as_such() -> None:
    leaves, structure = jax.tree.flatten(being_read(small()))
    with high_precision(), pytest.raises(Exception, match="is gone: keep it"):
        jax.block_until_ready(jax.jit(lambda risk: risk.loss(risk.theta))(structure.unflatten(leaves)))


def test_what_is_not_finite_is_found_wherever_it_is() -> None:
    inputs = np.ones((9000, 4), np.float32)
    inputs[8500, 2] = np.inf
    with pytest.raises(InvalidInput, match=r"^X: input 8500 has the value inf at feature 2"):
        measure(SMALL, PARAMETERS, inputs, np.ones(9000), [Trace()])
