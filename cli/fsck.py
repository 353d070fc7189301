"""`teo fsck`: replays the journal of an environment and says what does not agree. Never writes."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import is_loopback
from cli.direct import kafka_of, run_direct
from cli.problems import BadUsage, Problem
from cli.serve import DATA_DIR, Prefix
from cli.session import Session
from events.errors import JournalBehind, JournalBroken, TeoError

BROKER_WAIT_S = 15.0
STATE_S_MAX = 15.0
KAFKA_DEFAULT = "127.0.0.1:9092"
CLEAN, WRONG, UNREADABLE = 0, 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is checked, and against what."""

    kafka: str | None
    """None: the one of `folder`, which is started for this."""
    folder: Path | None
    prefix: str
    schedulers: tuple[str, ...]
    databases: tuple[Path, ...]
    artifacts: Path | None = None


def fsck(
    session: Session,
    kafka: Annotated[
        str | None,
        typer.Option("--kafka", envvar="TEO_KAFKA", help="Bootstrap address, HOST:PORT,…"),
    ] = None,
    topic_prefix: Prefix = "teo",
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            "--scheduler", help="URL of a scheduler's health port, to compare its live state."
        ),
    ] = None,
    database: Annotated[
        list[Path] | None,
        typer.Option("--database", help="SQLite file of read models, to compare with fresh ones."),
    ] = None,
    artifacts: Annotated[
        Path | None,
        typer.Option(help="Folder of kept artifacts, each of which is compared with its digest."),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            envvar="TEO_DATA_DIR",
            help="Folder of `teo up`: its Kafka, which is started for this verb if it does not "
            "run, scheduler and read models.",
        ),
    ] = None,
) -> int:
    """Replay the journal, and check that everything agrees with it. Exits 0: it does, 1: not."""
    output = session.output(("table", "json"))
    plan = _plan(kafka, topic_prefix, scheduler or [], database or [], data_dir, artifacts)
    try:
        report = run_direct(_check(session, plan, is_told=output == "table"))
    except (TeoError, OSError, sqlite3.Error) as error:
        raise Problem(
            f"it cannot be checked: {error}",
            next_step="see that Kafka, the schedulers and the files can be reached; a `teo up` "
            "elsewhere is named by --data-dir DIR, another Kafka by --kafka",
            exit_code=UNREADABLE,
        ) from error
    if output == "json":
        session.screen.print(json.dumps(report))
    else:
        _tell_end(session, report)
    return CLEAN if report["is_clean"] else WRONG


def _plan(
    kafka: str | None,
    prefix: str,
    schedulers: Sequence[str],
    databases: Sequence[Path],
    data_dir: Path | None,
    artifacts: Path | None = None,
) -> Plan:
    from cli.up import read_state

    found_schedulers, found_databases = list(schedulers), list(databases)
    folder = (data_dir or DATA_DIR).expanduser().absolute()
    state = read_state(folder) if kafka is None else None
    is_down = data_dir is not None and kafka is None and state is None
    if state is not None or is_down:
        found_databases += [each for each in [folder / "projections.sqlite"] if each.is_file()]
        kept = folder / "artifacts"
        artifacts = artifacts if artifacts or not kept.is_dir() else kept
    if state is not None:
        kafka = str(state["kafka"])
        if state.get("scheduler"):
            found_schedulers.append(str(state["scheduler"]))
    if artifacts is not None and not artifacts.is_dir():
        raise BadUsage(f"{artifacts} is no folder", next_step="name the worker's --artifacts")
    return Plan(
        kafka=kafka or (None if is_down else KAFKA_DEFAULT),
        folder=folder if is_down else None,
        prefix=prefix,
        schedulers=tuple(dict.fromkeys(found_schedulers)),
        databases=tuple(dict.fromkeys(found_databases)),
        artifacts=artifacts,
    )


