"""`teo results`: the test cases of an execution, as a table, JSON or JUnit XML."""

from cli import arguments
from cli.client import Json, segment
from cli.durations import humanise
from cli.render import Column, field, plain, show_list
from cli.session import Session

_MESSAGE_CHARS_MAX = 100

_COLUMNS: list[Column] = [
    ("STATUS", lambda item: f"{item.get('status')}{' (flaky)' if item.get('is_flaky') else ''}"),
    ("CASE", lambda item: "::".join(filter(None, (item.get("classname"), item.get("name"))))),
    ("SUITE", field("suite")),
    ("TOOK", lambda item: humanise(item.get("duration_s"))),
    ("MESSAGE", lambda item: _short(item.get("message"))),
]


def results(
    session: Session, execution: arguments.ExecutionId, attempt: arguments.Attempt = None
) -> None:
    """Show the test cases of an execution (of its last attempt, if none is named)."""
    output = session.output(("table", "json", "yaml", "name", "junit"))
    execution_id = arguments.execution_id(execution)
    path = f"/v1/executions/{segment(execution_id)}"
    with session.client() as client:
        if output == "junit":
            text = client.get(f"{path}/junit", {"attempt": attempt}, accept="application/xml")
            session.screen.print(str(text).rstrip("\n"))
            return
        cases: list[Json] = client.pages(f"{path}/cases", {"attempt": attempt})
    if cases and attempt is None:
        last = max(case["attempt"] for case in cases)
        cases = [case for case in cases if case["attempt"] == last]
    show_list(
        session.screen,
        cases,
        _COLUMNS,
        output=output,
        empty=f"{execution_id} has no test cases: was it run with --junit?",
        name="name",
    )


def _short(message: object) -> str:
    text = plain(str(message or "").strip().partition("\n")[0])
    return text if len(text) <= _MESSAGE_CHARS_MAX else text[: _MESSAGE_CHARS_MAX - 1] + "…"
