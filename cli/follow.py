"""Follows one execution: its place in the queue, its log lines, its end; never changes it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import Any

from cli import sse
from cli.client import Client, Json, segment
from cli.exit_codes import ExitCode
from cli.problems import Problem
from cli.render import Screen, plain
from events.logs import TOO_FAST

QUEUE_POLL_S = 5.0
END_POLL_S = 30.0

WriteLines = Callable[[str, bool], None]
ShowLines = Callable[[int, int, Sequence[str], Collection[int]], None]
"""Takes the attempt, the number of the first line, the lines, and which go to stderr."""


class LogFollower:
    """Writes each line of an execution's log once, in order, however often the stream breaks."""

    def __init__(
        self,
        client: Client,
        execution_id: str,
        screen: Screen,
        *,
        attempt: int | None = None,
        since_line: int | None = None,
        write: WriteLines | None = None,
        show: ShowLines | None = None,
        on_attempt: Callable[[int], None] | None = None,
        on_requeued: Callable[[Json], None] | None = None,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._execution_id = execution_id
        self._path = f"/v1/executions/{segment(execution_id)}/logs"
        self._screen = screen
        self._only = attempt
        self._attempt = attempt or 0
        self._since_line = since_line
        self._next_line = since_line or 1
        self._write = write or (lambda text, is_error: screen.write_log(text, is_error=is_error))
        self._show = show or self._write_lines
        self._gap_end = 0
        """Up to which line, not included, the current attempt is known to have lines not here."""
        self.missing: Counter[int] = Counter()
        """How many lines of each attempt did not come, as far as the stream says so."""
        self._on_attempt = on_attempt
        self._on_requeued = on_requeued
        self._on_silence = on_silence

    def run(self) -> None:
        """Write lines until the execution has finished and all of them were written."""
        params = {"attempt": self._only, "since_line": self._since_line}
        with closing(self._client.stream(self._path, params)) as events:
            for event in events:
                if event.event == "end":
                    self._close_gap()
                    return
                self._handle(event.event, event.data)

    def page(self, page: Json) -> None:
        """Write the lines of one page of a log that is fetched, not followed."""
        for line in page["lines"]:
            stderr = [0] if line["stream"] == "stderr" else []
            self._show(page["attempt"], line["n"], [line["text"]], stderr)

    def _handle(self, kind: str, data: str) -> None:
        body: Any = json.loads(data) if data else {}
        match kind:
            case "lines":
                self._lines(body)
            case "attempt":
                self._begin(int(body["attempt"]))
            case "gap" if int(body["attempt"]) >= self._attempt:
                self._begin(int(body["attempt"]))
                self._gap_end = int(body["next_line"] or 0)
            case "requeued" if self._on_requeued is not None:
                self._on_requeued(body)
            case sse.SILENCE if self._on_silence is not None:
                self._on_silence()
            case _:
                pass  # A newer server may send more.

    def _begin(self, attempt: int) -> None:
        if attempt <= self._attempt:
            return
        self._close_gap()
        is_first = self._attempt == 0
        self._attempt = attempt
        self._next_line = (self._since_line or 1) if is_first else 1
        if self._on_attempt is not None:
            self._on_attempt(attempt)

    def _lines(self, body: Json) -> None:
        attempt, first, texts = int(body["attempt"]), int(body["first_line"]), body["lines"]
        if attempt < self._attempt:
            return
        self._begin(attempt)
        known = max(0, self._next_line - first)
        if known >= len(texts):
            return
        self._miss_up_to(first)
        self._next_line = first + len(texts)
        stderr = {int(index) - known for index in body.get("stderr") or ()}
        self.missing[attempt] += texts[known:].count(TOO_FAST)
        self._show(attempt, first + known, texts[known:], stderr)

    def _close_gap(self) -> None:
        """Count lines that were missing at the end of an attempt: none came after them."""
        self._miss_up_to(self._gap_end)
        self._gap_end = 0

    def _miss_up_to(self, line: int) -> None:
        if line <= self._next_line:
            return
        self.missing[self._attempt] += line - self._next_line
        self._screen.note(
            f"teo: lines {self._next_line} to {line - 1} of attempt {self._attempt} are not here; "
            f"look in its log.txt: teo artifacts {self._execution_id} --kind log --download DIR"
        )
        self._next_line = line

    def _write_lines(
        self, _attempt: int, _first: int, texts: Sequence[str], stderr: Collection[int]
    ) -> None:
        if not stderr:
            self._write("\n".join(texts) + "\n", False)
            return
        start = 0
        for index in range(1, len(texts) + 1):
            if index == len(texts) or (index in stderr) != (start in stderr):
                self._write("\n".join(texts[start:index]) + "\n", start in stderr)
                start = index


def wait_for_start(client: Client, execution: Json, say: Callable[[str], None]) -> Json:
    """Return the execution once it no longer waits for a bench."""
    while execution["status"] == "queued":
        say(queue_text(execution))
        execution = client.get(
            f"/v1/executions/{segment(execution['id'])}",
            {"until": "started"},
            wait_s=QUEUE_POLL_S,
            is_following=True,
        )
    return execution


def wait_for_end(client: Client, execution_id: str, *, timeout_s: float | None = None) -> Json:
    """Return the execution once it has finished. Raises `Problem` if that takes longer."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    wait_s = 0.0
    while True:
        execution: Json = client.get(
            f"/v1/executions/{segment(execution_id)}",
            {"until": "finished"},
            wait_s=wait_s,
            is_following=True,
        )
        if execution["status"] == "finished":
            return execution
        left_s = END_POLL_S if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            raise Problem(
                f"{execution_id} is still {execution['status']} after {timeout_s:g}s",
                next_step=f"wait on with `teo wait {execution_id}`, or cancel it with "
                f"`teo cancel {execution_id}`",
                exit_code=ExitCode.WAIT_TIMED_OUT,
            )
        wait_s = round(min(left_s, END_POLL_S), 3)


def queue_text(item: Json) -> str:
    """Return why an execution or reservation waits, its place, and whether any bench can serve."""
    place = item.get("queue_position")
    why = waits_for(item)
    reason = f": {plain(why)}" if why else ""
    where = f"in pool {item.get('pool')}"
    if place is None:
        return f"{item['id']} waits for a bench {where}{reason}"
    return f"{item['id']} waits for a bench {where}, place {place} in the queue{reason}"


def waits_for(item: Json) -> str:
    """Return why an ask waits: what was said of it, and why no bench can serve it now."""
    return "; ".join(str(item[key]) for key in ("reason", "stuck") if item.get(key))
