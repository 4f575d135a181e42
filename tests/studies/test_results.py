"""What is read of finished runs, and what is refused."""

import json
import math

import pytest

from rotvq.errors import UserError
from rotvq.studies import results as module
from rotvq.studies.paper import SUITE
from rotvq.studies.plan import make_plan


def test_only_finished_runs_are_read_in_the_plans_order(make_results, tmp_path):
    make_results("all", studies=["table2"])
    plan = make_plan(SUITE, "smoke", tmp_path / "all", studies=["table2"])
    (plan[1].folder / "evaluation.json").unlink()
    read = module.read(plan)
    assert [r.run.variant.name for r in read.all] == ["k_256", "k_1024", "k_2048"]
    assert [run.variant.name for run in read.missing] == ["k_512"]
    assert read.studies == ("table2",)


def test_nothing_finished_is_refused(tmp_path):
    with pytest.raises(UserError, match="at least one finished run"):
        module.read(make_plan(SUITE, "smoke", tmp_path))


def test_metrics_that_a_record_does_not_know_are_nan(make_results):
    (result,) = make_results(
        studies=["training"], values=lambda run: {"mse": math.nan, "loss": math.nan}
    ).all
    for value in (
        result.metric("mse"), result.metric("else"), result.train("loss"),
        result.classifier_metric("accuracy"),
    ):  # fmt: skip
        assert math.isnan(value)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_measurement_is_reported(make_results, damage):
    results = make_results(studies=["final"])
    path = results.all[0].run.folder / "best.json"
    path.write_text(damage)
    with pytest.raises(UserError, match=r"best\.json: expected the record of a measurement"):
        module.read(results.plan)


def test_rows_of_other_images_are_refused(make_results):
    results = make_results(studies=["table3"])
    path = results.all[2].run.folder / "run.json"
    record = json.loads(path.read_text())
    record["data"]["test"]["fingerprint"] = "beef"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="test images: expected the same") as refused:
        module.read(results.plan)
    assert "beef" in str(refused.value) and "f00d" in str(refused.value)
