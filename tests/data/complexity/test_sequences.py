import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngp_prior import complexity
from nngp_prior.data.complexity import entropy, lempel_ziv
from nngp_prior.data.complexity.sequences import lempel_ziv_words
from nngp_prior.errors import InvalidInput, InvalidLabels


def labels_of(text: str) -> np.ndarray:
    return np.array([1 if symbol == "1" else -1 for symbol in text])


def words_by_definition(text: str) -> list[str]:
    """Lempel and Ziv (1976): each word is the shortest that is no part of what stands before its last symbol."""
    words, rest = [], text
    while rest:
        before = text[: len(text) - len(rest)]
        length = next((k for k in range(1, len(rest) + 1) if rest[:k] not in (before + rest[: k - 1])), len(rest))
        words.append(rest[:length])
        rest = rest[length:]
    return words


def kaspar_schuster(text: str) -> int:
    """The programme of Kaspar and Schuster (1987), with its counters."""
    n, i, count, start, k, k_max = len(text), 0, 1, 1, 1, 1
    while True:
        if start + k > n:
            return count + (k > 1)
        if text[i + k - 1] == text[start + k - 1]:
            k += 1
            continue
        k_max, i = max(k, k_max), i + 1
        if i == start:
            count += 1
            start += k_max
            if start + 1 > n:
                return count
            i, k, k_max = 0, 1, 1
        else:
            k = 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0001101001000101", ["0", "001", "10", "100", "1000", "101"]),  # Lempel and Ziv 1976
        ("0010", ["0", "01", "0"]),  # Kaspar and Schuster 1987: the last word ends early
        ("0", ["0"]),
        ("01", ["0", "1"]),
        ("0101010101", ["0", "1", "01010101"]),
        ("0000000000", ["0", "000000000"]),
        ("1001111011000010", ["1", "0", "01", "1110", "1100", "0010"]),
    ],
)
def test_words_of_strings_worked_by_hand(text: str, words: list[str]) -> None:
    assert words_by_definition(text) == words
    assert lempel_ziv_words(labels_of(text)) == len(words)


@given(st.text(alphabet="01", min_size=1, max_size=60))
def test_words_are_those_of_the_definition_and_of_the_published_programme(text: str) -> None:
    count = lempel_ziv_words(labels_of(text))
    assert count == len(words_by_definition(text))
    if len(text) > 1:
        assert count == kaspar_schuster(text)


@given(st.text(alphabet="0000001", min_size=2, max_size=300))
def test_words_of_long_repetitive_strings(text: str) -> None:
    assert lempel_ziv_words(labels_of(text)) == len(words_by_definition(text))


def test_lempel_ziv_at_128() -> None:
    constant = np.full(128, -1)
    assert lempel_ziv(constant) == lempel_ziv(-constant) == 7.0
    found = []
    for place in range(128):
        single = constant.copy()
        single[place] = 1
        found.append(lempel_ziv(single))
        assert lempel_ziv(-single) == lempel_ziv(single[::-1]) == found[-1]
    assert found[0] == found[-1] == 17.5
    assert set(found[1:-1]) == {21.0, 24.5}


@given(st.text(alphabet="01", min_size=1, max_size=80))
def test_lempel_ziv_is_its_formula_and_does_not_know_direction_or_sign(text: str) -> None:
    labels = labels_of(text)
    if len(set(text)) == 1:
        expected = math.log2(len(text))
    else:
        words = len(words_by_definition(text)) + len(words_by_definition(text[::-1]))
        expected = math.log2(len(text)) * words / 2
    assert lempel_ziv(labels) == pytest.approx(expected)
    assert lempel_ziv(-labels) == lempel_ziv(labels[::-1]) == lempel_ziv(labels > 0) == lempel_ziv(labels)


@pytest.mark.parametrize(("text", "bits"), [("0000", 0.0), ("0101", 1.0), ("0111", 2 - 0.75 * math.log2(3))])
def test_entropy(text: str, bits: float) -> None:
    assert entropy(labels_of(text)) == pytest.approx(bits)


def test_by_name() -> None:
    labels = labels_of("01100001")
    assert complexity("lempel-ziv", labels) == lempel_ziv(labels)
    assert complexity("entropy", labels) == entropy(labels)
    with pytest.raises(InvalidInput, match=r"name: got 'kolmogorov'\. Choose one of lempel-ziv, entropy"):
        complexity("kolmogorov", labels)


@pytest.mark.parametrize("labels", [[], [0, 1], [[1, -1]], [1, 2]])
@pytest.mark.parametrize("name", ["lempel-ziv", "entropy", "critical-sample-ratio", "formula-size", "cover-size"])
def test_labels_that_are_none(name: str, labels: list) -> None:
    with pytest.raises(InvalidLabels, match="y: "):
        complexity(name, labels)
