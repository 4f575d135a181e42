"""Tables against numbers worked out by hand."""

import math

from rotvq.studies.paper import tables


def row(table, *labels):
    (found,) = [r for r in table.rows if r[: len(labels)] == labels]
    return found[len(labels) :]


def of_last_epoch(**values):
    return lambda run: values


def test_table_2_compares_with_the_paper(make_results):
    # The records' training metrics are 0.97 of these, those of the first of 4 epochs 3.25 times.
    results = make_results(studies=["table2"], values=of_last_epoch(reconstruction_loss=0.01))
    table = tables.table2(results)
    assert row(table, "Final Large, K = 1024", "reconstruction loss") == (
        "0.0077", "0.0097", "+0.0020 (+26 %)", "0.0100",
    )  # fmt: skip
    assert row(table, "Initial (first epoch)", "reconstruction loss") == (
        "0.0433", "0.0315", "−0.0118 (−27 %)", "0.0325",
    )  # fmt: skip
    assert row(table, "Final Small, K = 256", "usage")[::2] == ("—", "—")
    assert len(table.rows) == 5 * len(tables.TRAIN_METRICS)


def test_table_3_compares_with_the_paper_on_both_splits(make_results):
    values = of_last_epoch(perplexity=200.0, batch_perplexity=100.0)
    table = tables.table3(make_results(studies=["table3"], values=values))
    assert row(table, "β = 0.1", "perplexity, whole split") == (
        "628.84", "194.0", "−434.8 (−69 %)", "617.9", "200.0", "−417.9 (−68 %)",
    )  # fmt: skip
    assert row(table, "β = 2", "perplexity, mean over batches")[1:2] == ("97.0",)
    assert [r[0] for r in table.rows[:: len(tables.TRAIN_METRICS)]] == [
        "β = 0.1", "β = 0.25", "β = 0.5", "β = 1", "β = 2",
    ]  # fmt: skip


def test_rows_of_several_seeds_name_them(make_results):
    results = make_results(studies=["table3"], variants=["beta_1.0"], seeds=2)
    labels = dict.fromkeys(r[0] for r in tables.table3(results).rows)
    assert list(labels) == ["β = 1, seed 0", "β = 1, seed 1"]


def test_unknown_values_are_a_dash(make_results):
    values = of_last_epoch(loss=math.nan, usage=math.nan)
    table = tables.table2(make_results(studies=["table2"], variants=["k_512"], values=values))
    assert row(table, "Final Medium, K = 512", "total loss")[1:] == ("—", "—", "—")
    assert row(table, "Final Medium, K = 512", "usage") == ("—", "—", "—", "—")


def test_estimators_have_mean_and_spread_over_their_seeds(make_results):
    mse = {0: 0.01, 1: 0.02, 2: 0.06}
    results = make_results(
        studies=["estimators"],
        variants=["rotation", "reflection"],
        seeds=3,
        values=lambda run: {"mse": mse[run.seed], "ssim": 0.5 if run.seed else math.nan},
        classifier=lambda run: {"accuracy_reconstruction": 0.25 * run.seed},
    )
    table = tables.estimators(results)
    seeds, error, similarity, *_, accuracy, _ = row(table, "rotation")
    # Standard deviation of 1, 2, 6: squares of 2, 1, 3 over two degrees of freedom make 7.
    assert (seeds, error) == ("3", "0.0300 ± 0.0265")
    assert similarity == "0.500 ± 0.000"
    assert accuracy == "25.0 % ± 25.0 %"
    assert "on the originals: 85.0 %" in table.note


def test_the_leak_is_the_ratio_of_the_decoded_to_the_forward_error(make_results):
    values = lambda run: {"mse": 0.03, "forward_mse": 0.02 if "refl" in run.variant.name else 0.03}  # noqa: E731
    table = tables.leak(
        make_results(studies=["estimators"], variants=["rotation", "reflection"], values=values)
    )
    assert [r[-1] for r in table.rows] == ["1.50", "1.00"]
    assert not tables.leak(
        make_results("none", studies=["estimators"], variants=["rescaling"])
    ).rows


def test_the_final_table_names_the_best_epoch(make_results):
    (result,) = make_results(studies=["final"], values=of_last_epoch(mse=0.0123456)).of("final")
    table = tables.final(result)
    epochs = result.run.config.training.epochs
    assert table.columns == ("metric", f"last (epoch {epochs})", f"best (epoch {epochs})")
    assert row(table, "MSE") == ("0.01235", "0.01235")
