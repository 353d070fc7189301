"""What may be said to an adapter: taken and refused, and never an error of another kind."""

import os
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import grammar
from adapters.grammar import Wrong, parts_of, wrong_glob
from events.selector import parse, quoted

GOOD_GLOBS = (
    "*.xml",
    "reports/**/*.xml",
    "a..b",
    "./~x",
    "out/",
    "**",
    "./",
    "a//b",
    "[z-a]",
    "ü?",
)
BAD_GLOBS = {
    "": "empty",
    ".": "names no file",
    "./.": "names no file",
    "~/results/*": "leaves the workspace",
    "~": "leaves the workspace",
    "/etc/passwd": "leaves the workspace",
    "/": "leaves the workspace",
    "a\\b": "backslash",
    "..": "climbs out",
    "a/../../x": "climbs out",
    "a/..": "climbs out",
    "a\0b": "NUL",
    "\udcff*": "not UTF-8",
    "x" * 1025: "1025 characters, 1024 allowed",
    "/".join("a" * 65): "over 64 parts",
}


@pytest.mark.parametrize("glob", GOOD_GLOBS)
def test_a_good_glob_is_taken(glob: str) -> None:
    assert wrong_glob(glob) is None
    assert parts_of(glob)


@pytest.mark.parametrize("glob", BAD_GLOBS)
def test_a_bad_glob_is_refused_with_the_next_step(glob: str) -> None:
    wrong = wrong_glob(glob)
    assert wrong is not None
    assert wrong.code == "invalid_glob"
    assert BAD_GLOBS[glob] in wrong.what
    assert wrong.next_step
    str(wrong).encode()
    assert str(wrong).isprintable()


@given(st.text(alphabet="[]!^-*?az\\.&~|:/ \0\n\ud800", max_size=24))
def test_every_glob_is_taken_or_refused_and_never_warned_of(glob: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if (wrong := wrong_glob(glob)) is not None:
            assert str(wrong).isprintable()
            return
        parts = parts_of(glob)
    assert 0 < len(parts) <= grammar.GLOB_PARTS_MAX + 2
    assert "\0" not in glob


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (grammar.wrong_globs(["*"] * 101), "101 globs, 100 allowed"),
        (grammar.wrong_globs(["*", "../x"]), "climbs out"),
        (grammar.wrong_command([]), "no command"),
        (grammar.wrong_command([""]), "no command"),
        (grammar.wrong_command(["echo", "a\0b"]), "NUL"),
        (grammar.wrong_command(["echo", os.fsdecode(b"\xff")]), "not UTF-8"),
        (grammar.wrong_command(["echo", "é" * 65_536]), "131072 bytes, 131071 allowed"),
        (grammar.wrong_command(["echo"] * 1_001), "1001 words, 1000 allowed"),
        (grammar.wrong_variables({"A B": ""}), "'A B' is no name of a variable"),
        (grammar.wrong_variables({"": ""}), "no name of a variable"),
        (grammar.wrong_variables({"A\n": ""}), "no name of a variable"),
        (grammar.wrong_variables({"TEO_FENCE": "1"}), "is set for each attempt"),
        (grammar.wrong_variables({"A": "\0"}), "NUL"),
        (grammar.wrong_variables({"A": "x" * 131_070}), "131072 bytes"),
        (grammar.wrong_variables({f"A{n}": "" for n in range(1_001)}), "1001 variables"),
        (grammar.wrong_name("lab/a", "pool"), "'lab/a' is no name of a pool"),
        (grammar.wrong_name("..", "pool"), "is no name of a pool"),
        (grammar.wrong_name("", "bench"), "is no name of a bench"),
        (grammar.wrong_name("a\n", "bench"), "is no name of a bench"),
        (grammar.wrong_name("a" * 129, "bench"), "is no name of a bench"),
        (grammar.wrong_labels({"a b": "c"}), "'a b' is no name of a label"),
        (grammar.wrong_labels({"a": 'say "hi"'}), "no value of label a"),
        (grammar.wrong_labels({"a": " b"}), "no value of label a"),
        (grammar.wrong_labels({"a": "b\n"}), "no value of label a"),
        (grammar.wrong_labels({"a": "b" * 129}), "no value of label a"),
        (grammar.wrong_labels({f"a{n}": "" for n in range(65)}), "65 labels, 64 allowed"),
    ],
)
def test_what_is_refused_says_why(wrong: Wrong | None, what: str) -> None:
    assert wrong is not None
    assert what in wrong.what
    assert wrong.next_step


def test_what_fits_is_taken() -> None:
    assert grammar.wrong_command(["echo", "x" * 131_071, "", "a\nb"]) is None
    assert grammar.wrong_variables({"A": "x" * 131_069, "_b": ""}) is None
    assert grammar.wrong_name("lab-a.1_b", "pool") is None
    assert grammar.wrong_labels({"example.org/fw": "1.2.3+rc1", "tool": "g++", "x": ""}) is None


VALUES = st.text(max_size=140)


@given(VALUES)
def test_every_label_that_is_taken_can_be_selected(value: str) -> None:
    if grammar.wrong_label("k", value) is not None:
        return
    for text in (f"k={quoted(value)}", f"k in (other,{quoted(value)})"):
        selector = parse(text)
        assert selector.matches({"k": value})
        assert not selector.matches({"k": value + "x"})
        assert parse(str(selector)) == selector


@pytest.mark.parametrize("value", ["1.2.3+rc1", "g++", "München", "a@b", "50%off"])
def test_what_people_write_needs_no_quotes(value: str) -> None:
    assert quoted(value) == value
    assert parse(f"k={value}").matches({"k": value})
