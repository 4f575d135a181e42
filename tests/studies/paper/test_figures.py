import math
from dataclasses import replace

from rotvq.report import style
from rotvq.run_record import Epoch
from rotvq.studies.paper import figures, paper


def test_each_figure_is_the_same_bytes_each_time_and_as_wide_as_the_page(make_results, pixels):
    results = make_results(studies=["training", "table2", "table3"])
    for draw in (
        lambda: figures.training_curves(results.of("training")[0]),
        lambda: figures.codebook_sizes(results, paper.TABLE2),
        lambda: figures.commitment_weights(results, paper.TABLE3),
    ):
        png = draw()
        assert png == draw()
        assert pixels(png).shape[1] == style.WIDTH * style.DPI


def test_a_study_with_one_variant_is_drawn_beside_the_paper(make_results, count):
    results = make_results(studies=["table2", "table3"], variants=["k_512", "beta_0.5"])
    for png in (
        figures.codebook_sizes(results, paper.TABLE2),
        figures.commitment_weights(results, paper.TABLE3),
    ):
        assert count(png, style.colour(0)) and count(png, style.REFERENCE)


def test_values_that_are_not_finite_are_left_out(make_results, count):
    results = make_results(
        studies=["table3"],
        values=lambda run: dict.fromkeys(
            ("reconstruction_loss", "codebook_loss", "perplexity"), math.nan
        ),
    )
    png = figures.commitment_weights(results, paper.TABLE3)
    assert count(png, style.REFERENCE) and not count(png, style.colour(0))


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
    assert figures.codebook_sizes(several, paper.TABLE2) == figures.codebook_sizes(
        one, paper.TABLE2
    )


def test_curves_stand_a_single_epoch_and_values_that_no_axis_takes(make_results, count):
    (result,) = make_results(studies=["training"]).of("training")
    epoch = Epoch(1, {"loss": math.nan, "reconstruction_loss": 0.0, "perplexity": 5.0}, {}, {})
    png = figures.training_curves(replace(result, record=replace(result.record, epochs=(epoch,))))
    assert count(png, style.colour(0))  # the point of the perplexity
