"""Renders templates, and how values look on pages. Escapes everything."""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import Response

from events.codes import told
from projections.rows import AttemptRow, ExecutionRow

PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
}
ASSETS = {
    "teo.css": "text/css",
    "overview.js": "text/javascript",
    "execution.js": "text/javascript",
    "docs.js": "text/javascript",
}
_CODE = re.compile(r"`([^`]+)`")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def page(template: str, *, status: int = 200, **values: Any) -> Response:
    """Return an HTML answer."""
    html = _environment().get_template(template).render(**values)
    return Response(html, status_code=status, headers=PAGE_HEADERS, media_type="text/html")


@cache
def asset(name: str) -> bytes:
    """Return a file of the pages; `name` is one of `ASSETS`."""
    assert name in ASSETS, name
    return (resources.files("api.dashboard") / "assets" / name).read_bytes()


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago `at` was, or how long ahead it is."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    text = span(abs(seconds))
    if abs(seconds) < 1:
        return "now"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def span(seconds: float) -> str:
    """Return a duration in its one or two largest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    for index, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            count, rest = divmod(int(seconds), size)
            smaller, smaller_unit = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            part = rest // smaller
            return f"{count} {unit} {part} {smaller_unit}" if part else f"{count} {unit}"
    return f"{seconds:.0f} s"


def took(start: datetime | None, end: datetime | None, now: datetime) -> str:
    """Return how long something lasted, or has lasted so far."""
    return "" if start is None else span(max(0.0, ((end or now) - start).total_seconds()))


def size(count: int) -> str:
    """Return a size in the unit that fits."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError(count)


def command_line(command: Sequence[str]) -> str:
    """Return a command as a shell would take it."""
    return shlex.join(command)


def whose_fault(found: ExecutionRow | AttemptRow) -> str:
    """Return in a few words whose fault an end is; empty: nobody's."""
    last = found if isinstance(found, AttemptRow) else next(iter(found.attempts[-1:]), None)
    if last is None:
        return told(found.fault)
    return told(found.fault, bench=last.bench, worker=last.worker)


def marked(text: str) -> Markup:
    """Return text with its `words` set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped.


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("api.dashboard", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=ago,
        took=took,
        span=span,
        size=size,
        command_line=command_line,
        marked=marked,
        whose_fault=whose_fault,
    )
    return environment
