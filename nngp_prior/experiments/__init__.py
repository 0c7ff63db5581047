"""Studies: which quantity predicts generalization? Protocols, runs that can be resumed, statistics and reports."""

from nngp_prior.experiments.files import built_in, read_protocol
from nngp_prior.experiments.study import Study, load, run

__all__ = ["Study", "built_in", "load", "read_protocol", "run"]


def __dir__() -> list[str]:
    return sorted(__all__)
