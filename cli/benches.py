"""`teo bench`: adds benches, shows them, takes them out of service and back."""

import time
from typing import Annotated

import typer

from adapters.grammar import Wrong, wrong_label, wrong_labels, wrong_name
from cli import arguments
from cli.client import Client, Json, segment
from cli.command import group
from cli.documents import Node, read_documents
from cli.durations import humanise
from cli.problems import Problem
from cli.render import Column, Format, Screen, age, field, labels, plain, show_list, show_one
from cli.session import RESOURCE_FORMATS, Session
from events.limits import (
    BENCHES_PER_COMMAND_MAX,
    HEALTH_ERRORS_MAX,
    HEALTH_WINDOW_S_MAX,
    STEP_BACKOFF_S_MAX,
    STEP_RETRIES_MAX,
    STEP_S_MAX,
)

CHECK_WAIT_S = 2.0
CHECK_POLL_S = 0.2

BenchName = Annotated[str, typer.Argument(metavar="BENCH", help="Name of a bench.")]

_COLUMNS: list[Column] = [
    ("POOL", field("pool")),
    ("NAME", field("name")),
    ("STATE", field("state")),
    ("HOLDER", field("holder_id")),
    ("ADAPTER", field("adapter")),
    ("LABELS", lambda item: labels(item.get("labels"))),
    ("SINCE", lambda item: age(item.get("since"))),
    ("REASON", field("reason")),
]
_STEPS = ("provision", "collect", "teardown")
_ROWS: list[Column] = [
    ("pool", field("pool")),
    ("name", field("name")),
    ("state", field("state")),
    ("reason", field("reason")),
    ("holder", field("holder_id")),
    ("fence", field("fence")),
    ("adapter", field("adapter")),
    ("labels", lambda item: labels(item.get("labels"))),
    ("config", field("config")),
    ("steps", lambda item: _limits(item.get("steps"))),
    ("since", field("since")),
    ("quarantined by", field("quarantined_by")),
]


def apply(
    session: Session,
    file: Annotated[str, typer.Option("--file", "-f", help="YAML of benches; - is stdin.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, send nothing.")] = False,
) -> None:
    """Add or change the benches of a file; of several documents, each is one pool."""
    output = session.output()
    asked = [(*_pool_of(document), _health_of(document)) for document in read_documents(file)]
    if dry_run:
        applied = [
            {"pool": pool, **bench, "state": None}
            for pool, benches, _ in asked
            for bench in benches
        ]
    else:
        applied = []
        with session.client() as client:
            for pool, benches, health in asked:
                body: Json = {"benches": benches, **health}
                answer = client.write("PUT", f"/v1/pools/{segment(pool)}/benches", body)
                applied += answer["benches"]
            applied = _checked(client, applied)
            _warn_of_adapters(session.screen, client, applied)
    show_list(
        session.screen, applied, _COLUMNS, output=output, empty="the file has no bench", name="name"
    )
    if dry_run:
        session.screen.note(f"{len(applied)} benches would be applied; nothing was sent")


def list_(
    session: Session,
    selectors: arguments.Selectors = None,
    pool: arguments.Pool = None,
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
) -> None:
    """List benches."""
    output = session.output(RESOURCE_FORMATS)
    filters = {"pool": pool, "selector": arguments.selector(selectors) or None, "state": state}
    with session.client() as client:
        benches = client.pages("/v1/benches", filters)
    empty = "no bench matches" if any(filters.values()) else "no benches: `teo bench apply -f FILE`"
    show_list(session.screen, benches, _COLUMNS, output=output, empty=empty, name="name")


def show(session: Session, bench: BenchName, pool: arguments.Pool = None) -> None:
    """Show one bench."""
    output = session.output()
    with session.client() as client:
        in_pool = session.pool(client, pool)
        answer = client.get(f"/v1/pools/{segment(in_pool)}/benches/{segment(bench)}")
    _show(session.screen, answer, output=output)


def quarantine(
    session: Session,
    bench: BenchName,
    reason: Annotated[str, typer.Option(help="Why, for whoever looks at it next.")],
    pool: arguments.Pool = None,
) -> None:
    """Take a bench out of service: nothing new is put on it."""
    _change(session, bench, pool, "quarantine", {"reason": reason})


def restore(session: Session, bench: BenchName, pool: arguments.Pool = None) -> None:
    """Put a bench back into service, as clean: no teardown runs, you vouch for it."""
    _change(session, bench, pool, "restore", {})


app = group(
    "Add, show, quarantine and restore benches.",
    apply=apply,
    list=list_,
    show=show,
    quarantine=quarantine,
    restore=restore,
)


def _checked(client: Client, applied: list[Json]) -> list[Json]:
    """Return the benches as their workers found them, if those look at them within a moment."""
    until_s = time.monotonic() + CHECK_WAIT_S
    try:
        workers = _workers(client, applied)
        while time.monotonic() < until_s and any(_is_looked_at(each, workers) for each in applied):
            time.sleep(CHECK_POLL_S)
            applied = _as_now(client, applied)
    except Problem:  # They are applied: what cannot be said beside that is left out.
        pass
    return applied


def _workers(client: Client, benches: list[Json]) -> list[Json]:
    """Return the workers there are, if one of the benches may wait for them."""
    if all(bench.get("state") != "offline" for bench in benches):
        return []
    return client.pages("/v1/workers", has_limit=False)


