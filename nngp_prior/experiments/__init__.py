"""Studies: which quantity predicts generalization? Protocols, runs that can be resumed, statistics and reports."""

from nngp_prior.experiments.frequencies.study import FrequencyStudy
from nngp_prior.experiments.study import Study, load, run
from nngp_prior.schemas.protocol_files import built_in, read_protocol

__all__ = ["FrequencyStudy", "Study", "built_in", "load", "read_protocol", "run"]


def __dir__() -> list[str]:
    return sorted(__all__)
