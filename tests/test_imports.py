"""What importing the package loads, and what it leaves behind."""

import json
import subprocess
import sys
from typing import Any

import pytest

import nngp_prior


def in_a_new_process(code: str) -> Any:
    """Run code that prints one JSON value last."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


WITHOUT_JAX = [
    "nngp_prior",
    "nngp_prior.schemas.results.estimate",
    "nngp_prior.probability",
    "nngp_prior.data",
    "nngp_prior.data.complexity",
    "nngp_prior.kernels",
    "nngp_prior.schemas.measures.curvature",
    "nngp_prior.sharpness",
    "nngp_prior.prior.learning_curve",
    "nngp_prior.prior.contributions",
    "nngp_prior.prior.posterior",
    "nngp_prior.prior.sampling",
    "nngp_prior.prior.request_runner",
    "nngp_prior.experiments",
    "nngp_prior.local",
    "nngp_prior.cli",
    "api.work",
    "api.app",
    "api.worker",
]
LARGE = ("jax", "neural_tangents", "tensorflow", "scipy.stats", "distributed")


def test_modules_and_the_plan_of_a_study_load_no_jax_nor_all_of_statistics() -> None:
    """One after another in one process, which says whose fault it is; then a study is planned, and figures prepared."""
    code = f"""
import importlib, json, sys
found = {{}}
for module in {WITHOUT_JAX}:
    importlib.import_module(module)
    found[module] = [name for name in {LARGE} if name in sys.modules]
from api.work import WORK, Limits
from nngp_prior.kernels import KernelCache
from nngp_prior.prior.request_runner import RequestRunner
from nngp_prior.schemas.requests import ExperimentRequest
runner = RequestRunner(KernelCache("nowhere", 0), planning=True)
plan = WORK["experiments"].plan(ExperimentRequest(protocol="digits"), runner, Limits(2, 10**11))
import nngp_prior.cli.plots.bound, nngp_prior.cli.plots.kernel, nngp_prior.experiments.report.figures
loaded = [name for name in ("jax", "matplotlib") if name in sys.modules]
print(json.dumps([found, plan.rows, loaded]))
"""
    assert in_a_new_process(code) == [{module: [] for module in WITHOUT_JAX}, 61, []]


def test_package_loads_nothing_heavy_and_client_and_schemas_nothing_that_computes_or_serves() -> None:
    code = """
import importlib, json, pkgutil, sys, nngp_prior
package = list(sys.modules)
nngp_prior.Client
import nngp_prior.schemas
for module in pkgutil.walk_packages(nngp_prior.schemas.__path__, "nngp_prior.schemas."):
    importlib.import_module(module.name)
print(json.dumps([package, list(sys.modules)]))
"""
    package, client = map(set, in_a_new_process(code))
    assert {"numpy", "scipy", "pydantic", "sklearn", "matplotlib"} & package == set()
    assert "nngp_prior.client" in client
    assert {"jax", "scipy", "sklearn", "fastapi", "starlette", "api", "matplotlib", "pandas"} & client == set()


def test_neural_tangents_leaves_jax_as_it_was_and_needs_no_tensorflow() -> None:
    code = """
import importlib.util, json, sys
import jax.core, jax.extend.core
from jax.interpreters import ad
names = ("Jaxpr", "JaxprEqn", "Literal", "Var", "Primitive")
state = lambda: [[hasattr(jax.core, name) for name in names], hasattr(ad, "zeros_like_p"), "jax.util" in sys.modules]
before = state()
import nngp_prior
from nngp_prior.architectures import network
K = nngp_prior.kernel(nngp_prior.FullyConnected(), [[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
network(nngp_prior.FullyConnected())
needless = "neural_tangents" in sys.modules
from nngp_prior.architectures.neural_tangents import stax
print(json.dumps({
    "before": before, "after": state(), "shape": K.shape, "needless": needless,
    "adapted": "neural_tangents" in sys.modules,
    "tensorflow": "tensorflow" in sys.modules, "x64": bool(jax.config.jax_enable_x64),
}))
"""
    found = in_a_new_process(code)
    assert found["after"] == found["before"]
    assert found["shape"] == [3, 3]
    assert not found["needless"]
    assert found["adapted"]
    assert not found["tensorflow"]
    assert not found["x64"]


def test_every_public_name_is_there() -> None:
    for name in set(nngp_prior.__all__) - {"__version__"}:
        assert getattr(nngp_prior, name).__name__ == name
    assert dir(nngp_prior) == sorted(nngp_prior.__all__) == sorted(nngp_prior._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'kernels_'"):
        nngp_prior.kernels_  # noqa: B018