def _is_looked_at(bench: Json, workers: list[Json]) -> bool:
    if bench.get("state") != "offline" or str(bench.get("reason")).startswith("refused by"):
        return False
    return any(
        each["pool"] == bench["pool"]
        and each["state"] == "online"
        and bench["adapter"] in each["adapters"]
        for each in workers
    )


def _as_now(client: Client, benches: list[Json]) -> list[Json]:
    found = {
        (each["pool"], each["name"]): each
        for pool in sorted({str(bench["pool"]) for bench in benches})
        for each in client.pages("/v1/benches", {"pool": pool})
    }
    return [found.get((each["pool"], each["name"]), each) for each in benches]


def _warn_of_adapters(screen: Screen, client: Client, benches: list[Json]) -> None:
    """Say which benches wait for an adapter that no worker has: most often a typing error."""
    try:
        workers = _workers(client, benches)
    except Problem:  # The benches are applied: what cannot be said beside that is left out.
        return
    known = sorted({name for each in workers for name in each["adapters"]})
    for bench in benches:
        if workers and bench.get("state") == "offline" and bench["adapter"] not in known:
            screen.note(
                f"{bench['name']}: no worker has the adapter {plain(bench['adapter'])!r}, so it "
                f"stays offline until one does; workers have: {', '.join(known) or 'none'}"
            )


def _change(session: Session, bench: str, pool: str | None, verb: str, body: Json) -> None:
    output = session.output()
    with session.client() as client:
        in_pool = session.pool(client, pool)
        answer = client.write(
            "POST", f"/v1/pools/{segment(in_pool)}/benches/{segment(bench)}/{verb}", body
        )
    if output == "table":
        session.screen.note(f"{bench} is {plain(answer.get('state'))}")
    else:
        _show(session.screen, answer, output=output)


def _show(screen: Screen, bench: Json, *, output: Format) -> None:
    rows = [row for row in _ROWS if row[1](bench) != "-"]
    show_one(screen, bench, rows, output=output, name="name")


def _limits(steps: list[Json] | None) -> str:
    return "; ".join(
        f"{policy['step']}: {humanise(policy.get('timeout_s'))}, {policy['retries']} retries"
        for policy in steps or ()
    )


def _pool_of(document: Node) -> tuple[str, list[Json]]:
    keys = document.mapping(allowed=("pool", "benches", "health"), required=("pool", "benches"))
    _refuse(keys["pool"], wrong_name(keys["pool"].text(), "pool"))
    benches: dict[str, Json] = {}
    nodes = keys["benches"].items()
    if not nodes:
        raise keys["benches"].fail("the pool has no benches", next_step="list at least one")
    if len(nodes) > BENCHES_PER_COMMAND_MAX:
        raise nodes[BENCHES_PER_COMMAND_MAX].fail(
            f"the document has {len(nodes)} benches, {BENCHES_PER_COMMAND_MAX} allowed",
            next_step="begin another document (`---`) with the same pool before this one",
        )
    for node in nodes:
        bench = _bench(node)
        if bench["name"] in benches:
            raise node.fail(f"bench {bench['name']!r} is there twice")
        benches[bench["name"]] = bench
    return keys["pool"].text(), list(benches.values())


def _refuse(node: Node, wrong: Wrong | None) -> None:
    """Raise `BadUsage` at its place in the file for what the grammar refuses."""
    if wrong is not None:
        raise node.fail(wrong.what, next_step=wrong.next_step)


def _health_of(document: Node) -> Json:
    """Return the rule for sick benches as the API takes it; nothing if the file has none."""
    node = document.mapping().get("health")
    if node is None or node.is_null():
        return {}
    names = ("errors_max", "window")
    keys = node.mapping(allowed=names, required=names)
    errors_max = keys["errors_max"].whole(least=0, most=HEALTH_ERRORS_MAX)
    window_s = keys["window"].duration_s("window", most_s=HEALTH_WINDOW_S_MAX)
    return {"health": {"errors_max": errors_max, "window_s": window_s}}


def _bench(node: Node) -> Json:
    keys = node.mapping(
        allowed=("name", "labels", "adapter", "config", "steps"), required=("name", "adapter")
    )
    given = {name: value for name, value in keys.items() if not value.is_null()}
    config = given.get("config")
    if config is not None:
        config.mapping()
    named = given["labels"].mapping() if "labels" in given else {}
    for label, value in named.items():
        _refuse(value, wrong_label(label, value.text()))
    if "labels" in given:
        _refuse(given["labels"], wrong_labels({name: at.text() for name, at in named.items()}))
    for noun, key in (("bench", "name"), ("adapter", "adapter")):
        _refuse(keys[key], wrong_name(keys[key].text(), noun))
    return {
        "name": keys["name"].text(),
        "labels": {name: value.text() for name, value in named.items()},
        "adapter": keys["adapter"].text(),
        "config": config.value() if config is not None else {},
        **({"steps": _steps(given["steps"])} if "steps" in given else {}),
    }


def _steps(node: Node) -> dict[str, Json]:
    """Return the limits of steps, by step; what is left out is left to the server."""
    found: dict[str, Json] = {}
    for step, limits in node.mapping(allowed=_STEPS).items():
        keys = limits.mapping(allowed=("timeout", "retries", "backoff"))
        policy: Json = {
            f"{name}_s": keys[name].duration_s(name, most_s=most_s)
            for name, most_s in (("timeout", STEP_S_MAX), ("backoff", STEP_BACKOFF_S_MAX))
            if name in keys
        }
        if "retries" in keys:
            policy["retries"] = keys["retries"].whole(least=0, most=STEP_RETRIES_MAX)
        found[step] = policy
    return found
