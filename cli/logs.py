"""`teo logs`: prints what an execution wrote, exactly; never changes a byte of a line."""

from collections.abc import Collection, Sequence
from typing import Annotated

import typer

from cli import arguments
from cli.client import Client, segment
from cli.follow import LogFollower, ShowLines
from cli.problems import BadUsage
from cli.render import Screen
from cli.session import Session

PAGE_LINES = 10_000


def logs(
    session: Session,
    execution: arguments.ExecutionId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    since_line: Annotated[
        int | None, typer.Option(min=1, help="From this line on; the first is 1.")
    ] = None,
    attempt: arguments.Attempt = None,
) -> None:
    """Print the log of an execution: its last attempt's, or with -f all as it comes."""
    output = session.output(("table", "json"))
    execution_id = arguments.execution_id(execution)
    if follow and output == "json":
        raise BadUsage("-o json and -f exclude each other", next_step="leave one of them out")
    with session.client() as client:
        if follow:
            LogFollower(
                client,
                execution_id,
                session.screen,
                attempt=attempt,
                since_line=since_line,
                on_attempt=lambda number: _say_attempt(session.screen, number),
            ).run()
        else:
            _print(
                client,
                session.screen,
                execution_id,
                since_line=since_line or 1,
                attempt=attempt,
                show=_json_lines(session.screen) if output == "json" else None,
            )


def _say_attempt(screen: Screen, number: int) -> None:
    if number > 1:
        screen.note(f"attempt {number}")


def _json_lines(screen: Screen) -> ShowLines:
    from cli.render import to_json_line

    def show(attempt: int, first: int, texts: Sequence[str], stderr: Collection[int]) -> None:
        for index, text in enumerate(texts):
            stream = "stderr" if index in stderr else "stdout"
            line = {"attempt": attempt, "n": first + index, "stream": stream, "text": text}
            screen.print(to_json_line(line))

    return show


def _print(
    client: Client,
    screen: Screen,
    execution_id: str,
    *,
    since_line: int,
    attempt: int | None,
    show: ShowLines | None,
) -> None:
    """Print what there is now, and stop where it ends."""
    execution = client.get(f"/v1/executions/{segment(execution_id)}")
    number = attempt or len(execution.get("attempts") or ())
    ended = {each["number"] for each in execution.get("attempts") or () if each["finished_at"]}
    follower = LogFollower(
        client, execution_id, screen, attempt=number, since_line=since_line, show=show
    )
    if number in ended:
        # One stream from the first line to the last; each page would be searched for anew.
        follower.run()
        return
    path = f"/v1/executions/{segment(execution_id)}/logs"
    while True:
        asked = {"attempt": attempt, "since_line": since_line, "limit": PAGE_LINES}
        page = client.get(path, asked)
        follower.page(page)
        if not page["lines"] or page["is_complete"] or page["next_line"] <= since_line:
            return
        attempt, since_line = page["attempt"], page["next_line"]
