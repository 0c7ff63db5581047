"""Counts of drawn functions."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8, Integer, UInt8
from numpy.typing import ArrayLike
from typing_extensions import override

from nngp_prior.data.npy import read_npz
from nngp_prior.errors import DataUnavailable
from nngp_prior.numerics.whole_files import written_whole
from nngp_prior.prior.sampling.packing import hashed, pack, unpack
from nngp_prior.schemas.results.estimate import Counts, Estimate
from nngp_prior.schemas.results.sample import draw_frequencies, function_columns
from nngp_prior.schemas.specs.labels import check_labels
from nngp_prior.schemas.table import Table, Tabular
from nngp_prior.schemas.text import number_of

_FORMAT = 1
_UNPACKED = 1000  # functions unpacked at a time
_POINTS = 200  # points of a plot; more are indistinguishable
_KEYS = ("about", "functions", "counts", "zeros")


class RankedFunction(NamedTuple):
    """A function and the number of its draws.

    Attributes:
        rank: 1 for the most frequent one.
        labels: (n,) -1 and +1.
        draws: number of its draws.
        frequency: log of its frequency, with an exact binomial interval.
    """

    rank: int
    labels: Int8[np.ndarray, " n"]
    draws: int
    frequency: Estimate

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank}, {number_of(self.draws, 'draw')}: {self.frequency}>"


@dataclass(frozen=True, eq=False, repr=False)
class FunctionCounts(Tabular):
    """The functions among independent draws from a prior, most frequent first; the data frame has a row for each.

    A draw with an output that is exactly 0 has no label there. It is counted in ``undecided`` and belongs to no
    function, but is included in ``draws``: P(y) is the probability of y_i f_i > 0 at all inputs.

    Attributes:
        functions: the distinct ones, most frequent first, eight labels per byte (the first input's in the highest bit);
            the order of equally frequent ones does not depend on that of their draws.
        counts: number of draws of each.
        n: number of inputs.
        draws: number of all draws, undecided ones included.
        undecided: number of draws with an output that is exactly 0.
        zeros: for each input, number of draws whose output there is exactly 0.
        about: everything that the draws depend on: source, seed, architecture, a hash of the inputs.
    """

    functions: UInt8[np.ndarray, "m bytes"]
    counts: Integer[np.ndarray, " m"]
    n: int
    draws: int
    undecided: int
    zeros: Integer[np.ndarray, " n"]
    about: dict[str, Any]

    @override
    def _summary(self) -> str:
        functions = f"{number_of(len(self), 'function')} of {number_of(self.n, 'input')}"
        return f"{number_of(self.draws, 'draw')} of {self.source}: {functions}"

    @override
    def _table(self) -> Table:
        return Table(function_columns(), self)

    @override
    def _draw(self, ax: Any) -> None:
        shown = np.unique(np.geomspace(1, max(len(self), 1), _POINTS).astype(int))[: len(self)]
        counts = self.counts[shown - 1].tolist()
        ends = {count: self._estimate(count).interval() or (math.nan, math.nan) for count in set(counts)}
        draw_frequencies(ax, shown, counts, [ends[count] for count in counts], self.draws)

    @property
    def source(self) -> str:
        """``networks`` or ``gp``."""
        return self.about["source"]

    def __len__(self) -> int:
        """Number of distinct functions."""
        return len(self.functions)

    def __iter__(self) -> Iterator[RankedFunction]:
        """Yield all functions, the most frequent first."""
        for start in range(0, len(self), _UNPACKED):
            yield from self._ranked(start, min(start + _UNPACKED, len(self)))

    def labels(self, ranks: slice | Sequence[int] | np.ndarray = slice(None)) -> Int8[np.ndarray, "m n"]:
        """Return functions as labels -1 and +1.

        Args:
            ranks: indices, from 0 for the most frequent one; default: all, which takes n bytes for each.

        Returns:
            one function per row.
        """
        return unpack(self.functions[ranks], self.n)

    def frequency(self, y: ArrayLike) -> Estimate:
        """Return the log of the fraction of draws with the given labels.

        Args:
            y: (n,) integers -1/+1 or booleans.

        Returns:
            the estimate of log P of networks or of the Gaussian process, with Clopper and Pearson's exact interval.

        Raises:
            InvalidLabels: if there are other labels, or not n of them.
        """
        return self._estimate(self.count(y))

    def count(self, y: ArrayLike) -> int:
        """Count the draws with the given labels.

        Args:
            y: (n,) integers -1/+1 or booleans.

        Returns:
            number of draws, possibly 0.

        Raises:
            InvalidLabels: if there are other labels, or not n of them.
        """
        packed = pack(check_labels(y, self.n)[None] > 0)
        order, hashes = self._index
        key = hashed(packed)[0]
        places = order[np.searchsorted(hashes, key, "left") : np.searchsorted(hashes, key, "right")]
        found = places[(self.functions[places] == packed).all(axis=1)]
        return int(self.counts[found].sum())

    def top(self, k: int, least: int = 1) -> list[RankedFunction]:
        """Return the most frequent functions.

        Args:
            k: number of functions.
            least: minimum number of draws of each.

        Returns:
            k of them, or fewer if there are not as many.
        """
        return self._ranked(0, min(k, int(np.sum(self.counts >= least))))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all counts to a file, atomically.

        Args:
            path: path of the ``.npz`` file.
        """
        path = Path(path)
        about = {"format": _FORMAT, "n": self.n, "draws": self.draws, "undecided": self.undecided, **self.about}
        with written_whole(path) as file:
            np.savez(
                file, about=np.array(json.dumps(about)), functions=self.functions, counts=self.counts, zeros=self.zeros
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FunctionCounts:
        """Read a file written by :meth:`save`.

        Args:
            path: path of the file.

        Returns:
            the same counts.

        Raises:
            DataUnavailable: if the file does not exist, is damaged, or has other content.
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
        """True if shapes and sums are right; contents have checksums in the archive."""
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
        """Return the indices that sort functions by their hashes, and the sorted hashes."""
        hashes = hashed(self.functions)
        order = np.argsort(hashes)
        return order, hashes[order]

    def _ranked(self, start: int, stop: int) -> list[RankedFunction]:
        some = slice(start, stop)
        return [
            RankedFunction(rank, labels, count, self._estimate(count))
            for rank, labels, count in zip(
                range(start + 1, stop + 1), self.labels(some), self.counts[some].tolist(), strict=True
            )
        ]

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
