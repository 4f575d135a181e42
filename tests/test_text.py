import re

import pytest

from rotvq.text import encodable, first_few, printable


def test_the_first_few_of_many_names() -> None:
    assert first_few(["a", "b"], 2) == "a, b"
    assert first_few(["a", "b", "c"], 2) == "a, b, …"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Кот 猫.png", "Кот 猫.png"),
        ("\x1b]0;title\x07.png", "\\x1b]0;title\\x07.png"),
        ("\x9b31m", "\\x9b31m"),
        ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("caf\udce9.png", "caf\\udce9.png"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_no_control_character_is_left() -> None:
    shown = printable("".join(map(chr, range(0x3000))))
    assert re.search(r"[\x00-\x1f\x7f-\x9f]", shown) is None
    shown.encode()


def test_stray_bytes_of_a_path_can_be_written_down() -> None:
    assert encodable("caf\udce9 ä.png") == "caf%E9 ä.png"
