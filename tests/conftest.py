"""Shapes of annotated arrays are checked while tests run; real images are used where they are.

Tests spend most of their time in compilers, and little in what they compile. XLA leaves its optimisations out and does
not divide programs among threads, here and in the processes that tests start (``XLA_FLAGS= pytest`` tests what users
run), and what it has compiled is kept in ``.pytest_cache/jax`` under JAX's own key: the program, the options and the
versions.
"""

import gc
import importlib.metadata
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import Postgres, postgres_or_skip
from tests.shapes import check_shapes

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_parallel_codegen_split_count=1",
)

# All processes share the folder. JAX writes in place: an entry that is half there fails its checksum and is compiled
# again, with a warning that pyproject.toml ignores.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# All rooms but numerics.gaussian, whose functions are called for each site and coordinate, and schemas, which pydantic
# validates.
_CHECKED = [
    "numerics.linalg",
    "numerics.random",
    "architectures",
    "data",
    "kernels",
    "probability",
    "prior",
    "sharpness",
]
check_shapes([f"nngp_prior.{room}" for room in _CHECKED])


def pytest_collection_finish() -> None:
    """Exempt modules and collected tests, which live as long as the process, from garbage collection; collect rarely.

    Tracing allocates many containers that live long: with the default thresholds the collector takes 4 % of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


_BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def image_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with MNIST and Fashion-MNIST, also set as NNGP_DATA; the test is skipped where there is none."""
    folder = Path(os.environ.get("NNGP_DATA", _BESIDE))
    if not (folder / "mnist").is_dir():
        pytest.skip("no MNIST: set NNGP_DATA to a folder with mnist/")
    monkeypatch.setenv("NNGP_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for tests that need no other; those are skipped where there is none to start."""
    server = postgres_or_skip()
    yield server.start()
    server.remove()


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is kept in, or taken from, the cache of whoever runs the tests; processes started by tests inherit it."""
    os.environ["NNGP_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture
def cifar10_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with CIFAR-10, also set as NNGP_DATA; the test is skipped where there is none."""
    folder = Path(os.environ.get("NNGP_DATA", _BESIDE))
    if not (folder / "cifar10").is_dir():
        pytest.skip("no CIFAR-10: set NNGP_DATA to a folder with cifar10/")
    monkeypatch.setenv("NNGP_DATA", str(folder))
    return folder / "cifar10"


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of an extra is installed, as far as the package's metadata tell."""

    found = importlib.metadata.distribution

    def only_the_package_itself(name: str) -> importlib.metadata.Distribution:
        if name != "nngp-prior":
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", only_the_package_itself)
