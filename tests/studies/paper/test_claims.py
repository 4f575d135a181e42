"""Every claim comes out each way it can, from invented records."""

import math

import pytest

from rotvq.studies.paper import claims

NOT, PART, YES, OPEN = "not confirmed", "partly confirmed", "confirmed", "open"


def holds(found, *words):
    """What is said of the one claim that has these words."""
    (claim,) = [c for c in found if all(word in c.statement for word in words)]
    return claim.verdict


# ------------------------------------------------------------------- the paper's studies


def test_training_that_improves_is_confirmed_and_one_epoch_leaves_the_claim_open(make_results):
    results = make_results(studies=["training"])
    assert holds([claims.training(results.of("training")[0])]) == YES
    # Perplexity of the first epoch is 0.625 of the last: below zero that is a fall.
    worse = make_results("worse", studies=["training"], values=lambda r: {"batch_perplexity": -1})
    assert holds([claims.training(worse.of("training")[0])]) == PART


def sized(**by_size):
    return lambda run: {name: v[run.config.quantizer.codebook_size] for name, v in by_size.items()}


@pytest.mark.parametrize(
    ("perplexities", "losses", "most", "same"),
    [
        ((100, 300, 200, 200), (0.02, 0.05, 0.02, 0.02), YES, YES),
        ((100, 300, 400, 200), (0.03, 0.02, 0.02, 0.02), NOT, NOT),
        ((100, 300, 300, 200), (0.02, 0.02, 0.02, 0.02), NOT, YES),
    ],
)
def test_claims_on_the_codebook_size(make_results, perplexities, losses, most, same):
    sizes = (256, 512, 1024, 2048)
    values = sized(
        batch_perplexity=dict(zip(sizes, perplexities, strict=True)),
        reconstruction_loss=dict(zip(sizes, losses, strict=True)),
    )
    found = claims.table2(make_results(studies=["table2"], values=values))
    assert holds(found, "K = 512 has the highest") == most
    assert holds(found, "same reconstruction loss") == same
    assert holds(found, "640 bits") == NOT


def test_the_papers_loss_is_confirmed_where_it_is_reached(make_results):
    values = lambda run: {"reconstruction_loss": 0.0077}  # noqa: E731
    results = make_results(studies=["table2"], variants=["k_1024"], values=values)
    found = claims.table2(results)
    assert holds(found, "640 bits") == YES
    assert holds(found, "K = 512") == holds(found, "same reconstruction") == OPEN


@pytest.mark.parametrize(
    ("perplexities", "expected"),
    [((500, 400, 300, 200, 100), YES), ((500, 600, 300, 200, 100), PART), ([9] * 5, NOT)],
)
def test_claims_on_beta(make_results, perplexities, expected):
    betas = (0.1, 0.25, 0.5, 1.0, 2.0)
    by_beta = dict(zip(betas, perplexities, strict=True))
    values = lambda run: {  # noqa: E731
        "perplexity": by_beta[run.config.training.beta],
        "codebook_loss": by_beta[run.config.training.beta],
        "mse": 1 / by_beta[run.config.training.beta],
    }
    found = claims.table3(make_results(studies=["table3"], values=values))
    assert [c.verdict for c in found] == [expected] * 3
    one = make_results("one", studies=["table3"], variants=["beta_2.0"])
    assert {c.verdict for c in claims.table3(one)} == {OPEN}


@pytest.mark.parametrize(("usage", "expected"), [(0.95, YES), (0.6, PART), (0.1, NOT)])
def test_the_final_models_codebook(make_results, usage, expected):
    results = make_results(studies=["final"], values=lambda run: {"usage": usage})
    found = claims.final(results.of("final")[0])
    assert holds(found, "prevent codebook collapse") == expected
    assert holds(found, "last model") == YES


def test_figures(make_results):
    (result,) = make_results(studies=["figures"]).of("figures")
    sharper, into_use = claims.figures(result)
    assert sharper.verdict == YES
    assert into_use.verdict == NOT, "as many dead codes at each epoch"


