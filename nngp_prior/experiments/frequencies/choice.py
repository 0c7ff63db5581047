"""Choice of the functions of a study: one half of the networks chooses them, the other half counts them.

Choosing functions by their counts favours functions that were drawn more often by chance. Counts by other
networks do not have this bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int8, Integer

from nngp_prior.experiments.frequencies.inputs import inputs_of
from nngp_prior.experiments.grid import Setting
from nngp_prior.experiments.store import Key, Store
from nngp_prior.numerics.random import generator
from nngp_prior.prior.sampling.counts import FunctionCounts
from nngp_prior.prior.sampling.packing import counted, pack, ranked, unpack
from nngp_prior.schemas.frequencies import FrequencyProtocol

CHOOSING, COUNTING = 0, 1  # halves: even and odd numbers of trained networks, two streams of draws
_ENDED = "zero-error"


def choice_key(setting: Setting[FrequencyProtocol]) -> Key:
    """Return the key of the functions of a setting."""
    own = setting.protocol
    return ("chosen", setting.key, str(own.seeds), str(own.min_count), str(own.functions))


def choose(setting: Setting[FrequencyProtocol], store: Store) -> dict[str, Any]:
    """Return the functions of a setting, once all its networks are drawn or trained.

    Args:
        setting: the setting.
        store: results of its networks.

    Returns:
        a row with ``functions``: hexadecimal bits, rank among the networks that choose, numbers of networks that choose
        and count it, and of trained networks the test error; and sums over all functions.
    """
    own = setting.protocol
    halves = _drawn(setting, store.folder) if own.training is None else _trained(setting, store)
    choosing, counting = halves
    eligible = int(np.sum(choosing.counts >= own.min_count))
    ranks = chosen_ranks(eligible, own.functions, setting.seed)
    labels = choosing.labels(ranks)
    test = None if own.training is None else inputs_of(own).y_test
    functions = [
        {
            "function": to_hex(y),
            "rank": int(rank) + 1,
            "chosen_by": int(choosing.counts[rank]),
            "count": counting.count(y),
            **({} if test is None else {"test_error": float(np.mean(y != test))}),
        }
        for rank, y in zip(ranks, labels, strict=True)
    ]
    return {
        "inputs": choosing.n,
        "networks": [half.draws for half in halves],
        "distinct": [len(half) for half in halves],
        "undecided": sum(half.undecided for half in halves),
        "eligible": eligible,
        "functions": functions,
        "message": "" if functions else f"no function is that of {own.min_count:,} of {choosing.draws:,} networks",
    }


def chosen_ranks(eligible: int, most: int, seed: int) -> Integer[np.ndarray, " some"]:
    """Return the ranks, from 0, of the chosen functions: all, or the most frequent and as many others at random.

    Args:
        eligible: number of functions that are frequent enough.
        most: maximum number of functions.
        seed: random seed.

    Returns:
        increasing ranks.
    """
    if eligible <= most:
        return np.arange(eligible)
    first = most - most // 2
    others = generator(seed, "functions").choice(eligible - first, most // 2, replace=False)
    return np.concatenate([np.arange(first), first + np.sort(others)])


def to_hex(y: Int8[np.ndarray, " n"]) -> str:
    """Labels as hexadecimal digits, the first input's in the highest bit."""
    return pack(y[None] > 0)[0].tobytes().hex()


def from_hex(functions: Sequence[str], n: int) -> Int8[np.ndarray, "functions n"]:
    """Return the labels -1 and +1 of functions written by :func:`to_hex`."""
    rows = [np.frombuffer(bytes.fromhex(each), np.uint8) for each in functions]
    return unpack(np.stack(rows), n)


def draws_file(setting: Setting[FrequencyProtocol], half: int, folder: Path) -> Path:
    """Return the path of the draws of one half of a setting."""
    return folder / "networks" / f"{setting.key}-{('choosing', 'counting')[half]}.npz"


def trained_key(setting: Setting[FrequencyProtocol], number: int) -> Key:
    """Return the key of a trained network."""
    return ("trained", setting.key, str(number))


def _drawn(setting: Setting[FrequencyProtocol], folder: Path) -> tuple[FunctionCounts, FunctionCounts]:
    choosing, counting = (FunctionCounts.load(draws_file(setting, half, folder)) for half in (CHOOSING, COUNTING))
    return choosing, counting


def _trained(setting: Setting[FrequencyProtocol], store: Store) -> tuple[FunctionCounts, FunctionCounts]:
    """Count the functions of the networks that reached the goal."""
    rows = [store.get(trained_key(setting, number)) for number in range(setting.protocol.seeds)]
    choosing, counting = (_counts([row for row in rows[half::2] if row is not None]) for half in (CHOOSING, COUNTING))
    return choosing, counting


def _counts(rows: Sequence[Mapping[str, Any]]) -> FunctionCounts:
    ended = [row for row in rows if row["status"] == _ENDED]
    n = rows[0]["inputs"]
    packed = np.array([list(bytes.fromhex(row["function"])) for row in ended if row["function"]], np.uint8)
    functions, counts = counted(packed.reshape(-1, -(-n // 8)), np.ones(len(packed), np.int64))
    undecided = len(ended) - len(packed)
    return FunctionCounts(
        *ranked(functions, counts), n, len(ended), undecided, np.zeros(n, np.int64), {"source": "trained"}
    )
