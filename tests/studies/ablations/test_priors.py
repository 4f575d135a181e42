"""The study of priors: shared records, tables, figures and claims by rule."""

from pathlib import Path

import pytest

from rotvq.studies.ablations import SUITE
from rotvq.studies.ablations.claims import claims
from rotvq.studies.ablations.figures import figures
from rotvq.studies.ablations.tables import tables
from rotvq.studies.plan import make_plan

OUT = Path("out")


def verdicts(results):
    return [claim.verdict for claim in claims("priors", results)]


@pytest.mark.parametrize("preset", ["cpu", "paper"])
def test_tokens_are_those_of_other_studies_so_that_no_model_is_trained_twice(preset):
    runs = make_plan(SUITE, preset, OUT, studies=["priors"])
    owners = [str(run.folder.relative_to(OUT).parent) for run in runs]
    assert owners == [
        "steps/batch_64",
        "options/rotation",
        "options/normalized_latents",
        "options/rotation_normalized_latents",
        "options/fsq",
        "codebooks/k_4096",
    ]
    assert all(run.generation == SUITE.presets[preset].generation for run in runs)


def test_a_row_shows_bits_error_and_samples(made):
    bits, samples = tables("priors", made(["priors"], seeds=1))
    assert [row[0] for row in bits.rows][:2] == ["straight-through", "rotation"]
    first = dict(zip(bits.columns, bits.rows[0], strict=True))
    assert first["bits per token"] == "8.00" and first["mean bits per image"] == "512"
    assert first["fixed bits per image"] == "384" and first["own class"] == "50.0 %"
    point = dict(zip(samples.columns, samples.rows[1], strict=True))
    assert point["Fréchet, g = 3"] == "33.2" and point["own class, t = 0.8"] == "48.0 %"


def test_claims_follow_from_the_numbers(made):
    # Bits rise from row to row; the first row generates best, the others have less error.
    found = made(["priors"], mse=lambda run: 0.01 if "rot" in run.variant.name else 0.05, seeds=1)
    assert verdicts(found) == [
        *["not confirmed"] * 3,
        "partly confirmed",
        "not confirmed",
        "confirmed",
    ]
    best = made(["priors"], mse=lambda run: 0.01 + ("straight" not in run.variant.name), name="b")
    assert verdicts(best)[-2] == "confirmed"


def test_claims_on_samples_are_open_without_them(made, monkeypatch):
    found = made(["priors"], seeds=1)
    for result in found.all:
        metrics = result.measured["generation"]["metrics"]
        for name in [name for name in metrics if "frechet" in name or "class_acc" in name]:
            del metrics[name]
    assert verdicts(found)[-2:] == ["open", "open"]
    assert all("—" in row for row in tables("priors", found)[1].rows)
    (picture,) = figures("priors", found)
    assert picture.png.startswith(b"\x89PNG")
