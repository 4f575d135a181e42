from pathlib import Path

from rotvq.data_processing.skipped import Skipped, summary, to_tsv, write

SKIPPED = [
    Skipped("a.png", "damaged image", "broken header"),
    Skipped("private", "no permission"),
    Skipped("b.png", "damaged image", "truncated"),
]


def test_reasons_are_counted_and_the_first_of_each_is_named() -> None:
    assert summary(SKIPPED) == [
        "2 skipped: damaged image, first a.png (broken header)",
        "1 skipped: no permission, first private",
    ]


def test_every_row_has_three_cells_whatever_the_names_hold() -> None:
    odd = Skipped("tab\there\nand \udcff.png", "damaged image")
    lines = to_tsv([*SKIPPED, odd]).encode().decode().splitlines()
    assert lines[0] == "path\treason\tdetail"
    assert lines[-1] == "tab\\there\\nand \\udcff.png\tdamaged image\t"
    assert {line.count("\t") for line in lines} == {2}


def test_a_list_is_written_and_an_outdated_one_removed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "skipped.tsv"
    assert write(path, SKIPPED)
    assert path.read_text() == to_tsv(SKIPPED)
    assert not write(path, [])
    assert not path.exists()
