"""Selectors parse, match and print as the field writes them."""

import pytest

from events.errors import InvalidSelector
from events.selector import parse

LABELS = {"board": "rpi4", "site": "muc", "arch": "arm64"}


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("", True),
        ("board=rpi4", True),
        ("board==rpi4", True),
        ("board=rpi5", False),
        ("board!=rpi5", True),
        ("board!=rpi4", False),
        ("rack!=a", True),
        ("board in (rpi3, rpi4)", True),
        ("board in (rpi3)", False),
        ("board notin (rpi3,rpi5)", True),
        ("board", True),
        ("rack", False),
        ("!rack", True),
        ("!board", False),
        ("board in (rpi3,rpi4),site=muc,arch", True),
        ("board in (rpi3,rpi4),site=ber", False),
    ],
)
def test_matches(text: str, is_match: bool) -> None:
    assert parse(text).matches(LABELS) is is_match


@pytest.mark.parametrize(
    "text", ["=x", "a=b,,c=d", "a in b", "a in (b", "a=b c", "a b", "x" * 2000]
)
def test_refuses_with_the_part_in_error(text: str) -> None:
    with pytest.raises(InvalidSelector, match="selector"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["a=b", "a!=b", "a in (b,c)", "a notin (b,c)", "a", "!a", "a=b,!c"]
)
def test_prints_what_it_parses(text: str) -> None:
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)
