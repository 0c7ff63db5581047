"""The lines of ``docs/training.md``."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


@pytest.mark.slow
def test_the_lines_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    trained, network, (inputs, labels) = names["trained"], names["network"], names["sets"].test
    assert trained.statuses == ("zero-error",) * 3
    assert np.array_equal(names["f"], trained.test_outputs)
    assert np.mean(names["f"] * labels <= 0, axis=1) == pytest.approx(trained.test_error)
    assert [leaf[0].shape for leaf in names["other"] if leaf] == [leaf[0].shape for leaf in names["parameters"] if leaf]
    assert network.depth == 2
    assert len(inputs) == 300
