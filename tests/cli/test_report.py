"""rotvq report on real runs."""

from __future__ import annotations

import re
import shutil


def test_a_single_run_gets_a_page(rotvq, trained):
    answer = rotvq("report", trained)
    assert (answer.status, answer.err) == (0, "")
    page = (trained / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert f"Report: {trained / 'report.html'}\n" == answer.out
    assert "<h1>trained</h1>" in page
    assert '<th scope="row">quantizer.estimator</th><td>rotation</td>' in page
    assert "http" not in page.split("<body")[0], "nothing is fetched"
    assert "Tokens: the code of each" in page
    assert (trained / "figures/codebook.png").exists()
    assert (trained / "report.md").exists()
    assert any((trained / "figures").iterdir())


def test_two_runs_get_one_page_in_a_folder_of_its_own(rotvq, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "other")
    answer = rotvq("report", trained, tmp_path / "other")
    assert answer.status == 0
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    columns = set(re.findall(r'<th scope="col">(\w+)</th>', page))
    assert {"trained", "other"} <= columns


def test_the_output_folder_can_be_chosen(rotvq, trained, tmp_path):
    assert rotvq("report", trained, "--out", tmp_path / "page").status == 0
    assert (tmp_path / "page/report.html").exists()
    assert not (trained / "report.html").exists()


def test_a_missing_folder_or_one_without_a_run_is_reported(rotvq, tmp_path):
    assert "nowhere" in rotvq("report", tmp_path / "nowhere").error
    (tmp_path / "empty").mkdir()
    assert "empty" in rotvq("report", tmp_path / "empty").error
    assert "runs" in rotvq("report").error


def test_weights_that_cannot_be_read_leave_out_what_the_model_draws(rotvq, trained):
    (trained / "model.safetensors").write_bytes(b"damaged")
    answer = rotvq("report", trained)
    assert answer.status == 0
    assert "Tokens and codes are not drawn: " in answer.out
    assert "Tokens: " not in (trained / "report.html").read_text(encoding="utf-8")


def test_an_unfinished_run_is_reported_too(rotvq, trained):
    (trained / "evaluation.json").unlink()
    answer = rotvq("report", trained)
    assert answer.status == 0
    assert (trained / "report.html").exists()


def test_names_in_other_scripts_are_drawn_without_warnings(rotvq, trained, tmp_path):
    folder = trained.rename(tmp_path / "训练\udcff$x")
    answer = rotvq("report", folder)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"Report: {tmp_path}/训练\\udcff$x/report.html\n"
    assert "<h1>训练\\udcff$x</h1>" in (folder / "report.html").read_text(encoding="utf-8")


def test_runs_in_folders_that_are_not_utf8_are_compared(rotvq, trained, tmp_path):
    runs = [shutil.copytree(trained, tmp_path / name / "x\udcff") for name in ("a$", "b\udcfe")]
    answer = rotvq("report", *runs, "--out", tmp_path / "\udcfd")
    assert (answer.status, answer.err) == (0, "")
    assert answer.out == f"Report: {tmp_path}/\\udcfd/report.html\n"
    page = (tmp_path / "\udcfd/report.html").read_text(encoding="utf-8")
    assert "a$/x\\udcff" in page and "b\\udcfe/x\\udcff" in page
