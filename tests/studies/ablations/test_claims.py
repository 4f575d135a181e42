"""Every claim of the ablations comes out each way it can, from invented records."""

import re

import pytest

from rotvq.studies.ablations import SUITE, claims, contents
from rotvq.studies.page import write_report
from rotvq.studies.plan import make_plan


def verdicts(found):
    return {claim.statement: claim.verdict for claim in found}


def test_a_claim_without_its_other_study_is_open_on_the_page(made, tmp_path):
    made(["best"], seeds=1)
    everything = make_plan(SUITE, "smoke", tmp_path / "out")
    write_report(SUITE, contents(), everything, tmp_path / "out", ())
    markdown = (tmp_path / "out/ablations.md").read_text()
    assert "Studies not run yet: steps, options, codebooks, plain, sharp, priors." in markdown
    opened = markdown.partition("**Open**")[2].partition("**")[0]
    assert re.search("- Test MSE of the best recipe, as a share of plain .*: below 0.7", opened)


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        ((0.01, 0.01, 0.01), "confirmed"),
        ((0.01, 0.01), "partly confirmed"),
        ((0.03, 0.03), "not confirmed"),
        ((0.01, 0.021), "partly confirmed"),
        ((0.019, 0.05), "not confirmed"),
    ],
)
def test_an_option_is_confirmed_only_if_each_of_three_seeds_is_lower(made, errors, answer):
    def mse(run):
        return errors[run.seed] if run.variant.name == "rotation" else 0.02

    results = made(["steps", "options"], mse, seeds=len(errors))
    found = verdicts(claims.options(results))
    assert found["The validation MSE falls with rotation."] == answer


@pytest.mark.parametrize(
    ("perplexities", "answer"),
    [
        ((800, 400, 900, 850), "confirmed"),
        ((800, 400, 900, 950), "partly confirmed"),
        ((800, 900, 700, 800), "not confirmed"),
    ],
)
def test_perplexity_is_attributed_to_normalized_latents(made, perplexities, answer):
    names = ("batch_64", "rotation", "normalized_latents", "rotation_normalized_latents")
    by_name = dict(zip(names, perplexities, strict=True))
    results = made(
        ["steps", "options"],
        perplexity=lambda run: float(by_name.get(run.variant.name, perplexities[0])),
    )
    claim = claims.normalized_latents(results)
    assert claim.verdict == answer
    assert f"straight-through: {perplexities[0]}, with normalized latents" in claim.evidence


def test_the_claim_on_perplexity_needs_both_estimators(made):
    assert claims.normalized_latents(made(["steps"])).verdict == "open"


@pytest.mark.parametrize(
    ("share", "answers"),
    [
        (0.5, ["confirmed", "confirmed"]),
        (0.6, ["confirmed", "not confirmed"]),
        (0.8, ["not confirmed", "not confirmed"]),
    ],
)
def test_the_best_recipe_is_held_to_its_share(made, share, answers):
    results = made(["best", "plain"], lambda run: 0.02)
    for result in results.of("best"):
        result.record.evaluation.metrics["mse"] *= share
    assert [claim.verdict for claim in claims.best(results)[:2]] == answers


def test_large_codebooks_are_in_use_lower_the_error_and_are_bounded(made):
    results = made(["codebooks"], lambda run: 20 / run.config.quantizer.codebook_size, usage=0.98)
    assert [claim.verdict for claim in claims.codebooks(results)] == [
        "partly confirmed", "confirmed", "partly confirmed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("distances", "answer"),
    [
        ((9.0, 9.0, 9.0), "confirmed"),
        ((9.0, 9.0, 10.5), "partly confirmed"),
        ((12.0, 9.0, 12.0), "not confirmed"),
    ],
)
def test_a_sharper_estimator_is_one_of_lower_frechet_distance(make_results, distances, answer):
    def seen(run):
        lower = run.variant.name == "ema_adversarial_rotation"
        return {"frechet_distance": distances[run.seed] if lower else 10.0}

    results = make_results(suite=SUITE, studies=["sharp"], seeds=3, classifier=seen)
    found = claims.claims("sharp", results)
    by_label = {re.sub("^.* falls with ", "", claim.statement): claim for claim in found}
    assert len(by_label) == len(found) == 2 + 2 * 3 * 2
    claim = by_label.pop("rotation (perceptual and adversarial losses, plain EMA).")
    assert claim.verdict == answer
    assert claim.statement.startswith("The Fréchet distance falls with ")
    assert "vs. 10.00 without it" in claim.evidence
    assert {claim.verdict for claim in by_label.values()} == {"not confirmed"}
