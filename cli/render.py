"""Shows resources as a table, JSON, YAML or names; colours only where a person looks."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO, cast

from cli.durations import humanise
from cli.problems import OutputLost
from events.codes import told

Json = dict[str, Any]
Format = Literal["table", "json", "yaml", "name", "junit"]
Column = tuple[str, Callable[[Json], str]]

_CODES = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}
_COLOUR_OF = {
    "passed": "green",
    "failed": "red",
    "error": "yellow",
    "errors": "yellow",
    "timed_out": "yellow",
    "cancelled": "dim",
    "skipped": "dim",
    "idle": "green",
    "granted": "green",
    "online": "green",
    "open": "yellow",
    "held": "cyan",
    "running": "cyan",
    "queued": "cyan",
    "draining": "yellow",
    "suspended": "red",
    "cleaning": "yellow",
    "quarantined": "red",
    "lost": "red",
    "offline": "dim",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Spinner(Protocol):
    """A line on the terminal that says what is waited for."""

    def update(self, status: str) -> None: ...


class Screen:
    """Standard output and error of this command, and what may be shown on them."""

    def __init__(
        self,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        env: Mapping[str, str] | None = None,
        is_quiet: bool = False,
        has_colour: bool = True,
    ) -> None:
        env = os.environ if env is None else env
        self.out = _usable(out or sys.stdout)
        self.err = _usable(err or sys.stderr)
        self.is_quiet = is_quiet
        may_colour = has_colour and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
        self.out_colour = may_colour and self.out.isatty()
        self.err_colour = may_colour and self.err.isatty()
        self.is_interactive = self.err.isatty() and env.get("TERM") != "dumb"

    def print(self, text: str) -> None:
        """Write one line of the command's result. Raises `OutputLost`."""
        with _lost():
            self.out.write(text + "\n")

    def flush(self) -> None:
        """Hand over what was printed. Raises `OutputLost`."""
        with _lost():
            self.out.flush()

    def note(self, text: str) -> None:
        """Write one line for the person, unless `--quiet`."""
        if not self.is_quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """Write one line about an error, always; what cannot be said changes nothing."""
        with suppress(OSError):
            self.err.write(text + "\n")
            self.err.flush()

    def write_log(self, text: str, *, is_error: bool) -> None:
        """Write log text exactly as it came, to the stream it came from. Raises `OutputLost`."""
        stream = self.err if is_error else self.out
        raw = getattr(stream, "buffer", None)
        with _lost():
            if raw is None:
                stream.write(text)
            else:
                stream.flush()  # What was printed before stays before.
                raw.write(text.encode("utf-8", "replace"))
            stream.flush()

    def paint(self, text: str, colour: str, *, is_error: bool = False) -> str:
        """Return `text` in a colour, if there are colours."""
        on = self.err_colour if is_error else self.out_colour
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if on and colour in _CODES else text

    def spinner(self, text: str) -> AbstractContextManager[Spinner]:
        """Return a spinner on a terminal; elsewhere each new text is a line of its own."""
        if self.is_quiet:
            return nullcontext(_Silent())
        if not self.is_interactive:
            lines = _Lines(self)
            lines.update(text)
            return nullcontext(lines)
        from rich.console import Console

        console = Console(file=self.err, no_color=not self.err_colour, markup=False)
        return cast(AbstractContextManager[Spinner], console.status(text, spinner="dots"))


def _usable(stream: TextIO | None) -> TextIO:
    """Return a stream that takes any text: nowhere, if whoever started us closed it."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # Characters that the terminal lacks.
    return stream


@contextmanager
def _lost() -> Iterator[None]:
    """Tell an output that takes nothing any more from one whose reader has left."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error) from error


class _Silent:
    def update(self, status: str) -> None:
        pass


class _Lines:
    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._said = ""

    def update(self, status: str) -> None:
        if status != self._said:
            self._said = status
            self._screen.note(status)


