"""The wheel, installed into a fresh environment without extras, from the package index in use."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import nngp_prior

ROOT = Path(__file__).parents[2]
USE = """
import json
import numpy as np
from importlib.metadata import distributions
from nngp_prior import FullyConnected, NNGPClassifier, kernel, log_probability, posterior

rng = np.random.default_rng(0)
X = rng.standard_normal((20, 3))
y = np.where(X[:, 0] > 0, 1, -1)
K = kernel(FullyConnected(depth=1), X)
classifier = NNGPClassifier().fit(X, np.where(y > 0, "yes", "no"))
print(json.dumps({
    "log_p": log_probability(K, y).value,
    "predictive": posterior(K, y[:15]).predictive().value.tolist(),
    "classes": classifier.predict(X).tolist(),
    "packages": sorted({each.name.lower().replace("_", "-") for each in distributions()}),
}))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel and its dependencies alone."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, timeout=900)
    return python


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, *arguments], cwd=program.parent, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_core_alone(program: Path) -> None:
    ended = run(program, "-c", USE)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert -25 < found["log_p"] < 0
    assert len(found["predictive"]) == 5
    assert set(found["classes"]) == {"no", "yes"}
    packages = set(found["packages"])
    assert "nngp-prior" in packages
    assert [name for name in packages if "tensorflow" in name] == []
    assert packages & {"alembic", "fastapi", "matplotlib", "pandas", "sqlalchemy", "starlette", "uvicorn"} == set()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_command_line_of_the_core_alone(program: Path) -> None:
    command = str(program.parent / "nngp-prior")
    version = run(Path(command), "--version")
    assert (version.returncode, version.stdout) == (0, f"nngp-prior {nngp_prior.__version__}\n")
    estimate = run(Path(command), "estimate", "-n", "20", "--labelling", "parity", "--json", "--quiet")
    assert json.loads(estimate.stdout)["results"][0]["status"] == "ok"
    for arguments in (["serve"], ["demo"]):
        refused = run(Path(command), *arguments)
        said = 'error: alembic: is not installed. Run: pip install "nngp-prior[service]"\n'
        assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", said)
    plot = run(Path(command), "kernel", "plot", "K.npy", "--out", "K.png")
    assert (plot.returncode, plot.stderr) == (
        2,
        'error: matplotlib: is not installed. Run: pip install "nngp-prior[plots]"\n',
    )
