"""Peak resident memory of data, kernel and default estimate: run as ``python -m benchmarks.peak_memory N``.

A process of its own, because a peak cannot be taken back. On Linux the figure is ``VmHWM``: ``ru_maxrss`` can be the
peak of the process that started this one.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from benchmarks.problems import ARCHITECTURE, LABELLINGS, inputs
from nngp_prior import kernel, log_probability
from nngp_prior.data import label


def peak_gb() -> float:
    """The largest resident set of this process so far, in units of 1e9 bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main(n: int) -> None:
    """Print the peaks along the way, as JSON."""
    data = inputs(n)
    y = label(LABELLINGS["threshold:5"], data.classes)
    before = peak_gb()
    K = kernel(ARCHITECTURE, data.X)
    after_kernel = peak_gb()
    log_probability(K, y)
    peak, matrix = peak_gb(), K.nbytes / 1e9
    figures = {"before_gb": before, "after_kernel_gb": after_kernel, "peak_gb": peak, "matrix_gb": matrix}
    print(json.dumps(figures | {"peak_ratio": peak / matrix}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