def plain(value: object) -> str:
    """Return a value as one line of text that cannot move the cursor; `-` for nothing."""
    if value is None or value == "" or value == [] or value == {}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _CONTROL.sub("?", str(value))


def labels(value: object) -> str:
    """Return labels as people write selectors."""
    if not isinstance(value, dict) or not value:
        return "-"
    return plain(",".join(f"{key}={value[key]}" for key in sorted(value)))


def totals(value: object) -> str:
    """Return the counts of cases that are not zero."""
    if not isinstance(value, dict):
        return "-"
    said = [f"{count} {word}" for word, count in value.items() if count]
    return ", ".join(said) or "-"


def whose_fault(item: Json) -> str:
    """Return in a few words whose fault the end of an execution or of an attempt is."""
    last = (item.get("attempts") or [item])[-1]
    fault = str(item.get("fault") or "")
    return plain(told(fault, bench=last.get("bench") or "", worker=last.get("worker") or ""))


def instant(text: object) -> datetime | None:
    """Return the time that an ISO-8601 text says, or None."""
    try:
        parsed = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def age(text: object, *, now: datetime | None = None) -> str:
    """Return how long ago a time was."""
    at = instant(text)
    if at is None:
        return "-"
    return humanise(max(0.0, ((now or datetime.now(UTC)) - at).total_seconds()))


def elapsed(start: object, end: object) -> str:
    """Return the time between two times; to now if there is no end yet."""
    first, last = instant(start), instant(end)
    if first is None:
        return "-"
    return humanise(max(0.0, ((last or datetime.now(UTC)) - first).total_seconds()))


def field(name: str) -> Callable[[Json], str]:
    """Return a column's text: one field of the item."""
    return lambda item: plain(item.get(name))


def show_list(
    screen: Screen,
    items: Sequence[Json],
    columns: Sequence[Column],
    *,
    output: Format,
    empty: str,
    name: str = "id",
) -> None:
    """Print items in the format asked for; `empty` is said (on stderr) of an empty table."""
    if output == "table" and not items:
        screen.note(empty)
    elif output == "table":
        for line in table(screen, items, columns):
            screen.print(line)
    else:
        _show_data(screen, items, output=output, name=name)


def show_one(
    screen: Screen,
    item: Json,
    rows: Sequence[Column],
    *,
    output: Format,
    name: str = "id",
) -> None:
    """Print one resource: as a table it is one row for each field."""
    if output != "table":
        _show_data(screen, item, output=output, name=name)
        return
    width = max(len(title) for title, _ in rows)
    for title, text_of in rows:
        text = text_of(item)
        screen.print(f"{screen.paint(title.ljust(width), 'dim')}  {_painted(screen, text, text)}")


def table(screen: Screen, items: Iterable[Json], columns: Sequence[Column]) -> list[str]:
    """Return the lines of an aligned table, header first; nothing is cut off."""
    rows = [[text_of(item) for _, text_of in columns] for item in items]
    titles = [title for title, _ in columns]
    widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
    lines = [screen.paint(_aligned(titles, titles, widths), "bold")]
    lines += [_aligned([_painted(screen, text, text) for text in row], row, widths) for row in rows]
    return lines


def to_json(value: object) -> str:
    """Return stable, indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def to_json_line(value: object) -> str:
    """Return JSON on one line, for streams of objects."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def to_yaml(value: object) -> str:
    """Return YAML with the fields in the server's order."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip("\n")


def _show_data(screen: Screen, value: Json | Sequence[Json], *, output: Format, name: str) -> None:
    if output == "name":
        for item in [value] if isinstance(value, dict) else value:
            screen.print(str(item[name]))
        return
    whole = value if isinstance(value, dict) else list(value)
    screen.print(to_yaml(whole) if output == "yaml" else to_json(whole))


def _aligned(shown: Sequence[str], texts: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell + " " * (width - _width(text))
        for cell, text, width in zip(shown, texts, widths, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _painted(screen: Screen, shown: str, word: str) -> str:
    return screen.paint(shown, _COLOUR_OF.get(word.lower(), ""))


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
