"""Follows one execution: its place in the queue, its log lines, its end; never changes it."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from cli import sse
from cli.client import Client, Json, segment
from cli.exit_codes import ExitCode
from cli.problems import Problem
from cli.render import Screen, plain

QUEUE_POLL_S = 5.0
END_POLL_S = 30.0
BENCHES_LOOKED_AT_MAX = 50
OUT_OF_SERVICE = ("quarantined", "offline")

WriteLines = Callable[[str, bool], None]


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
        on_attempt: Callable[[int], None] | None = None,
        on_requeued: Callable[[Json], None] | None = None,
        on_silence: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._path = f"/v1/executions/{segment(execution_id)}/logs"
        self._screen = screen
        self._only = attempt
        self._attempt = attempt or 0
        self._since_line = since_line
        self._next_line = since_line or 1
        self._write = write or (lambda text, is_error: screen.write_log(text, is_error=is_error))
        self._on_attempt = on_attempt
        self._on_requeued = on_requeued
        self._on_silence = on_silence

    def run(self) -> None:
        """Write lines until the execution has finished and all of them were written."""
        params = {"attempt": self._only, "since_line": self._since_line}
        with closing(self._client.stream(self._path, params)) as events:
            for event in events:
                if event.event == "end":
                    return
                self._handle(event.event, event.data)

    def _handle(self, kind: str, data: str) -> None:
        body: Any = json.loads(data) if data else {}
        match kind:
            case "lines":
                self._lines(body)
            case "attempt":
                self._begin(int(body["attempt"]))
            case "requeued" if self._on_requeued is not None:
                self._on_requeued(body)
            case sse.SILENCE if self._on_silence is not None:
                self._on_silence()
            case _:
                pass  # `gap` shows in the numbers; a newer server may send more.

    def _begin(self, attempt: int) -> None:
        if attempt <= self._attempt:
            return
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
        if first > self._next_line:
            self._screen.note(
                f"teo: lines {self._next_line} to {first - 1} of attempt {attempt} are not kept"
            )
        self._next_line = first + len(texts)
        stderr = {int(index) for index in body.get("stderr") or ()}
        if not stderr:
            self._write("\n".join(texts[known:]) + "\n", False)
            return
        start = known
        for index in range(known + 1, len(texts) + 1):
            if index == len(texts) or (index in stderr) != (start in stderr):
                self._write("\n".join(texts[start:index]) + "\n", start in stderr)
                start = index


def wait_for_start(client: Client, execution: Json, say: Callable[[str], None]) -> Json:
    """Return the execution once it no longer waits for a bench."""
    while execution["status"] == "queued":
        say(queue_text(execution) + out_of_service(client, execution))
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
    """Return why an execution or reservation waits, and its place."""
    place = item.get("queue_position")
    reason = f": {item['reason']}" if item.get("reason") else ""
    where = f"in pool {item.get('pool')}"
    if place is None:
        return f"{item['id']} waits for a bench {where}{reason}"
    return f"{item['id']} waits for a bench {where}, place {place} in the queue{reason}"


def out_of_service(client: Client, execution: Json) -> str:
    """Return that no bench that matches can serve it now, with a `; ` before; else nothing."""
    if execution.get("reservation_id") or "no bench" in str(execution.get("reason")):
        return ""  # The server says it, with each bench's reason.
    asked = {"pool": execution["pool"], "selector": execution.get("selector") or None}
    try:
        benches = client.pages("/v1/benches", asked, limit=BENCHES_LOOKED_AT_MAX)
    except Problem:  # The run waits all the same: what cannot be said beside that is left out.
        return ""
    states = sorted({str(bench["state"]) for bench in benches})
    if not benches or benches.has_more or not set(states) <= set(OUT_OF_SERVICE):
        return ""
    pool = plain(execution["pool"])
    if len(benches) == 1:
        name = plain(benches[0]["name"])
        return f"; 1 bench matches, it is {states[0]}: teo bench show {name} --pool {pool}"
    said = " or ".join(states)
    return f"; {len(benches)} benches match, all are {said}: teo bench list --pool {pool}"
