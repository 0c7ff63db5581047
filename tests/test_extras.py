"""The core needs no package of an extra; what does says what to install."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nngp_prior.errors import MissingExtra
from nngp_prior.extras import require_extra

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
MODULES = {
    "alembic",
    "distributed",
    "fastapi",
    "ipykernel",
    "jinja2",
    "jupytext",
    "latex2mathml",
    "matplotlib",
    "mkdocs_material",
    "mkdocstrings",
    "nbclient",
    "neural_tangents",
    "pandas",
    "prometheus_client",
    "prometheus_fastapi_instrumentator",
    "psycopg",
    "sqlalchemy",
    "starlette",
    "structlog",
    "tensorflow",
    "uvicorn",
}
# All modules but the one that is for an extra, then a number from each of the core's rooms.
CORE = f"""
import importlib, importlib.abc, json, pkgutil, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MODULES}:
            raise ModuleNotFoundError(f"{{name}} is of an extra", name=name)

sys.meta_path.insert(0, Blocked())
import nngp_prior
names = [module.name for module in pkgutil.walk_packages(nngp_prior.__path__, "nngp_prior.")]
names.remove("nngp_prior.architectures.neural_tangents")
for name in names:
    importlib.import_module(name)
X = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
K = nngp_prior.kernel(nngp_prior.FullyConnected(depth=1), X)
estimate = nngp_prior.log_probability(K, [1, 1, -1], method="closed-form")
print(json.dumps([len(names), estimate.value, sorted({MODULES} & set(sys.modules))]))
"""


def test_the_core_imports_no_package_of_an_extra() -> None:
    ended = subprocess.run([sys.executable, "-c", CORE], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    count, value, loaded = json.loads(ended.stdout)
    assert count > 200
    assert -10 < value < 0
    assert loaded == []


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def test_the_names_above_are_those_of_the_extras() -> None:
    """Of packages that the core does not need either; what JAX and httpx2 bring along stays importable."""
    core = {_name(requirement) for requirement in PROJECT["dependencies"]} | {"anyio", "h11", "nngp-prior"}
    optional = {_name(requirement).replace("-", "_") for extra in EXTRAS.values() for requirement in extra}
    assert optional - {name.replace("-", "_") for name in core} | {"tensorflow"} == MODULES


@pytest.mark.parametrize("extra", ["service", "plots", "neural-tangents"])
def test_a_missing_package_of_an_extra_is_named(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    require_extra(extra)
    missing = _name(EXTRAS[extra][-1])
    found = importlib.metadata.distribution

    def without(name: str) -> importlib.metadata.Distribution:
        if name == missing:
            raise importlib.metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without)
    with pytest.raises(MissingExtra) as caught:
        require_extra(extra)
    assert str(caught.value) == f'{missing}: is not installed. Run: pip install "nngp-prior[{extra}]"'
    assert isinstance(caught.value, ImportError)


def test_all_are_those_that_any_machine_can_use() -> None:
    (everything,) = EXTRAS["all"]
    named = set(re.findall(r"[a-z-]+", everything.partition("[")[2]))
    assert named == set(EXTRAS) - {"all", "cuda", "docs", "neural-tangents"}
