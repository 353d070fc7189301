"""What a person is told to do next is what helps, whatever the server says."""

import json

import pytest

from cli.exit_codes import ExitCode
from cli.problems import from_answer, unavailable, undecided

SERVER = "http://x"


def said(status, code, detail, *, is_write=False):
    body = json.dumps({"status": status, "code": code, "detail": detail}).encode()
    refused = from_answer(status, body, server=SERVER)
    return unavailable(refused, server=SERVER, is_write=is_write)


@pytest.mark.parametrize(
    ("status", "code", "detail", "next_step"),
    [
        (503, "log_unavailable", "the log is away; wait", "`curl http://x/readyz`"),
        (502, "", "", "`curl http://x/readyz`"),
        (500, "internal", "an error of ours; its log has it", "its log has it"),
        (429, "", "too much; ask once a second", "ask once a second"),
        (503, "letter_not_put_back", "noted; repeat the replay", "it counts once"),
    ],
)
def test_an_answer_that_may_change_names_what_helps(status, code, detail, next_step):
    problem = said(status, code, detail)
    assert problem.what.startswith(f"the server at {SERVER} cannot serve this now: {status}")
    assert next_step in problem.next_step
    assert "send it again" not in problem.next_step
    assert problem.exit_code == ExitCode.UNREACHABLE


def test_what_may_have_been_taken_is_looked_for_before_it_is_sent_again():
    for problem in (
        said(503, "log_unavailable", "away; wait", is_write=True),
        undecided(SERVER, "cmd-1", after_s=60.0),
    ):
        assert "look with `teo status` or `teo bench list`" in problem.next_step


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_answer_that_no_api_gives_is_taken_for_another_server(status):
    refused = from_answer(status, b"<html>not here</html>", server=SERVER)
    assert refused.what == f"{SERVER} answered {status}"
    assert "is it a teo server?" in refused.next_step
