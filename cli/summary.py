"""The few lines at the end of a run: verdict, where, how long, cases, and what to look at next."""

from collections.abc import Mapping

from cli.client import Client, Json, segment
from cli.problems import Problem
from cli.render import Screen, elapsed, plain, totals, whose_fault

NOTHING: Mapping[int, int] = {}
_COLOURS = {"passed": "green", "failed": "red", "cancelled": "dim"}


def summary(
    client: Client, screen: Screen, execution: Json, *, missing: Mapping[int, int] = NOTHING
) -> list[str]:
    """Return the lines; what cannot be fetched is left out.

    `missing`: how many lines of each attempt were not shown.
    """
    if screen.is_quiet:
        return []
    execution_id, verdict = execution["id"], str(execution.get("verdict"))
    word = screen.paint(verdict.upper(), _COLOURS.get(verdict, "yellow"), is_error=True)
    where = f" on {plain(execution['bench'])}" if execution.get("bench") else ""
    took = ""
    if execution.get("started_at"):
        took = f" in {elapsed(execution['started_at'], execution.get('finished_at'))}"
    attempts = len(execution.get("attempts") or ())
    tries = f" (attempt {attempts})" if attempts > 1 else ""
    tries += ", flaky: its tests failed before" if execution.get("is_flaky") else ""
    lines = [f"{word} {execution_id}{where}{took}{tries}"]
    if verdict != "passed" and (execution.get("reason") or execution.get("code")):
        lines.append(f"  reason:    {plain(execution.get('reason') or execution.get('code'))}")
        if verdict == "error" or execution.get("fault") == "asker":
            lines.append(f"  fault:     {whose_fault(execution)}")
    elif note := _beside(str(execution.get("reason") or "")):
        lines.append(f"  note:      {plain(note)}")
    counts = totals(execution.get("totals"))
    if counts != "-":
        lines.append(f"  cases:     {counts}")
    lines += [
        f"  log:       {count} lines of attempt {attempt} came too fast to be shown; all of them: "
        f"teo logs {execution_id} --attempt {attempt}"
        for attempt, count in sorted(missing.items())
        if count
    ]
    kept = _artifact_count(client, execution_id)
    if kept:
        lines.append(f"  artifacts: {kept}")
    following = [f"teo logs {execution_id}" if attempts else f"teo status {execution_id}"]
    if counts != "-":
        following.insert(0, f"teo results {execution_id}")
    if kept:
        following.append(f"teo artifacts {execution_id} --download DIR")
    lines.append(f"  next:      {' · '.join(following)}")
    return lines


def _beside(reason: str) -> str:
    """Return what a passed run's reason says beside that it passed: files that were not kept."""
    parts = reason.split("; ")
    return "; ".join(
        part for part in parts if part != "exit code 0" and not part.endswith(", none failed")
    )


def _artifact_count(client: Client, execution_id: str) -> str:
    try:
        page = client.pages(f"/v1/executions/{segment(execution_id)}/artifacts", has_limit=False)
    except Problem:
        return ""
    return str(len(page)) if page else ""
