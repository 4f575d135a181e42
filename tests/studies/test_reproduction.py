"""All studies at smoke size: the report has every row, figure and claim."""

from __future__ import annotations

import re
from pathlib import Path

from rotvq.cli.main import main

STORED = Path(__file__).with_name("reproduction_smoke.md")


def structure(report: str) -> str:
    """A report without what depends on the machine and on noise; rows keep their names."""
    report = re.sub(r"(?m)^\| (Hardware|Precision|Versions|Commit) .*\n", "", report)
    report = re.sub(r"(?m)(claims checked): .*$", r"\1", report)
    report = _claims_in_order(report)
    report = re.sub(r"(?i)\b(not |partly )?confirmed\b", "VERDICT", report)
    return "".join(map(_masked, report.splitlines(keepends=True)))


def _claims_in_order(report: str) -> str:
    """The report with its claims sorted, as their verdicts depend on noise."""
    before, heading, rest = report.partition("## Claims\n")
    claims, next_heading, after = rest.partition("\n## ")
    found = sorted(line for line in claims.splitlines(keepends=True) if line.startswith("- "))
    return "".join((before, heading, "\n", *found, next_heading, after))


def _masked(line: str) -> str:
    if line.startswith("!["):
        return line
    name = re.match(r"\| .*? \| |", line)
    assert name
    rest = re.sub(r"--out \S+(?=<)", "--out OUT", line[name.end() :])
    return name[0] + re.sub(r"[+−-]?\d[\d,.]*\b", "#", rest)


def test_all_studies_make_the_stored_report_except_for_its_numbers(tmp_path):
    out = tmp_path / "all"
    assert main(["reproduce", "all", "--preset", "smoke", "--out", str(out)]) == 0
    report = (out / "reproduction.md").read_text()
    for picture in re.findall(r"!\[.*\]\((.*)\)", report):
        assert (out / picture).stat().st_size > 1000, picture
    found = tmp_path / STORED.name
    found.write_text(structure(report))
    assert found.read_text() == STORED.read_text(), f"if this is intended: cp {found} {STORED}"
