import jax
import numpy as np
import pytest

from nngp_prior import SMC, log_probability
from nngp_prior.errors import InvalidInput
from nngp_prior.schemas.requests import EstimateRequest
from nngp_prior.schemas.seeds import checked_seed
from nngp_prior.schemas.specs.kernel import MonteCarlo

LARGEST = 2**63 - 1


@pytest.mark.parametrize(
    ("seed", "number"),
    [
        (0, 0),
        (LARGEST, LARGEST),
        (np.int8(5), 5),
        (np.uint64(LARGEST), LARGEST),
        (jax.random.key(7), 7),
        (jax.random.PRNGKey(7), 7),
    ],
)
def test_seeds(seed, number: int) -> None:
    assert checked_seed(seed) == number
    assert type(checked_seed(seed)) is int
    assert MonteCarlo(seed=seed).seed == number


def test_keys_split_from_one_are_different_seeds() -> None:
    keys = jax.random.split(jax.random.key(0), 50)
    assert len({checked_seed(key) for key in keys} | {0}) == 51
    assert all(0 <= checked_seed(key) <= LARGEST for key in keys)


@pytest.mark.parametrize(
    "seed",
    [
        -1,
        2**63,
        np.int64(-1),
        True,
        1.0,
        "1",
        None,
        np.array(1),
        jax.random.split(jax.random.key(0)),
        jax.numpy.ones(2),
    ],
    ids=str,
)
def test_other_seeds_are_refused(seed) -> None:
    with pytest.raises(InvalidInput, match=r"^seed: .* Pass an integer from 0 to 2⁶³ - 1, or one random key of JAX"):
        checked_seed(seed)


def test_functions_and_specifications_take_keys() -> None:
    K, y = np.eye(3) + 0.5, [1, -1, 1]
    with_key, with_integer = (
        log_probability(K, y, SMC(particles=16), seed=s) for s in (jax.random.key(3), np.int32(3))
    )
    assert with_key == with_integer == log_probability(K, y, SMC(particles=16), seed=3)
    document = {"dataset": {"kind": "boolean", "bits": 3}, "labellings": [{"kind": "parity"}]}
    assert EstimateRequest(**document, seed=jax.random.key(3)) == EstimateRequest(**document, seed=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match="seed"):
        EstimateRequest(**document, seed=jax.random.split(jax.random.key(3)))  # pyright: ignore[reportArgumentType]
