"""Run the benchmarks, print their tables and write them to ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import datetime
import os
import time
from collections.abc import Callable, Iterable

from benchmarks import (
    accuracy,
    approximations,
    attack,
    backends,
    boolean,
    bounds,
    calibration,
    cholesky,
    classes,
    convolutions,
    dask_workers,
    extremes,
    gpu,
    gpy,
    images,
    kernels,
    kills,
    labellings,
    large,
    memory,
    mixed,
    scipy_mvn,
    service,
    sharpness,
    training,
)
from benchmarks.machine import describe
from benchmarks.report import RESULTS, Table, as_markdown, say, write
from benchmarks.timing import HOW

BUSY = 0.5  # mean number of running processes over the last minute

PARTS: dict[str, Callable[[bool], Iterable[Table]]] = {
    "accuracy": accuracy.run,
    "calibration": calibration.run,
    "skewed": calibration.run_skewed,
    "cholesky": cholesky.run,
    "classes": classes.run,
    "kernels": kernels.run,
    "labellings": labellings.run,
    "bounds": bounds.run,
    "boolean": boolean.run,
    "training": training.run,
    "memory": memory.run,
    "extremes": extremes.run,
    "large": large.run,
    "approximations": approximations.run,
    "service": service.run,
    "dask": dask_workers.run,
    "kills": kills.run,
    "mixed": mixed.run,
    "attack": attack.run,
    "sharpness": sharpness.run,
    "images": images.run,
    "convolutions": convolutions.run,
    "backends": backends.run,
    "gpu": gpu.run,
    "scipy_mvn": scipy_mvn.run,
    "gpy": gpy.run,
}


def main() -> None:
    """Run the parts asked for; results are written after each table, so that an interrupted run keeps what it has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="small n: whether everything runs, not what it takes")
    parser.add_argument("--name", help="short name of the result files; the default says what was run")
    arguments = parser.parse_args()
    chosen = [part for part in PARTS if part in (arguments.only or PARTS)]
    name = arguments.name or "-".join([*(chosen if arguments.only else ["all"]), *["quick"] * arguments.quick])
    stem = f"{datetime.date.today().isoformat()}-{name}"
    began, tables = time.perf_counter(), []
    load = os.getloadavg()[0]
    if load > BUSY:
        say(f"the machine is busy (load {load:.1f}): times will be longer than on a quiet one, and uneven")
    for part in chosen:
        for table in PARTS[part](arguments.quick):
            print(as_markdown(table), flush=True)
            tables.append(table)
            write(stem, {"quick": arguments.quick, "timing": HOW, "machine": describe(load)}, tables)
    print(f"{RESULTS.name}/{stem}.json and .md, {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
