"""The runs that studies need at a preset's size, and which of them are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rotvq import __version__, run_folder
from rotvq.errors import UserError
from rotvq.generation.config import PriorConfig
from rotvq.studies.study import Generation, Preset, Study, Suite, Variant
from rotvq.training.config import Config, differing
from rotvq.training.folder import read_config

T = TypeVar("T")

PERCEPTUAL = "perceptual"
"""In the folder of all records: the classifier of the perceptual loss."""

PRIOR = "prior"
"""In a run's folder: the run of the prior over its tokens."""

GRADIENTS = "gradients.json"
"""In a run's folder: the gradient norm of each parameter after each epoch."""


@dataclass(frozen=True)
class Run:
    """One training with its measurements: a study's variant at a seed.

    Args:
        study: its name.
        variant: the row of the study.
        seed: of the training.
        config: what is trained.
        folder: of its record; runs of equal configuration in two studies share one.
        measures: names of the measurements made of the trained model besides its evaluation.
        generation: size of the measurement of that name.
    """

    study: str
    variant: Variant
    seed: int
    config: Config
    folder: Path
    measures: tuple[str, ...]
    generation: Generation | None = None

    @property
    def name(self) -> str:
        """Study, variant and seed, as "table2/k_256/seed_0"."""
        return f"{self.study}/{self.variant.name}/seed_{self.seed}"

    @property
    def trained(self) -> bool:
        """Whether training and evaluation are finished."""
        evaluated = (self.folder / run_folder.EVALUATION).exists()
        epochs = run_folder.read_epochs(self.folder) if evaluated else []
        return evaluated and len(epochs) >= self.config.training.epochs

    @property
    def missing(self) -> tuple[str, ...]:
        """The measurements that are not made yet."""
        return tuple(name for name in self.measures if not (self.folder / f"{name}.json").exists())

    @property
    def prior(self) -> PriorConfig | None:
        """The prior that is trained on the run's tokens, if one is."""
        if self.generation is None or "generation" not in self.measures:
            return None
        return self.generation.prior

    @property
    def done(self) -> bool:
        """Whether training and all measurements are finished."""
        return self.trained and not self.missing


def make_plan(
    suite: Suite,
    preset: str,
    out: Path,
    *,
    studies: Iterable[str] | None = None,
    variants: Sequence[str] = (),
    seeds: int | None = None,
    source: str | None = None,
) -> list[Run]:
    """The runs of some studies, in order.

    Args:
        suite: the studies and presets to choose from.
        preset: name of the preset.
        out: folder of all records.
        studies: names of studies; None selects all.
        variants: names of variants; empty selects all.
        seeds: number of seeds, from 0, of every study; None is the preset's number for repeated
            studies and 1 for the others.
        source: of the images, in place of the preset's.

    Raises:
        UserError: a preset, study or variant does not exist.
    """
    size = _one(preset, suite.presets, "preset")
    names = suite.studies if studies is None else studies
    chosen = [_one(name, suite.studies, "study") for name in names]
    _check_variants(chosen, variants)
    wanted = {s.name for s in chosen}
    plan: list[Run] = []
    owners: dict[Config, Path] = {}
    # All studies, chosen or not: the owner of a shared record does not depend on the choice.
    for study in suite.studies.values():
        count = seeds or (size.seeds if study.repeated else 1)
        # Seed by seed, so that a study stopped early still compares all of its variants.
        for seed in range(count):
            for variant in study.variants:
                config = _config(size, study, variant, seed, source)
                if config.training.perceptual:
                    config = config.replace(training={"perceptual": str(out / PERCEPTUAL)})
                own = out / study.name / variant.name / f"seed_{seed}"
                folder = owners.setdefault(config, own)
                if study.name in wanted and (not variants or variant.name in variants):
                    found = (study.name, variant, seed, config, folder, study.measures)
                    plan.append(Run(*found, size.generation))
    return plan


def check(run: Run) -> None:
    """Check that the record in a run's folder, if there is one, is of this run and this version.

    The source of the images and the place of the perceptual network may differ, as a record holds
    their fingerprints.

    Raises:
        UserError: the record is of another run; names the fields that differ.
    """
    if not run_folder.is_run(run.folder):
        return
    before = read_config(run.folder)
    before = before.replace(
        data={"source": run.config.data.source},
        training={"perceptual": run.config.training.perceptual},
    )
    changed = differing(before, run.config)
    path = run.folder / run_folder.RUN
    if path.exists():
        try:
            made = run_folder.read_record(run.folder, run_folder.RUN)["rotvq"]
        except KeyError:
            raise UserError(
                f"{path}: expected the record of a run; it is damaged. Remove {run.folder} to "
                "train it again."
            ) from None
        if made != __version__:
            changed.append(f"rotvq: {made} → {__version__}")
    if changed:
        raise UserError(
            f"{run.folder}: expected the record of {run.name}; got another run's: "
            f"{'; '.join(changed)}. Choose another --out, or remove that folder."
        )


def _config(size: Preset, study: Study, variant: Variant, seed: int, source: str | None) -> Config:
    base = size.bases[variant.base or study.base]
    config = base.replace(**variant.changes).replace(training={"seed": seed})
    return config.replace(data={"source": source}) if source else config


def _one(name: str, known: Mapping[str, T], kind: str) -> T:
    if name not in known:
        raise UserError(f"{kind}: expected one of {', '.join(known)}; got {name!r}.")
    return known[name]


def _check_variants(studies: Iterable[Study], variants: Iterable[str]) -> None:
    known = [variant.name for study in studies for variant in study.variants]
    for name in variants:
        if name not in known:
            raise UserError(
                f"variant: expected one of {', '.join(dict.fromkeys(known))}; got {name!r}."
            )
