"""What the report on our own studies says of each."""

from __future__ import annotations

from rotvq.report import style
from rotvq.report.page import Picture
from rotvq.studies.ablations import figures, tables, verdicts
from rotvq.studies.ablations.studies import BRANCH
from rotvq.studies.paper.page import Contents
from rotvq.studies.paper.results import Results
from rotvq.studies.paper.tables import Table
from rotvq.studies.paper.verdicts import Verdict
from rotvq.studies.suites import ABLATIONS


def _tables(study: str, results: Results) -> tuple[Table, ...]:
    match study:
        case "steps":
            return (tables.ladder(results),)
        case "options":
            return (tables.levers(results, results.of("steps", BRANCH)),)
        case "codebooks":
            return (tables.codebooks(results),)
        case "best":
            return (tables.best(results),)
    return ()


def _pictures(study: str, results: Results) -> tuple[Picture, ...]:
    match study:
        case "steps":
            png = figures.rungs(tables.rows_of(results, study))
            alt = "MSE, SSIM and perplexity of every rung of the ladder."
            caption = "Each rung keeps what is above it. Large: the mean; faint: each seed."
        case "options":
            png = figures.rungs(tables.rows_of(results, study), results.of("steps", BRANCH))
            alt = "MSE, SSIM and perplexity of every lever, beside the rung without it."
            caption = "Each lever alone. Dashed: the rung without it."
        case "codebooks":
            png = figures.codebooks(results)
            alt = "Error and usage over the size of the codebook."
            caption = (
                "64 tokens an image throughout. Images are not Gaussian, so a code may be better "
                "than the bound."
            )
        case _:
            return ()
    return (Picture(f"{study}.png", png, style.WIDTH * style.PAGE_DPI, alt, caption),)


def _verdicts(study: str, results: Results) -> tuple[Verdict, ...]:
    match study:
        case "steps":
            return tuple(verdicts.ladder(results))
        case "options":
            return tuple(verdicts.levers(results))
        case "codebooks":
            return tuple(verdicts.codebooks(results))
        case "best":
            return tuple(verdicts.best(results))
    return ()


CONTENTS = Contents(
    ABLATIONS,
    "ablations",
    "Beyond the paper",
    "From the paper's recipe to the best one, a lever at a time; large codebooks; and the best "
    "recipe beside plain straight-through in the same time.",
    _tables,
    _pictures,
    _verdicts,
)