async def _check(session: Session, plan: Plan, *, is_told: bool) -> dict[str, Any]:
    from events.kafka.admin import wait_for_broker
    from events.kafka.log import KafkaLog
    from events.topics import Topics
    from processors.audit.audit import audit
    from processors.audit.findings import Finding, Findings

    def tell(finding: Finding) -> None:
        if is_told:
            session.screen.print(_line(finding))

    findings = Findings(tell)
    topics = Topics(plan.prefix)
    async with (
        kafka_of(plan.kafka, plan.folder) as kafka,
        KafkaLog(kafka, client_id="teo-fsck") as log,
    ):
        await wait_for_broker(kafka, wait_s=BROKER_WAIT_S)
        live = await _live_states(plan.schedulers)
        with session.screen.spinner("replaying the journal") as spinner:

            def progress(partition: int, offset: int, end: int) -> None:
                spinner.update(f"partition {partition}: {offset * 10 // end * 10} % of {end:,}")

            summary = await audit(log, topics, findings, live=live, progress=progress)
            for path in plan.databases:
                spinner.update(f"comparing {path} with a fresh read model")
                await _compare(log, topics, path, findings)
            scrubbed = await _scrub(log, topics, plan.artifacts, findings, spinner.update)
    return {
        "is_clean": not findings.kept,
        "checked": asdict(summary)
        | {"read_models": len(plan.databases)}
        | {"artifacts": scrubbed.compared, "artifacts_gone": scrubbed.gone},
        "findings": [asdict(each) for each in findings.kept],
        "left_out": findings.left_out,
    }


async def _live_states(schedulers: Sequence[str]) -> dict[int, list[Any]]:
    """Ask each scheduler for the state of its partitions. Raises `Problem`."""
    import httpx

    from processors.audit.journal import Live

    found: dict[int, list[Live]] = {}
    for url in schedulers:
        try:
            # The constructor reads the proxies that the environment names, and may refuse them.
            client = httpx.AsyncClient(timeout=STATE_S_MAX, trust_env=not is_loopback(url))
            async with client:
                answer = (await client.get(f"{url.rstrip('/')}/state")).raise_for_status().json()
            for each in answer["partitions"]:
                live = Live(source=url, seq=each["seq"], fingerprint=each["fingerprint"])
                found.setdefault(int(each["partition"]), []).append(live)
        except (
            *(httpx.HTTPError, httpx.InvalidURL),
            *(ImportError, ValueError, KeyError, TypeError),
        ) as error:
            raise Problem(
                f"scheduler {url} does not tell its state: {error!r}",
                next_step="give the URL of its --health-port, which a proxy of the environment"
                " must not hide (NO_PROXY)",
                exit_code=UNREADABLE,
            ) from error
    return found


async def _compare(log: Any, topics: Any, path: Path, findings: Any) -> None:
    """Compare one file of read models with fresh ones."""
    from processors.audit.findings import Finding
    from projections.rebuild import compare
    from projections.tail import OtherJournal

    try:
        done = await compare(log, topics, path)
    except (OtherJournal, JournalBehind, JournalBroken) as error:
        text = f"{path} is of another journal, or of a broken one: {error}"
    else:
        if not done.fresh or done.live == done.fresh:
            return
        text = f"{path} is not what {done.events} events give: make it anew"
    findings.add(
        Finding(rule="projection_is_the_journal", text=text, topic=topics.events, partition=-1)
    )


async def _scrub(
    log: Any, topics: Any, folder: Path | None, findings: Any, update: Callable[[str], None]
) -> Any:
    """Compare what is kept with the journal."""
    from processors.artifacts.files import FileStore
    from processors.audit.artifacts import Scrubbed, check_artifacts

    if folder is None:
        return Scrubbed()

    def progress(count: int) -> None:
        update(f"artifact {count:,}")

    return await check_artifacts(log, topics, FileStore(folder), findings, progress=progress)


def _line(finding: Any) -> str:
    place = finding.topic if finding.partition < 0 else f"{finding.topic}[{finding.partition}]"
    place += f"@{finding.offset}" if finding.offset >= 0 else ""
    place += f" seq {finding.seq}" if finding.seq >= 0 else ""
    about = f" ({', '.join(finding.ids)})" if finding.ids else ""
    return f"{place}: {finding.rule}: {finding.text}{about}"


def _tell_end(session: Session, report: dict[str, Any]) -> None:
    checked = report["checked"]
    session.screen.note(
        f"checked {checked['events']} events in {checked['partitions']} partitions, "
        f"{checked['snapshots']} snapshots, {checked['live_states']} live states, "
        f"{checked['inputs']} inputs, {checked['results']} results, "
        f"{checked['dead_letters']} dead letters, {checked['reports']} reports, "
        f"{checked['read_models']} read models, {checked['artifacts']} artifacts"
    )
    if checked["artifacts_gone"]:
        session.screen.note(f"  {checked['artifacts_gone']} artifacts are not kept any more")
    if report["is_clean"]:
        session.screen.print("clean: everything agrees with the journal")
        return
    count = len(report["findings"]) + report["left_out"]
    more = f", {report['left_out']} of them not shown" if report["left_out"] else ""
    session.screen.print(f"{count} things are wrong{more}")
    session.screen.note("  next: docs/operations.md has what each rule means, and what to do")
