"""The Python lines of the README and of pages of the documentation that have no test of their own."""

import ast
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngp_prior import FullyConnected, kernel

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def names() -> dict[str, Any]:
    """What pages take for given: inputs, labels and a kernel."""
    X = np.random.default_rng(0).standard_normal((500, 20))
    y = np.where(X[:, 0] > 0, 1, -1)
    return {"X": X, "y": y, "K": kernel(FullyConnected(), X), "np": np}


def run(page: str, names: dict[str, Any]) -> None:
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", ["bounds", "complexity"])
def test_the_lines_of_a_page(page: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(f"docs/{page}.md", names)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_pages_import_what_is_there(page: Path) -> None:
    """Also pages whose lines are run by slow tests only."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), page.name, "exec"), {})


@pytest.mark.usefixtures("cifar10_data")
def test_the_lines_of_the_page_on_data(names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("docs/data.md", names)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["estimators", "executors", "kernels", "sampling", "tutorial"])
def test_the_lines_of_a_long_page(
    page: str, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(f"docs/{page}.md", names)


def test_the_lines_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("README.md", {})


@pytest.mark.slow
def test_the_site_has_no_broken_link(tmp_path: Path) -> None:
    """Strict: a link or an anchor that leads nowhere is an error."""
    if find_spec("mkdocs") is None:
        pytest.skip("the packages of the extra docs are not installed (make docs)")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    html = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html"))
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://(?!127)[^"]*"', html)
    assert ":func:" not in html
    shutil.rmtree(tmp_path / "site")
