"""Names of PAC-Bayes inequalities."""

from __future__ import annotations

from typing import Literal

BoundName = Literal[
    "realizable", "maurer", "langford-seeger", "valle-perez-camargo-louis", "mcallester", "valle-perez-louis"
]
