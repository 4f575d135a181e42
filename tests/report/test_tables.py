from rotvq.report import tables
from rotvq.run_record import load_run, load_runs


def _texts(cells):
    return [cell.text for cell in cells]


def test_differing_fields_are_separate_from_shared_ones(make_run):
    runs = load_runs([make_run("a", codes=64), make_run("b", codes=32, estimator="reflection")])
    differ, same = tables.config_rows(runs)

    assert {row.name: _texts(row.cells) for row in differ} == {
        "quantizer.codebook_size": ["64", "32"],
        "quantizer.estimator": ["rotation", "reflection"],
    }
    assert {row.name: row.cells[0].text for row in same}["data.size"] == "null"
    assert not {row.name for row in same} & {row.name for row in differ}


def test_a_field_that_one_configuration_lacks_differs(make_run):
    runs = load_runs([make_run("a"), make_run("b")])
    with (runs[1].path / "config.yaml").open("a") as file:
        file.write("extra: {deep: {list: [1, 2], none: {}}}\n")
    differ, _ = tables.config_rows(load_runs([run.path for run in runs]))

    assert {row.name: _texts(row.cells) for row in differ} == {
        "extra.deep.list": [tables.MISSING, "[1, 2]"],
        "extra.deep.none": [tables.MISSING, "{}"],
    }


def test_facts_that_agree_are_shown_once(make_run):
    runs = load_runs([make_run("a", command="rotvq a"), make_run("b", command="rotvq b")])
    facts = {fact.name: fact.values for fact in tables.facts(runs)}

    assert facts["Hardware"] == ((None, "AMD EPYC (device cpu, cores 2, threads 2)"),)
    assert facts["Command"] == (("a", "rotvq a"), ("b", "rotvq b"))


def test_an_unfinished_run_shows_its_progress(make_run):
    path = make_run(epochs=4)
    lines = (path / "epochs.jsonl").read_text().splitlines()
    (path / "epochs.jsonl").write_text("\n".join(lines[:1]))
    assert tables.describe(load_run(path)) == "rotation, 64 codes, 1 of 4 epochs"


def test_names_are_listed_as_a_phrase():
    assert [tables.listed(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_dotted_names_are_shortened_where_they_stay_distinct():
    names = ["quantizer.decay", "model.dim", "prior.dim"]
    assert tables.short_names(names) == ["decay", "model.dim", "prior.dim"]
