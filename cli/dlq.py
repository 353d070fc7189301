"""`teo dlq`: looks at dead letters, puts them back where they came from, or discards them."""

from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from cli.client import Client, Json, segment
from cli.command import group
from cli.problems import BadUsage, Problem, Unreachable
from cli.render import Column, age, field, plain, show_list, show_one, to_json
from cli.session import Session

ERROR_CHARS_SHOWN = 80
HEX_PER_LINE = 16

Letters = Annotated[
    list[str] | None,
    typer.Argument(metavar="LETTER", help="Ids of letters: partition-offset, as in 3-17."),
]
Pool = Annotated[str | None, typer.Option("--pool", help="Only of this pool.")]
Kind = Annotated[
    str | None, typer.Option(help="Only of this kind: record or execution; both if not given.")
]
Status = Annotated[
    str, typer.Option("--status", help="open, replayed, discarded, by commas; '' is all.")
]
All = Annotated[bool, typer.Option("--all", help="All open letters; --pool and --kind choose.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_COLUMNS: list[Column] = [
    ("LETTER", field("id")),
    ("KIND", field("kind")),
    ("POOL", field("pool")),
    ("WHAT", lambda item: plain(item.get("execution_id") or item.get("type"))),
    ("STATUS", field("status")),
    ("BY", field("settled_by")),
    ("AGE", lambda item: age(item.get("found_at"))),
    ("ERROR", lambda item: _cut(plain(item.get("error")))),
]
_ROWS: list[Column] = [
    ("letter", field("id")),
    ("kind", field("kind")),
    ("status", field("status")),
    ("settled by", field("settled_by")),
    ("settled at", field("settled_at")),
    ("settled why", field("settled_reason")),
    ("replays", lambda item: plain(item.get("replays") or "")),
    ("pool", field("pool")),
    ("execution", field("execution_id")),
    ("source", lambda item: _source(item)),
    ("written", field("source_at")),
    ("found", field("found_at")),
    ("found by", field("found_by")),
    ("error", field("error")),
    ("key", field("key")),
    ("size", lambda item: f"{item.get('size_bytes')} bytes"),
    ("cut", lambda item: _cut_to(item)),
    ("unreadable", field("undecodable")),
]


def list_(
    session: Session,
    pool: Pool = None,
    kind: Kind = None,
    status: Status = "open",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
) -> None:
    """List dead letters, newest first; the open ones, if nothing else is asked for."""
    output = session.output()
    filters = {"pool": pool, "kind": kind, "status": status}
    with session.client() as client:
        letters = client.pages("/v1/dead-letters", filters, limit=limit)
    empty = f"no {status} dead letters" if status else "no dead letters"
    show_list(session.screen, letters, _COLUMNS, output=output, empty=empty)
    if letters.has_more and output == "table":
        session.screen.note(f"the newest {limit} are shown; more with --limit")


def show(
    session: Session,
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="Id of a letter.")],
) -> None:
    """Show one dead letter: where it comes from, what is wrong, and all it holds."""
    output = session.output()
    with session.client() as client:
        found = client.get(_path(letter))
    rows = [row for row in _ROWS if row[1](found) != "-"]
    show_one(session.screen, found, rows, output=output)
    if output != "table":
        return
    for name, text in found["headers"].items():
        session.screen.print(
            f"{session.screen.paint('header', 'dim')}  {plain(name)}={plain(text)}"
        )
    if found["stack"]:
        session.screen.print(session.screen.paint("stack", "dim"))
        for line in found["stack"].rstrip().splitlines():
            session.screen.print(f"  {plain(line)}")
    session.screen.print(session.screen.paint("value", "dim"))
    if found["value"] is not None:
        session.screen.print(to_json(found["value"]))
        return
    for line in hex_dump(bytes.fromhex(found["value_hex"])):
        session.screen.print(line)
    if found["size_bytes"] * 2 > len(found["value_hex"]):
        session.screen.note(f"the first {len(found['value_hex']) // 2} bytes are shown")


def replay(
    session: Session,
    letters: Letters = None,
    everything: All = False,
    pool: Pool = None,
    kind: Kind = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks at it next.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also what still cannot be read.")] = False,
    yes: Yes = False,
) -> int:
    """Put dead letters back where they came from; an execution is run once more, once only."""
    body: Json = {"reason": reason, "force": force}

    def note(done: Json) -> str:
        return f"{done['id']}: {_replayed(done)}"

    return _settle(
        session,
        letters,
        everything=everything,
        filters={"pool": pool, "kind": kind},
        verb="replay",
        body=body,
        note=note,
        is_sure=yes,
    )


