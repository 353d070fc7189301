"""Tables are aligned, harmless to the terminal and coloured for people only."""

import io
import json
from datetime import UTC, datetime

from cli.render import Screen, age, elapsed, field, labels, plain, show_list, show_one, totals

COLUMNS = [("NAME", field("name")), ("STATE", field("state"))]
BENCHES = [{"name": "b-1", "state": "idle"}, {"name": "bench-22", "state": "held"}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(output, items=BENCHES, out=None, **settings):
    screen = Screen(out=out or io.StringIO(), err=io.StringIO(), env={}, **settings)
    show_list(screen, items, COLUMNS, output=output, empty="no benches", name="name")
    return screen.out.getvalue(), screen.err.getvalue()


def test_a_table_is_aligned():
    assert shown("table")[0] == "NAME      STATE\nb-1       idle\nbench-22  held\n"


def test_wide_letters_are_counted_as_the_terminal_does():
    out, _ = shown("table", [{"name": "車車", "state": "idle"}])
    assert out == "NAME  STATE\n車車  idle\n"


def test_names_json_and_yaml():
    assert shown("name")[0] == "b-1\nbench-22\n"
    assert json.loads(shown("json")[0]) == BENCHES
    assert shown("yaml")[0].startswith("- name: b-1\n  state: idle\n")


def test_an_empty_table_says_so_on_stderr_and_empty_json_is_a_list():
    assert shown("table", []) == ("", "no benches\n")
    assert shown("json", []) == ("[]\n", "")
    assert shown("name", []) == ("", "")


def test_colours_are_for_terminals_without_no_color():
    screen = Screen(out=Terminal(), err=Terminal(), env={})
    assert screen.paint("idle", "green") == "\x1b[32midle\x1b[0m"
    for env, has_colour in (({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, True), ({}, False)):
        quiet = Screen(out=Terminal(), err=Terminal(), env=env, has_colour=has_colour)
        assert quiet.paint("idle", "green") == "idle"
    assert Screen(out=io.StringIO(), err=Terminal(), env={}).paint("x", "green") == "x"


def test_coloured_cells_stay_aligned():
    out, _ = shown("table", out=Terminal())
    assert "\x1b[32midle\x1b[0m" in out
    assert "b-1       \x1b[32m" in out


def test_a_label_cannot_move_the_cursor():
    assert plain("a\x1b[2Jb\nc") == "a?[2Jb?c"
    assert labels({"b": "2", "a": "\x1b"}) == "a=?,b=2"


def test_one_resource_is_a_row_for_each_field():
    screen = Screen(out=io.StringIO(), err=io.StringIO(), env={})
    show_one(screen, BENCHES[0], COLUMNS, output="table", name="name")
    assert screen.out.getvalue() == "NAME   b-1\nSTATE  idle\n"


def test_times_and_totals():
    now = datetime(2026, 1, 1, 0, 1, 5, tzinfo=UTC)
    assert age("2026-01-01T00:00:00Z", now=now) == "1m05s"
    assert age(None) == age("rubbish") == "-"
    assert elapsed("2026-01-01T00:00:00Z", "2026-01-01T02:30:00Z") == "2h30m"
    assert totals({"passed": 3, "failed": 0, "errors": 1}) == "3 passed, 1 errors"
    assert totals({"passed": 0}) == totals(None) == "-"


def test_log_text_goes_out_byte_for_byte_even_if_it_is_no_text():
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    screen = Screen(out=out, err=io.StringIO(), env={})
    screen.write_log("grün\t\x1b[0m \ud800\n", is_error=False)
    assert raw.getvalue() == "grün\t\x1b[0m ?\n".encode()
    out.detach()


def test_quiet_keeps_errors():
    screen = Screen(out=io.StringIO(), err=io.StringIO(), env={}, is_quiet=True)
    screen.note("a note")
    screen.complain("an error")
    assert screen.err.getvalue() == "an error\n"
