"""Report of a study: one HTML file, one Markdown file, and figures with their data."""

from nngp_prior.experiments.report.write import write_report

__all__ = ["write_report"]


def __dir__() -> list[str]:
    return sorted(__all__)