def discard(
    session: Session,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks at it next.")],
    letters: Letters = None,
    everything: All = False,
    pool: Pool = None,
    kind: Kind = None,
    yes: Yes = False,
) -> int:
    """Settle dead letters without putting them back. They stay on the log."""
    return _settle(
        session,
        letters,
        everything=everything,
        filters={"pool": pool, "kind": kind},
        verb="discard",
        body={"reason": reason},
        note=lambda done: f"{done['id']}: discarded",
        is_sure=yes,
    )


app = group(
    "Look at dead letters, put them back, discard them.",
    list=list_,
    show=show,
    replay=replay,
    discard=discard,
)


def hex_dump(data: bytes) -> Iterator[str]:
    """Yield lines of offset, bytes and text, as `xxd` has them."""
    for start in range(0, len(data), HEX_PER_LINE):
        part = data[start : start + HEX_PER_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{start:08x}  {part.hex(' '):<{3 * HEX_PER_LINE - 1}}  {text}"


def _settle(
    session: Session,
    letters: list[str] | None,
    *,
    everything: bool,
    filters: Json,
    verb: str,
    body: Json,
    note: Callable[[Json], str],
    is_sure: bool,
) -> int:
    """Settle letter by letter; one that is refused does not keep back the others."""
    output = session.output()
    code = 0
    done: list[Json] = []
    with session.client() as client:
        chosen = _chosen(client, letters, everything=everything, filters=filters)
        if not chosen:
            session.screen.note("no open dead letters")
            return 0
        if not is_sure and (everything or len(chosen) > 1):
            session.confirm(f"{verb} {len(chosen)} dead letters?")
        for letter in chosen:
            try:
                answer = client.write("POST", f"{_path(letter)}/{verb}", body)
            except Unreachable:
                raise
            except Problem as problem:
                code = code or problem.exit_code
                session.screen.complain(f"teo: {plain(letter)}: {problem}")
                continue
            done.append(answer)
            if output == "table":
                session.screen.note(note(answer))
    if output != "table":
        show_list(session.screen, done, _COLUMNS, output=output, empty="")
    return code


def _chosen(
    client: Client, letters: list[str] | None, *, everything: bool, filters: Json
) -> list[str]:
    if bool(letters) == everything:
        raise BadUsage(
            "name the letters, or all of them",
            next_step="give ids as `teo dlq list` shows them, or --all",
        )
    if letters:
        if any(filters.values()):
            raise BadUsage(
                "--pool and --kind choose among all letters", next_step="give --all, or leave them"
            )
        return list(dict.fromkeys(letters))
    found = client.pages("/v1/dead-letters", {**filters, "status": "open"})
    # Oldest first: they go back in the order they came.
    return [str(item["id"]) for item in reversed(found)]


def _replayed(done: Json) -> str:
    said = "put back" if done["is_put_back"] else "decided before, so not put back again"
    if done["outcome"] == "rejected":
        return f"{said}; refused: {plain(done['outcome_reason'])}"
    if done["outcome"] == "set_aside":
        return f"{said}; set aside again: {plain(done['outcome_reason'])}"
    if done["new_execution_id"] is not None:
        said += f"; it runs as {plain(done['new_execution_id'])}"
    elif done["command_id"] is not None:
        said += f"; command {plain(done['command_id'])}"
    if done["command_id"] is not None and done["outcome"] is None:
        return f"{said}; not decided yet: if it is poison still, `teo dlq list` shows it again"
    return said


def _path(letter: str) -> str:
    return f"/v1/dead-letters/{segment(letter)}"


def _source(item: Json) -> str:
    topic, partition, offset = (
        item.get(f"source_{name}") for name in ("topic", "partition", "offset")
    )
    if item.get("kind") == "execution":
        return plain(f"{topic}, partition {partition}")
    return plain(f"{topic}, partition {partition}, offset {offset}")


def _cut_to(item: Json) -> str:
    if not item.get("is_cut"):
        return "-"
    return plain(
        f"only the first {item['held_bytes']} bytes are here (sha256 of all: {item['sha256']}); "
        "the whole record stands at its source as long as that topic keeps it; no replay"
    )


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_CHARS_SHOWN else f"{text[: ERROR_CHARS_SHOWN - 1]}…"
