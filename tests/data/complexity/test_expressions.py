from itertools import product

import numpy as np
import pytest

from nngp_prior.data.complexity import cover_size, formula_size
from nngp_prior.data.complexity.expressions import cover, prime_implicants
from nngp_prior.data.complexity.formulas import smallest_formulas
from nngp_prior.errors import InvalidLabels


def by_enumeration(bits: int) -> list[int]:
    """Every formula that there is, size after size, without any use of symmetry."""
    inputs = list(product((0, 1), repeat=bits))
    everything = 2 ** len(inputs) - 1
    variables = [sum(x[k] << i for i, x in enumerate(inputs)) for k in range(bits)]
    sizes = {0: 0, everything: 0}
    sizes |= {function: 1 for variable in variables for function in (variable, everything ^ variable)}
    size = 1
    while len(sizes) < everything + 1:
        size += 1
        known = list(sizes.items())
        for (f, a), (g, b) in product(known, known):
            if a + b == size:
                sizes.setdefault(f & g, size)
                sizes.setdefault(f | g, size)
    return [sizes[function] for function in range(everything + 1)]


def labels_of(function: int, bits: int) -> np.ndarray:
    return ((function >> np.arange(2**bits)) & 1) * 2 - 1


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_formula_sizes_are_those_of_all_formulas(bits: int) -> None:
    assert smallest_formulas(bits).tolist() == by_enumeration(bits)


@pytest.mark.parametrize(
    ("value", "bits", "size"),
    [
        (lambda x: 1, 4, 0),
        (lambda x: x[2], 4, 1),
        (lambda x: x[0] ^ x[1], 2, 4),
        (lambda x: sum(x) >= 2, 3, 5),  # majority: x(y ∨ z) ∨ yz
        (lambda x: sum(x) % 2, 3, 10),
        (lambda x: sum(x) % 2, 4, 16),  # Khrapchenko 1971: at least n²
        (lambda x: x[0] if x[1] else x[2], 3, 4),
        (lambda x: all(x), 4, 4),
        (lambda x: (x[0] and x[1]) or (x[2] and x[3]), 4, 4),
    ],
)
def test_formula_sizes_that_are_known(value, bits: int, size: int) -> None:
    labels = [1 if value(x) else -1 for x in product((0, 1), repeat=bits)]
    assert formula_size(labels) == size
    assert cover_size(labels) >= size


def test_all_functions_of_four_bits_have_a_size_that_no_symmetry_changes() -> None:
    sizes = smallest_formulas(4)
    assert sizes.max() == 16
    rng = np.random.default_rng(0)
    cube = rng.choice([-1, 1], size=(20, 2, 2, 2, 2))
    for labels in cube:
        size = formula_size(labels.ravel())
        assert formula_size(-labels.ravel()) == size
        assert formula_size(labels.transpose(2, 0, 3, 1).ravel()) == size
        assert formula_size(np.flip(labels, axis=1).ravel()) == size


def holds(terms: np.ndarray, bits: int) -> np.ndarray:
    inputs = np.array(list(product((0, 1), repeat=bits)))
    return ((terms[:, None] == 2) | (terms[:, None] == inputs)).all(axis=2).any(axis=0)


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_covers_of_all_small_functions(bits: int) -> None:
    for function in range(2**2**bits):
        labels = labels_of(function, bits)
        terms = cover(labels > 0, bits)
        np.testing.assert_array_equal(holds(terms, bits), labels > 0)
        for left_out in range(len(terms)):
            assert (holds(np.delete(terms, left_out, axis=0), bits) != (labels > 0)).any()
        assert formula_size(labels) <= cover_size(labels) <= (terms != 2).sum()


def test_prime_implicants_by_brute_force() -> None:
    values = np.random.default_rng(1).random(16) < 0.6
    implicants = {term for term in product((0, 1, 2), repeat=4) if not (holds(np.array([term]), 4) & ~values).any()}
    prime = {
        term
        for term in implicants
        if not any((*term[:k], 2, *term[k + 1 :]) in implicants for k in range(4) if term[k] != 2)
    }
    assert set(map(tuple, prime_implicants(values, 4).tolist())) == prime


def test_covers_of_seven_bits() -> None:
    inputs = list(product((0, 1), repeat=7))
    parity = [1 if sum(x) % 2 else -1 for x in inputs]
    assert cover_size(parity) == 7 * 64
    assert cover_size([1] * 128) == 0
    assert cover_size([1 if x[3] and not x[5] else -1 for x in inputs]) == 2
    assert cover_size([1 if sum(x) >= 4 else -1 for x in inputs]) >= 4 * 35  # majority: all 35 terms are needed
    random = np.random.default_rng(0).choice([-1, 1], 128)
    np.testing.assert_array_equal(holds(cover(random > 0, 7), 7), random > 0)
    # A function of the OR kind is short through its negation.
    assert cover_size([-1 if not any(x) else 1 for x in inputs]) == 7


@pytest.mark.parametrize(
    ("function", "count"), [(formula_size, 32), (formula_size, 7), (cover_size, 2048), (cover_size, 3)]
)
def test_numbers_of_labels_that_are_no_function(function, count: int) -> None:
    with pytest.raises(InvalidLabels, match=f"y: has {count:,} labels. Pass one for each of the 2ᵇ inputs"):
        function([1] * count)