# ------------------------------------------------------------------- the estimators


def estimated(make_results, rotation, straight, seeds=2, **options):
    """Verdicts on two estimators whose metrics are given seed by seed."""
    values = lambda run: {  # noqa: E731
        "rotation": rotation, "straight_through": straight
    }[run.variant.name.removesuffix("_restart")](run.seed)  # fmt: skip
    variants = ["rotation", "straight_through", "rotation_restart", "straight_through_restart"]
    results = make_results(
        studies=["estimators"], variants=variants, seeds=seeds, values=values, **options
    )
    return claims.estimators(results)


def metrics(mse, perplexity, usage):
    return lambda seed: {"mse": mse[seed], "perplexity": perplexity[seed], "usage": usage[seed]}


def test_a_claim_requires_every_seed_of_one_to_beat_every_seed_of_the_other(make_results):
    found = estimated(
        make_results,
        metrics((0.01, 0.02), (300, 310), (0.5, 0.6)),
        metrics((0.015, 0.03), (100, 110), (0.55, 0.1)),
    )
    for restart in ("with restarts", "without restarts"):
        assert holds(found, "uses more codes", restart) == PART
        assert holds(found, "lower error", restart) == NOT
    assert holds(found, "is discrete") == OPEN
    assert holds(found, "rescaling each") == OPEN


def test_realism_is_judged_by_the_measured_metrics(make_results):
    better, worse = (lambda seed, ssim=ssim: {"ssim": ssim} for ssim in (0.9, 0.8))
    (claim,) = [
        v
        for v in estimated(
            make_results, better, worse, classifier=lambda run: {"frechet_distance": run.seed}
        )
        if "look more realistic than straight-through's, without" in v.statement
    ]
    assert claim.verdict == PART, "of equal accuracy and distance, but better in SSIM"
    assert "Fréchet distance 0.50 vs. 0.50" in claim.evidence


def test_only_seeds_of_both_count(make_results, tmp_path):
    results = make_results(
        studies=["estimators"], variants=["rotation"], seeds=3, values=metrics_of(usage=0.9)
    )
    assert len(results.all) == 3
    results = make_results(
        studies=["estimators"],
        variants=["rotation", "straight_through"],
        seeds=1,
        values=metrics_of(usage=0.9),
    )
    (claim,) = [
        v
        for v in claims.estimators(results)
        if "uses more codes" in v.statement and "without" in v.statement
    ]
    assert "(means over 1 seed;" in claim.evidence


def metrics_of(**values):
    return lambda run: values


def test_metrics_that_are_not_known_leave_a_claim_open(make_results):
    unknown = metrics([math.nan] * 2, [math.nan] * 2, [math.nan] * 2)
    found = estimated(make_results, unknown, unknown)
    assert holds(found, "uses more codes", "without") == OPEN
    assert holds(found, "lower error", "without") == OPEN


@pytest.mark.parametrize(("decoded", "expected"), [(0.02, YES), (0.024, NOT)])
def test_the_leak(make_results, decoded, expected):
    results = make_results(
        studies=["estimators"],
        variants=["reflection"],
        values=metrics_of(forward_mse=0.02, mse=decoded),
    )
    found = claims.estimators(results)
    assert holds(found, "is discrete") == expected


@pytest.mark.parametrize(
    ("perplexities", "expected"),
    [((10, 20, 30, 40), YES), ((10, 5, 30, 40), PART), ((40, 5, 30, 10), NOT)],
)
def test_the_claim_on_rotation_and_rescaling(make_results, perplexities, expected):
    names = ("straight_through", "rescaling", "rotation_without_rescaling", "rotation")
    by_name = dict(zip(names, perplexities, strict=True))
    results = make_results(
        studies=["estimators"],
        variants=names,
        values=lambda run: {"perplexity": by_name[run.variant.name]},
    )
    assert holds(claims.estimators(results), "each raise") == expected
