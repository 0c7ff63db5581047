"""How often each function was drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8, Integer, UInt8
from numpy.typing import ArrayLike

from nngp_prior.data.npy import read_npz
from nngp_prior.errors import DataUnavailable
from nngp_prior.numerics.whole_files import written_whole
from nngp_prior.prior.sampling.packing import hashed, pack, unpack
from nngp_prior.schemas.results.estimate import Counts, Estimate
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.text import number_of, one_line

_FORMAT = 1
_KEYS = ("about", "functions", "counts", "zeros")


class RankedFunction(NamedTuple):
    """A function, and how often it was drawn.

    Attributes:
        rank: 1 for the most frequent one.
        labels: -1 and +1.
        draws: of it.
        frequency: log of its frequency, with an exact binomial interval.
    """

    rank: int
    labels: Int8[np.ndarray, " n"]
    draws: int
    frequency: Estimate

    def __repr__(self) -> str:
        return one_line(self)


@dataclass(frozen=True, eq=False)
class FunctionCounts:
    """The functions among independent draws from a prior.

    A draw with an output that is exactly 0 has no label there. It is counted in ``undecided`` and is no function's, but
    it is one of the draws: P(y) is the probability of y_i f_i > 0 at all inputs.

    Attributes:
        functions: the different ones, most frequent first, eight labels a byte (the first input's in the highest bit);
            the order of equally frequent ones does not depend on that of their draws.
        counts: draws of each.
        n: number of inputs.
        draws: of all functions and those undecided.
        undecided: draws with an output that is exactly 0.
        zeros: for each input, draws whose output there is exactly 0.
        about: all that the draws depend on: source, seed, architecture, a hash of the inputs.
    """

    functions: UInt8[np.ndarray, "m bytes"]
    counts: Integer[np.ndarray, " m"]
    n: int
    draws: int
    undecided: int
    zeros: Integer[np.ndarray, " n"]
    about: dict[str, Any]

    def __repr__(self) -> str:
        functions = f"{number_of(len(self), 'function')} of {number_of(self.n, 'input')}"
        return f"<FunctionCounts {number_of(self.draws, 'draw')} of {self.source}: {functions}>"

    @property
    def source(self) -> str:
        """``networks`` or ``gp``."""
        return self.about["source"]

    def __len__(self) -> int:
        """The number of different functions."""
        return len(self.functions)

    def labels(self, ranks: slice | Sequence[int] | np.ndarray = slice(None)) -> Int8[np.ndarray, "m n"]:
        """Functions as labels -1 and +1.

        Args:
            ranks: which, from 0 for the most frequent one; all when absent, which takes n bytes for each.

        Returns:
            one function a row.
        """
        return unpack(self.functions[ranks], self.n)

    def frequency(self, labels: ArrayLike) -> Estimate:
        """log of the part of the draws that have these labels.

        Args:
            labels: (n,) integers -1/+1 or booleans.

        Returns:
            the estimate of log P of networks or of the Gaussian process, with Clopper and Pearson's exact interval.

        Raises:
            InvalidLabels: other labels, or not n of them.
        """
        return self._estimate(self.count(labels))

    def count(self, labels: ArrayLike) -> int:
        """The number of draws that have these labels.

        Args:
            labels: (n,) integers -1/+1 or booleans.

        Returns:
            0 where there are none.

        Raises:
            InvalidLabels: other labels, or not n of them.
        """
        packed = pack(check_labels(labels, self.n)[None] > 0)
        order, hashes = self._index
        key = hashed(packed)[0]
        places = order[np.searchsorted(hashes, key, "left") : np.searchsorted(hashes, key, "right")]
        found = places[(self.functions[places] == packed).all(axis=1)]
        return int(self.counts[found].sum())

    def top(self, k: int, least: int = 1) -> list[RankedFunction]:
        """The most frequent functions.

        Args:
            k: how many.
            least: only those that were drawn so often.

        Returns:
            k of them, or all that there are.
        """
        k = min(k, int(np.sum(self.counts >= least)))
        return [
            RankedFunction(rank, labels, int(count), self._estimate(int(count)))
            for rank, labels, count in zip(range(1, k + 1), self.labels(slice(k)), self.counts[:k], strict=True)
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to a file, which appears, or changes, only when it is complete.

        Args:
            path: of the ``.npz`` file.
        """
        path = Path(path)
        about = {"format": _FORMAT, "n": self.n, "draws": self.draws, "undecided": self.undecided, **self.about}
        with written_whole(path) as file:
            np.savez(
                file, about=np.array(json.dumps(about)), functions=self.functions, counts=self.counts, zeros=self.zeros
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FunctionCounts:
        """Read what :meth:`save` wrote.

        Args:
            path: of the file.

        Returns:
            the same counts.

        Raises:
            DataUnavailable: there is no such file, it is damaged, or it is something else.
        """
        arrays = read_npz(Path(path), *_KEYS)
        refusal = DataUnavailable(f"{path}: holds no counts of functions. Name a file that sampling has written.")
        try:
            about = json.loads(str(arrays["about"]))
            fields = {name: about.pop(name) for name in ("n", "draws", "undecided")}
            known = about.pop("format") == _FORMAT and about["source"] in ("networks", "gp") and about["inputs"]
            found = cls(arrays["functions"], arrays["counts"], zeros=arrays["zeros"], about=about, **fields)
            if not (known and found._consistent()):
                raise refusal
        except (KeyError, ValueError, TypeError, AttributeError):
            raise refusal from None
        return found

    def _consistent(self) -> bool:
        """Whether shapes and sums are right; contents have checksums in the archive."""
        return (
            self.functions.dtype == np.uint8
            and self.functions.shape == (len(self.counts), -(-self.n // 8))
            and self.counts.dtype == self.zeros.dtype == np.int64
            and self.zeros.shape == (self.n,)
            and int(self.counts.sum()) + self.undecided == self.draws
            and bool(np.all(self.counts > 0) and np.all(np.diff(self.counts) <= 0))
        )

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Functions in the order of their hashes, and those."""
        hashes = hashed(self.functions)
        order = np.argsort(hashes)
        return order, hashes[order]

    def _estimate(self, hits: int) -> Estimate:
        evidence = Counts(hits=hits, draws=self.draws)
        notes = []
        if not hits:
            notes.append(f"no draw had this labelling: log P < {evidence.interval(0.95)[1]:.1f} (95 %)")
        if self.undecided:
            notes.append(f"{self.undecided:,} of {self.draws:,} draws have an output that is exactly 0, and no labels")
        return Estimate(
            value=evidence.value(),
            stderr=evidence.stderr(),
            n=self.n,
            method=f"sampled-{self.source}",
            status="ok" if hits else "no-hits",
            message="; ".join(notes),
            diagnostics={"hits": hits, "draws": self.draws, "undecided": self.undecided},
            evidence=evidence,
        )
