"""Claims by their verdict."""

from rotvq.studies.claim import Claim, grouped


def test_claims_are_grouped_by_verdict_and_the_members_of_a_family_in_one_statement():
    lower = [
        Claim(f"Lower: {name}.", verdict, "", "Lower", name)
        for name, verdict in (("a", "confirmed"), ("b", "not confirmed"), ("c", "confirmed"))
    ]
    alone = Claim("All codes are in use.", "confirmed", "")
    found = grouped({"steps": [lower[0], alone, *lower[1:]], "best": [alone]})
    assert [(group.verdict, group.statements) for group in found] == [
        (
            "confirmed",
            (
                ("steps", "Lower: a; c."),
                ("steps", "All codes are in use."),
                ("best", "All codes are in use."),
            ),
        ),
        ("not confirmed", (("steps", "Lower: b."),)),
    ]
