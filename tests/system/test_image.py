"""The image, built from the Dockerfile and run: user 1000, a read-only root, a volume that outlives containers."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import Client
from nngp_prior.schemas.specs.architecture import FullyConnected
from nngp_prior.schemas.specs.data import Digits, RandomLabels
from tests.experiments.cases import FOUR
from tests.system.containers import Container, Image, debian, missing
from tests.system.server import TOKEN, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(missing()), reason=f"building the image {missing()}"),
]
LONG = [RandomLabels(seed=i) for i in range(60)]  # long enough to be interrupted


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Image]:
    """Based on the root file system NNGP_TEST_BASE, or on Debian's, which later runs find again."""
    given = os.environ.get("NNGP_TEST_BASE")
    base = Path(given) if given else debian(pytestconfig.cache.mkdir("image"))
    image = Image(tmp_path_factory.mktemp("image"), os.environ.get("STORAGE_DRIVER", "vfs"))
    try:
        image.build(base)
        yield image
    finally:
        image.remove()


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    container = Container(image, tmp_path_factory.mktemp("container"), slots=1)
    container.start()
    yield container
    container.kill()


def curl(container: Container, path: str, *options: str) -> str:
    command = ("curl", "-fsS", "-H", f"Authorization: Bearer {TOKEN}", *options, f"{container.url}{path}")
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def estimate(container: Container) -> str:
    body = '{"dataset": {"kind": "digits", "n": 50}, "labellings": [{"kind": "parity"}]}'
    header = ("-H", "Content-Type: application/json", "-H", "Prefer: wait=30")
    return curl(container, "/v1/estimates", *header, "-d", body)


def test_the_image_has_what_runs_and_no_more(image: Image, record_property: Any) -> None:
    record_property("bytes", image.bytes)
    assert image.bytes < 1.1e9
    assert image.config["User"] == "1000:1000"
    assert set(image.config["Volumes"]) == {"/data"}
    (packages,) = image.root.glob("opt/nngp-prior/lib/python3*/site-packages")
    installed = {path.name.split("-")[0] for path in packages.glob("*.dist-info")}
    assert {"nngp_prior", "fastapi", "jaxlib", "matplotlib"} <= installed
    assert installed & {"pip", "setuptools", "hatchling", "pytest", "ruff", "tensorflow"} == set()
    assert not any((image.root / folder).exists() for folder in ("src", "opt/build", "project"))
    assert not list(image.root.glob("usr/bin/*gcc*"))
    assert (image.root / "usr/bin/tar").exists()  # for backups


def test_it_computes_as_user_1000_on_a_read_only_root(container: Container) -> None:
    assert curl(container, "/healthz")
    assert '"status":"ok"' in estimate(container).replace('": ', '":')
    assert {user for process in (container.process, *container.workers) for user in process.uids()} == {1000}
    written = container.execute("touch", "/var/tmp/written")
    assert "Read-only file system" in written.stderr
    owners = {path.stat().st_uid for path in container.home.rglob("*") if path.name != "server.log"}
    assert owners == {1000}
    assert not (container.home / "token").exists()  # the secret's is used
    assert container.execute("nngp-prior", "doctor", "--json").returncode == 0


def test_it_runs_studies_and_draws(container: Container) -> None:
    """Reports and figures need matplotlib, which writes a cache."""
    with Client(container.url, TOKEN) as client:
        job = client.experiment(FOUR)
        assert job.result(timeout=300).finished == 4
        assert "<svg" in job.report()
    assert "Traceback" not in container.log()


def test_its_health_is_that_of_the_service(container: Container) -> None:
    kind, *check = container.image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert container.execute(*check).returncode == 0
    (worker,) = container.workers
    container.process.children()[0].suspend()
    try:
        assert container.execute(*check).returncode != 0
    finally:
        container.process.children()[0].resume()
    assert worker.is_running()


@pytest.mark.parametrize(("how", "seed"), [("stop", 0), ("kill", 1)])
def test_jobs_survive_their_container(container: Container, how: str, seed: int) -> None:
    known = estimate(container)
    with Client(container.url, TOKEN) as client:
        job = client.estimate(FullyConnected(), Digits(n=100), LONG, seed=seed)
        wait_for(lambda: job.status().current >= 5, 60, container.log)
        workers = container.workers
        getattr(container, how)()
        assert not any(worker.is_running() for worker in workers)
        container.start()
        assert 0 < job.status().current < len(LONG)
        results = job.result(timeout=300)
    assert len(results) == len(LONG)
    assert np.isfinite(results.values).all()
    assert estimate(container) == known  # seconds too: not computed again


def test_a_backup_without_kernels_is_a_store(image: Image, container: Container, tmp_path: Path) -> None:
    """As docs/docker.md makes and restores it."""
    known = estimate(container)
    container.stop()
    try:
        restored = Container(image, tmp_path, slots=1)
        archive = tmp_path / "store.tar"
        subprocess.run(["tar", "-cf", archive, "--exclude=./kernels", "-C", container.home, "."], check=True)
        subprocess.run(["tar", "-xf", archive, "-C", restored.home], check=True)
        restored.start()
        try:
            assert estimate(restored) == known
        finally:
            restored.kill()
    finally:
        container.start()
