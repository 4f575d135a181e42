"""The paper's five experiments, and one of ours on the estimators.

Where two studies hold the same configuration (the base model is a row of Table 2, and the model of
the figures), it is trained once and its record serves both.
"""

from __future__ import annotations

from rotvq.studies.study import Changes, Study, Variant

BASE = Variant("base", "base model", {})

SIZES = {256: "Small", 512: "Medium", 1024: "Large", 2048: "X-Large"}
"""The paper's names for codebook sizes K (Table 2)."""

BETAS = (0.1, 0.25, 0.5, 1.0, 2.0)
"""The weights β of the commitment loss in Table 3."""

ESTIMATORS = {
    "straight_through": "straight-through",
    "rotation": "rotation",
    "rotation_without_rescaling": "rotation without rescaling",
    "rescaling": "rescaling alone",
    "reflection": "released reflection",
}


def _estimators() -> tuple[Variant, ...]:
    variants = []
    for suffix, label, restart in (("", "", 0.0), ("_restart", ", restart", 0.03)):
        for name, said in ESTIMATORS.items():
            changes: Changes = {"quantizer": {"estimator": name, "restart": restart}}
            variants.append(Variant(name + suffix, said + label, changes))
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
            "Comparative study: size of the codebook",
            "Table 2, run_comparative_study.py",
            "main",
            tuple(
                Variant(f"k_{k}", f"{name}, K = {k}", {"quantizer": {"codebook_size": k}})
                for k, name in SIZES.items()
            ),
        ),
        Study(
            "table3",
            "Ablation: weight of the commitment loss",
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
            "Estimators: how the gradient crosses the quantizer",
            "ours; the claim of sections 2.1 and 2.4",
            "estimators",
            _estimators(),
            repeated=True,
            measures=("yardstick",),
        ),
    )
}
