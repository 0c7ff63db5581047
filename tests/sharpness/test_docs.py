"""The lines of ``docs/sharpness.md``."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "sharpness.md"


@pytest.mark.slow
def test_the_lines_of_the_page() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert abs(names["largest"].max() - names["report"]["lambda_max"].value) < 1e-6 * names["largest"].max()
