import math

from rotvq.report import style
from rotvq.studies.paper import estimator_figures as figures

BOTH = ["rotation", "rotation_restart", "reflection", "reflection_restart"]


def test_both_figures_are_the_same_bytes_each_time_and_as_wide_as_the_page(make_results, pixels):
    results = make_results(studies=["estimators"], variants=BOTH, yardstick=lambda run: {})
    for draw in (figures.estimators, figures.leak):
        png = draw(results)
        assert png == draw(results)
        assert pixels(png).shape[1] == style.WIDTH * style.DPI


def test_metrics_without_a_finite_value_are_left_out(make_results, pixels, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_metric", lambda axes, panel, *_: drawn.append(panel.title[:4]))
    known = ["MSE ", "SSIM", "Perp", "Code", "Comm"]
    for yardstick, extra in (
        (None, []),
        (lambda run: {"frechet_distance": math.nan}, ["Clas"]),
        (lambda run: {}, ["Clas", "Fréc"]),
    ):
        name = "_".join(["runs", *extra])
        results = make_results(
            name=name, studies=["estimators"], variants=BOTH[:1], yardstick=yardstick
        )
        drawn.clear()
        figures.estimators(results)
        assert drawn == [*known, *extra]


def test_an_interrupted_study_shows_what_there_is(make_results, count):
    def drawn(*variants: str) -> bytes:
        name = "-".join(variants)
        return figures.estimators(
            make_results(name=name, studies=["estimators"], variants=variants, seeds=1)
        )

    both = drawn("rescaling", "rescaling_restart")
    for variant, absent in (("rescaling", 1), ("rescaling_restart", 0)):
        one, other = (style.colour(n) for n in (1 - absent, absent))
        png = drawn(variant)
        assert count(png, one) == count(both, one)
        assert 0 < count(png, other) < count(both, other) / 3  # in the legend alone


def test_one_seed_and_nan_are_drawn(make_results):
    results = make_results(
        studies=["estimators"],
        seeds=1,
        values=lambda run: {"ssim": math.nan} if "restart" in run.variant.name else {},
    )
    assert figures.estimators(results) and figures.leak(results)


def test_the_leak_needs_neither_transform(make_results):
    results = make_results(studies=["estimators"], variants=["straight_through"], seeds=1)
    figures.leak(results)  # warns where an axis without rows is drawn
