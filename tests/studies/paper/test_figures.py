"""Figures of the paper's studies: reproducible, complete, and robust to missing values."""

import math

from rotvq.report import style
from rotvq.studies.paper import figures

BOTH = ["rotation", "rotation_restart", "reflection", "reflection_restart"]


def test_each_figure_is_the_same_bytes_each_time_and_as_wide_as_the_page(make_results, pixels):
    results = make_results(studies=["table2", "table3"])
    estimators = make_results(
        "two", studies=["estimators"], variants=BOTH, classifier=lambda run: {}
    )
    for draw, of in (
        (figures.codebook_sizes, results),
        (figures.commitment_weights, results),
        (figures.estimators, estimators),
        (figures.leak, estimators),
    ):
        picture = draw(of)
        assert picture == draw(of)
        assert pixels(picture.png).shape[1] == style.WIDTH * style.DPI


def test_a_study_with_one_variant_is_drawn_with_the_papers_values(make_results, count):
    results = make_results(studies=["table2", "table3"], variants=["k_512", "beta_0.5"])
    for picture in (figures.codebook_sizes(results), figures.commitment_weights(results)):
        assert count(picture.png, style.color(0)) and count(picture.png, style.REFERENCE)


def test_values_that_are_not_finite_are_left_out(make_results, count):
    results = make_results(
        studies=["table3"],
        values=lambda run: dict.fromkeys(
            ("reconstruction_loss", "codebook_loss", "perplexity"), math.nan
        ),
    )
    png = figures.commitment_weights(results).png
    assert count(png, style.REFERENCE) and not count(png, style.color(0))


def test_points_are_means_over_the_seeds_that_have_a_value(make_results):
    usage = {0: 0.25, 1: 0.75, 2: math.nan}
    same = {"reconstruction_loss": 0.02, "perplexity": 90.0, "batch_perplexity": 80.0}
    several, one = (
        make_results(
            name=name,
            studies=["table2"],
            variants=["k_256"],
            seeds=seeds,
            values=lambda run, of=of: {**same, "usage": of(run.seed)},
        )
        for name, seeds, of in (("several", 3, usage.get), ("one", 1, lambda seed: 0.5))
    )
    assert len(several.all) == 3
    assert figures.codebook_sizes(several) == figures.codebook_sizes(one)


def test_metrics_of_the_estimators_without_a_finite_value_are_left_out(make_results, monkeypatch):
    drawn = []

    def draw(axes, panel, *_):
        drawn.append(panel.title[:4])

    monkeypatch.setattr(figures, "draw_panel", draw)
    known = ["MSE ", "SSIM", "Perp", "Code", "Comm"]
    for classifier, extra in (
        (None, []),
        (lambda run: {"frechet_distance": math.nan}, ["Clas"]),
        (lambda run: {}, ["Clas", "Fréc"]),
    ):
        name = "_".join(["runs", *extra])
        results = make_results(
            name=name, studies=["estimators"], variants=BOTH[:1], classifier=classifier
        )
        drawn.clear()
        figures.estimators(results)
        assert drawn == [*known, *extra]


def test_an_interrupted_study_is_drawn_with_its_finished_runs(make_results, count):
    def drawn(*variants: str) -> bytes:
        name = "-".join(variants)
        results = make_results(name=name, studies=["estimators"], variants=variants, seeds=1)
        return figures.estimators(results).png

    both = drawn("rescaling", "rescaling_restart")
    for variant, absent in (("rescaling", 1), ("rescaling_restart", 0)):
        one, other = (style.color(n) for n in (1 - absent, absent))
        png = drawn(variant)
        assert count(png, one) == count(both, one)
        assert 0 < count(png, other) < count(both, other) / 3  # in the legend alone


def test_one_seed_and_nan_are_drawn(make_results, count):
    results = make_results(
        studies=["estimators"],
        seeds=1,
        values=lambda run: {"ssim": math.nan} if "restart" in run.variant.name else {},
    )
    assert count(figures.estimators(results).png, style.color(0))
    assert count(figures.leak(results).png, style.color(2))


def test_the_figure_of_the_leak_needs_neither_transform(make_results, count):
    results = make_results(studies=["estimators"], variants=["straight_through"], seeds=1)
    png = figures.leak(results).png  # warns where an axis without rows is drawn
    assert count(png, style.color(2)), "in the legend"
