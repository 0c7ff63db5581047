"""A store that several services of one database share."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from api import blobs
from api.blobs import BlobStore
from api.files import StoreLock, sweep
from api.problems import Problem
from nngp_prior.errors import InvalidInput
from tests.api.apps import npy, settings, sha256


def test_a_shared_lock_excludes_services_that_do_not_share(tmp_path: Path) -> None:
    locks = [StoreLock(tmp_path, shared=True) for _ in range(2)]
    with pytest.raises(InvalidInput, match="another service uses"):
        StoreLock(tmp_path)
    assert all(lock.holds() for lock in locks)
    for lock in locks:
        lock.release()
    alone = StoreLock(tmp_path)
    assert alone.leads()
    with pytest.raises(InvalidInput, match="another service uses"):
        StoreLock(tmp_path, shared=True)
    alone.release()


def test_one_of_the_services_cleans_up_and_another_after_it(tmp_path: Path) -> None:
    first, second = StoreLock(tmp_path, shared=True), StoreLock(tmp_path, shared=True)
    assert [first.leads(), second.leads(), first.leads()] == [True, False, True]
    first.release()
    assert second.leads()
    second.release()


def test_files_that_another_service_is_writing_are_kept(tmp_path: Path) -> None:
    new, old = tmp_path / "new.tmp", tmp_path / "old.tmp"
    for path in (new, old):
        path.touch()
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    sweep(tmp_path, shared=True)
    assert (new.exists(), old.exists()) == (True, False)
    sweep(tmp_path)
    assert not new.exists()


def test_the_quota_counts_uploads_to_other_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [npy(np.full(1000, float(i))) for i in range(3)]
    size = len(contents[0])
    stores = [BlobStore(settings(tmp_path, blob_quota_bytes=2 * size), shared=True) for _ in range(2)]
    for store in stores:
        store.start()

    def upload(store: BlobStore, content: bytes) -> None:
        with store.upload(sha256(content), len(content)) as receiving:
            receiving.write(content)
            receiving.finish()

    for store, content in zip(stores, contents, strict=False):
        upload(store, content)
    assert [store.bytes for store in stores] == [size, size]  # counted lately
    monkeypatch.setattr(blobs, "_RECOUNT", 0.0)
    assert [store.bytes for store in stores] == [2 * size, 2 * size]
    with pytest.raises(Problem, match="NNGP_BLOB_QUOTA_BYTES"):
        upload(stores[0], contents[2])
    assert stores[1].remove(sha256(contents[0]))
    upload(stores[0], contents[2])
    assert stores[0].describe(sha256(contents[0])) is None
