"""The paper's five experiments and its printed results, and our own study of the estimators.

Where two studies share a configuration (the base model is a row of Table 2 and the model of the
figures), it is trained once, and its record serves both.
"""

from __future__ import annotations

from collections.abc import Mapping

from rotvq.studies.study import Changes, Study, Variant

Losses = Mapping[str, float]

BASE = Variant("base", "base model", {})

SIZES = {256: "Small", 512: "Medium", 1024: "Large", 2048: "X-Large"}
"""The paper's names for codebook sizes K (Table 2)."""

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""The weights β of the commitment loss in Table 3."""

ESTIMATORS = {
    "straight_through": "straight-through",
    "rotation": "rotation",
    "rotation_without_rescaling": "rotation without rescaling",
    "rescaling": "rescaling only",
    "reflection": "released reflection",
}
"""Labels of the estimators compared, by their names in the configuration."""

RESTARTS = {"": ("", 0.0), "_restart": (", restarts", 0.03)}
"""Label and threshold of the restarts by the suffix of a variant's name."""


def _estimators() -> tuple[Variant, ...]:
    variants = []
    for suffix, (restarts, threshold) in RESTARTS.items():
        for name, label in ESTIMATORS.items():
            changes: Changes = {"quantizer": {"estimator": name, "restart": threshold}}
            variants.append(Variant(name + suffix, label + restarts, changes))
    return tuple(variants)


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study(
            "training",
            "Training and testing",
            "run_training_testing.py: the base model, epoch by epoch",
            "main",
            (BASE,),
        ),
        Study(
            "table2",
            "Comparative study: codebook size",
            "Table 2, run_comparative_study.py",
            "main",
            tuple(
                Variant(f"k_{k}", f"{name}, K = {k}", {"quantizer": {"codebook_size": k}})
                for k, name in SIZES.items()
            ),
        ),
        Study(
            "table3",
            "Ablation: commitment weight",
            "Table 3, run_ablation_studies.py",
            "ablation",
            tuple(
                Variant(f"beta_{beta}", f"β = {beta:g}", {"training": {"beta": beta}})
                for beta in BETAS
            ),
        ),
        Study(
            "figures",
            "Visualization: reconstructions, codebook and gradient flow",
            "Figures 1 to 8, run_visualization_experiments.py",
            "main",
            (BASE,),
            measures=("tsne",),
        ),
        Study(
            "final",
            "Final experiment: the long run",
            "run_final_experiment.py",
            "final",
            (BASE,),
            measures=("best",),
        ),
        Study(
            "estimators",
            "Gradient estimators",
            "our own study of a claim in sections 2.1 and 2.4",
            "estimators",
            _estimators(),
            repeated=True,
            measures=("classifier_metrics",),
        ),
    )
}

# The paper's printed results follow. They come from an implementation whose quantizer passes ‖z_e‖
# to the decoder along with the code (a reflection without rescaling) and whose evaluation updates
# the codebook. They are not the distortion of 640 bits per image.

INITIAL: Losses = {
    "loss": 0.1000,
    "reconstruction_loss": 0.0433,
    "codebook_loss": 0.0454,
    "perplexity": 17.95,
}
"""Table 2, row Initial: training metrics of the first epoch."""

_FINAL: Losses = {
    "loss": 0.0451,
    "reconstruction_loss": 0.0077,
    "codebook_loss": 0.0262,
    "perplexity": 317.6,
}
_MEDIUM: Losses = {
    "loss": 0.0475,
    "reconstruction_loss": 0.0092,
    "codebook_loss": 0.0306,
    "perplexity": 431.25,
}
TABLE2: Mapping[int, Losses] = {256: _FINAL, 512: _MEDIUM, 1024: _FINAL, 2048: _FINAL}
"""Table 2, rows Final, by codebook size: training metrics. Three of the four rows are identical."""


def _row(values: tuple[float, float, float, float]) -> Losses:
    names = ("loss", "reconstruction_loss", "codebook_loss", "perplexity")
    return dict(zip(names, values, strict=True))


TABLE3: Mapping[float, Mapping[str, Losses]] = {
    beta: {"train": _row(train), "test": _row(test)}
    for beta, train, test in (
        (0.1, (0.0785, 0.0086, 0.0636, 628.84), (0.0776, 0.0094, 0.0620, 617.90)),
        (0.25, (0.0516, 0.0095, 0.0336, 281.29), (0.0529, 0.0102, 0.0342, 282.58)),
        (0.5, (0.0441, 0.0108, 0.0222, 126.93), (0.0441, 0.0116, 0.0217, 127.05)),
        (1.0, (0.0324, 0.0108, 0.0108, 132.34), (0.0326, 0.0114, 0.0106, 132.32)),
        (2.0, (0.0266, 0.0108, 0.0053, 117.23), (0.0273, 0.0114, 0.0053, 117.17)),
    )
}
"""Table 3 by β and split."""
