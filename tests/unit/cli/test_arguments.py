"""Selectors, ids and variables are checked before anything is sent."""

import pytest

from cli import arguments
from cli.client import segment
from cli.problems import BadUsage


def test_selectors_are_joined_into_one():
    assert arguments.selector(["board=rpi4", " site in (muc, ber) "]) == (
        "board=rpi4,site in (muc, ber)"
    )
    assert arguments.selector(None) == ""


@pytest.mark.parametrize("text", ["=x", "a b", "k in (", "board=rpi 4", "", "  "])
def test_a_malformed_selector_is_refused(text):
    with pytest.raises(BadUsage) as refused:
        arguments.selector([text])
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "exe-", "res-1", "exe-../x", "exe-1/2"])
def test_what_is_no_execution_id_is_refused(text):
    with pytest.raises(BadUsage, match="no id of an execution"):
        arguments.execution_id(text)


def test_variables():
    assert arguments.environment(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for pair in ("A", "=1"):
        with pytest.raises(BadUsage, match="NAME=VALUE"):
            arguments.environment([pair])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/b", "a%2Fb"),
        ("...", "..."),
        ("\udcff", "%ED%B3%BF"),
        ("a\n", "a%0A"),
    ],
)
def test_a_name_is_one_segment_of_a_path_and_leads_nowhere_else(name, said):
    assert segment(name) == said
