"""A worker in a network namespace of its own, as on another host: its link is cut and restored."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.cluster import Cluster
from tests.system.dask_service import DaskService
from tests.system.server import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE, THERE = "10.213.97.1", "10.213.97.2"


class Link:
    """A pair of virtual network interfaces, one of them in another namespace."""

    def __init__(self) -> None:
        self.space = f"nngp-{os.getpid()}"
        self._here, there = f"nngp{os.getpid() % 10**8}a", f"nngp{os.getpid() % 10**8}b"
        _ip("netns", "add", self.space)
        _ip("link", "add", self._here, "type", "veth", "peer", "name", there, "netns", self.space)
        _ip("address", "add", f"{HERE}/30", "dev", self._here)
        _ip("-n", self.space, "address", "add", f"{THERE}/30", "dev", there)
        _ip("-n", self.space, "link", "set", "lo", "up")
        _ip("-n", self.space, "link", "set", there, "up")
        self.restore()

    def cut(self) -> None:
        _ip("link", "set", self._here, "down")

    def restore(self) -> None:
        _ip("link", "set", self._here, "up")

    def close(self) -> None:
        _ip("link", "delete", self._here)
        _ip("netns", "delete", self.space)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def link() -> Iterator[Link]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs the command ip, and the right to create network namespaces")
    try:
        link = Link()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the right to create network namespaces: {error.stderr.decode()}")
    yield link
    link.close()


def test_link_that_is_cut_and_restored(link: Link, tmp_path: Path) -> None:
    """A short cut is no loss. After a long one the unit is computed elsewhere, and its worker has stopped it."""
    service = DaskService(tmp_path, Cluster(tmp_path, host=HERE), workers=1)
    try:
        far = service.add_worker(("ip", "netns", "exec", link.space))
        service.has_workers(2)
        assert f"tcp://{THERE}:" in far.log()
        job_id = service.post(0)
        service.some_rows(job_id, 5)
        link.cut()
        time.sleep(3)
        link.restore()
        service.is_right(job_id)
        assert service.job(job_id)["losses"] == 0

        job_id = service.post(1)
        service.some_rows(job_id, 5)
        wait_for(lambda: service.busy(far), 60, service.logs)
        link.cut()
        service.is_right(job_id, 1)
        assert service.job(job_id)["losses"] == 1
        wait_for(lambda: not service.busy(far), 60, service.logs)
        link.restore()
        service.has_workers(2)
        job_id = service.post(2)
        wait_for(lambda: service.busy(far), 60, service.logs)
        service.is_right(job_id, 2)
    finally:
        service.close()
