"""Rows of bits against Python's own sets and counters."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nngp_prior.prior.sampling import packing
from nngp_prior.prior.sampling.packing import Tally, counted, hashed, pack, ranked, unpack

BITS = st.integers(1, 140).flatmap(lambda n: st.integers(1, 30).flatmap(lambda m: arrays(bool, (m, n))))


@given(BITS)
@settings(max_examples=60, deadline=None)
def test_what_is_packed_is_unpacked(positive: np.ndarray) -> None:
    packed = pack(positive)
    assert packed.shape == (len(positive), -(-positive.shape[1] // 8))
    labels = unpack(packed, positive.shape[1])
    assert labels.dtype == np.int8
    assert np.array_equal(labels, np.where(positive, 1, -1))


def as_counter(packed: np.ndarray, counts: np.ndarray) -> Counter:
    found = Counter({row.tobytes(): int(count) for row, count in zip(packed, counts, strict=True)})
    assert len(found) == len(packed), "rows that are not different"
    return found


@pytest.mark.parametrize("hash_bits", [64, 1, 0])
@pytest.mark.parametrize("size", [1, 2, 8, 9, 16, 17])
def test_rows_are_counted_exactly_even_where_hashes_collide(
    size: int, hash_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hash_bits < 64:
        monkeypatch.setattr(packing, "hashed", lambda rows: hashed(rows) & np.uint64(2**hash_bits - 1))
    rng = np.random.default_rng(size)
    packed = rng.integers(0, 3, (500, size), dtype=np.uint8)
    packed[:, :-2] = 7  # many are equal
    counts = rng.integers(1, 5, 500)
    expected = Counter()
    for row, count in zip(packed, counts, strict=True):
        expected[row.tobytes()] += int(count)
    found = counted(packed, counts)
    assert as_counter(*found) == expected
    shuffled = rng.permutation(500)
    again = counted(packed[shuffled], counts[shuffled])
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    _, falling = ranked(*found)
    assert np.all(np.diff(falling) <= 0)


def test_a_tally_is_the_count_of_everything_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_WAITING", 50)  # so that it sorts many times
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 6, (3000, 4), dtype=np.uint8)
    ones = np.ones(len(rows), dtype=np.int64)
    tally, start = Tally(4), 0
    while start < len(rows):
        stop = start + int(rng.integers(1, 120))
        tally.add(rows[start:stop], ones[start:stop])
        start = stop
    assert tally.rows < len(rows)
    for found, expected in zip(tally.total(), counted(rows, ones), strict=True):
        assert np.array_equal(found, expected)
