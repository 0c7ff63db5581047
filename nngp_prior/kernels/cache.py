"""On-disk cache of kernels, keyed by the hash of everything that determines them.

An entry is ``<key>.npy`` and its journal, in the folder ``kernels`` under ``NNGP_HOME``; an interrupted entry is
resumed at the next request. Processes may share a cache: one computes an entry, the others wait for it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from nngp_prior.errors import InvalidInput, ResourceLimit
from nngp_prior.kernels.analytic import in_memory
from nngp_prior.kernels.cost import require_disk
from nngp_prior.kernels.disk import on_disk, partial_path, verified
from nngp_prior.kernels.job import KernelJob
from nngp_prior.kernels.locks import lock, locked
from nngp_prior.kernels.tile_journal import JournalHeader, header_beside, journal_path
from nngp_prior.progress import ProgressCallback, ProgressOption, shown
from nngp_prior.schemas.specs.architecture import Architecture
from nngp_prior.schemas.text import size
from nngp_prior.settings import Settings

_WITHOUT = "Set NNGP_HOME to another folder, or NNGP_CACHE_BYTES=0 to do without a cache"


@dataclass(frozen=True)
class Entry:
    """A kernel in a cache.

    Attributes:
        path: path of the matrix.
        header: key, size, dtype, architecture and additional description.
        bytes: size on the disk.
        last_use: time of the last request.
        finished: False if interrupted or still being computed.
    """

    path: Path
    header: JournalHeader
    bytes: int
    last_use: datetime
    finished: bool

    def __repr__(self) -> str:
        return f"<Entry {self.header.key[:12]}, {self.header.grid.n:,} × {self.header.grid.n2:,}, {size(self.bytes)}>"

    @property
    def document(self) -> dict[str, Any]:
        """Return the entry as a JSON document."""
        grid = self.header.grid
        return {
            "kernel": self.header.key,
            "n": grid.n,
            "n2": grid.n2,
            "dtype": self.header.dtype,
            "bytes": self.bytes,
            "last_use": self.last_use.isoformat(),
            "finished": self.finished,
            **self.header.about,
        }


class KernelCache:
    """A folder of kernels.

    Args:
        folder: created on first use; default: ``kernels`` under ``NNGP_HOME``.
        limit: maximum size in bytes, beyond which the least recently used are removed; default: ``NNGP_CACHE_BYTES``.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        settings = Settings()
        self.folder = settings.home / "kernels" if folder is None else folder
        self.limit = settings.cache_bytes if limit is None else limit

    def kernel(
        self,
        architecture: Architecture,
        X: ArrayLike,
        X2: ArrayLike | None = None,
        *,
        get: str = "nngp",
        dtype: str = "float64",
        progress: ProgressOption = None,
        about: dict[str, Any] | None = None,
    ) -> Float[np.ndarray, "n n2"]:
        """As :func:`nngp_prior.kernel`, from the cache if the entry exists and is intact.

        Args:
            architecture: specification of the network.
            X: (n, …) inputs.
            X2: (n2, …) other inputs.
            get: as for :func:`nngp_prior.kernel`.
            dtype: ``float64`` or ``float32``.
            progress: True to show progress, or a callback.
            about: description of the entry in addition to the architecture.

        Returns:
            the matrix; a read-only map of the entry, which is not removed as long as any process has such a map. A
            matrix larger than the limit of the cache is computed in memory.
        """
        job = KernelJob.of(architecture, X, X2, get, dtype)
        with shown(progress, f"kernel of {job.shape[0]:,} inputs") as tell:
            return self.of(job, tell, about)

    def of(self, job: KernelJob, progress: ProgressCallback, about: dict[str, Any] | None = None) -> np.ndarray:
        """As :meth:`kernel`.

        Args:
            job: the kernel job.
            progress: progress callback, called per computed tile.
            about: description of the entry in addition to the architecture.

        Returns:
            the matrix.

        Raises:
            InvalidInput: if the folder cannot be created or written to.
            ResourceLimit: if the matrix does not fit on the disk.
        """
        if job.nbytes > self.limit:
            return in_memory(job, progress)
        path = self.path(job.key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise InvalidInput("NNGP_HOME", f"{self.folder} cannot be written to", f"{_WITHOUT}.")
            if not path.exists() and not partial_path(path).exists():
                self.evict(self.limit - job.nbytes)
                require_disk(job, self.folder)
            K = on_disk(job, path, progress, about=about, cached=True)
            os.utime(journal_path(path))
        except ResourceLimit as error:
            raise ResourceLimit(f"{error} {_WITHOUT}.") from None
        except OSError as error:
            raise InvalidInput("NNGP_HOME", f"{self.folder} cannot be used ({error})", f"{_WITHOUT}.") from None
        return K

    def require_room(self, job: KernelJob) -> None:
        """Refuse a kernel that cannot be an entry.

        Args:
            job: the kernel job.

        Raises:
            ResourceLimit: if it exceeds the limit of the cache, or the free space on the disk.
        """
        if job.nbytes > self.limit:
            largest = math.isqrt(self.limit // np.dtype(job.dtype).itemsize)
            raise ResourceLimit(
                f"n: a kernel of {job.shape[0]:,} × {job.shape[1]:,} inputs takes {job.nbytes / 2**30:.1f} GiB and all "
                f"of the cache {self.limit / 2**30:.1f} GiB. Use at most {largest:,} inputs, or raise NNGP_CACHE_BYTES."
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        require_disk(job, self.folder)

    def path(self, key: str) -> Path:
        """Return the path of the matrix with a key, whether or not it exists."""
        return self.folder / f"{key}.npy"

    def entries(self) -> list[Entry]:
        """List the entries, the most recently used first.

        Returns:
            finished and unfinished entries.
        """
        found = [self._entry(ledger.with_suffix("")) for ledger in self.folder.glob("*.npy.tiles")]
        return sorted((entry for entry in found if entry), key=lambda entry: entry.last_use, reverse=True)

    def entry(self, key: str) -> Entry | None:
        """Get the entry of a kernel.

        Args:
            key: full key.

        Returns:
            its entry, finished or not; None if there is none.
        """
        return self._entry(self.path(key))

    def remove(self, key: str) -> bool:
        """Remove an entry, unless any process computes or uses it.

        Args:
            key: full key.

        Returns:
            False if it was not removed.
        """
        return _remove(self.path(key))

    def find(self, key: str) -> Entry:
        """Find a finished entry by its key or a prefix of it.

        Args:
            key: key, or its beginning.

        Returns:
            the only finished entry whose key begins so.

        Raises:
            InvalidInput: if there is none, or several.
        """
        found = [entry for entry in self.entries() if entry.finished and key and entry.header.key.startswith(key)]
        if len(found) != 1:
            problem = f"{len(found)} kernels in {self.folder} have a key that begins with {key!r}"
            raise InvalidInput("key", problem, "Look at what is there (list), and give more of the key.")
        return found[0]

    def open(self, key: str) -> Float[np.ndarray, "n n2"]:
        """Open the matrix of an entry.

        Args:
            key: key, or its beginning.

        Returns:
            a read-only map.

        Raises:
            InvalidInput: if there is none, or several, or its file is damaged.
        """
        entry = self.find(key)
        K = verified(entry.path)
        if K is None:
            raise InvalidInput("key", f"{entry.path} is damaged", "Compute it again.")
        return K

    def evict(self, limit: int | None = None) -> list[Entry]:
        """Remove the least recently used entries. Entries in use by any process are kept.

        Args:
            limit: size in bytes to reduce the cache to; default: the limit of the cache.

        Returns:
            the removed entries.
        """
        limit = self.limit if limit is None else limit
        self._remove_unreadable()
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        removed = []
        for entry in reversed(entries):
            if total <= limit:
                break
            if _remove(entry.path):
                removed.append(entry)
                total -= entry.bytes
        return removed

    def _remove_unreadable(self) -> None:
        """Remove matrices without a readable journal: they are not listed, yet occupy space."""
        for pattern in ("*.npy", "*.npy.tiles", "*.npy.partial"):
            for found in self.folder.glob(pattern):
                path = found if found.suffix == ".npy" else found.with_suffix("")
                if header_beside(path) is None:
                    _remove(path)

    def _entry(self, path: Path) -> Entry | None:
        header = header_beside(path)
        try:
            finished = path.exists()
            # Unfinished files are sparse.
            size = path.stat().st_size if finished else 512 * partial_path(path).stat().st_blocks
            last_use = datetime.fromtimestamp(journal_path(path).stat().st_mtime, UTC)
        except OSError:  # removed in the meantime
            return None
        return None if header is None else Entry(path, header, size, last_use, finished)


def _remove(path: Path) -> bool:
    """Remove an entry unless any process computes or uses it."""
    with locked(journal_path(path), wait=False) as ledger:
        if ledger is None:
            return False
        if path.exists():
            with path.open("r+b") as file:  # NFS gives exclusive locks to writers only
                if not lock(file, exclusive=True, wait=False):
                    return False
                path.unlink()
        partial_path(path).unlink(missing_ok=True)
        ledger.truncate(0)  # an empty journal is removed on closing
    return True
