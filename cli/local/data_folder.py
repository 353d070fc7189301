"""A folder of data: whose it is, and what it remembers of its cluster; never loses any.

A folder belongs to one cluster for ever and to one process at a time.
"""

import asyncio
import fcntl
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import structlog

from cli.local import DataFolderRefused
from cli.local.identity import Identity
from cli.local.properties import Layout, Node, OtherFormat, data_folder, with_free_ports

log = structlog.get_logger()

state_file, lock_file = "cluster.json", "lock"
meta_name = "meta.properties"
lock_poll_s = 0.05
advice = "Choose another data folder; this one is left as it is."


async def take_folder(folder: Path, wait_s: float) -> IO[str]:
    """Lock the data folder. Brokers of a killed owner hold it too: those are waited for."""
    lock = _open_lock(folder)
    deadline = time.monotonic() + wait_s
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                lock.seek(0)
                owner = Identity.parse(lock.read())
                if (owner and owner.is_alive) or time.monotonic() > deadline:
                    raise DataFolderRefused(
                        f"{folder} is in use by the process {owner.pid if owner else '(unknown)'}."
                        " Stop that one (teo down), or choose another data folder."
                    ) from error
            await asyncio.sleep(lock_poll_s)
        lock.truncate(0)
        lock.write(str(Identity.own()))
        lock.flush()
    except BaseException:
        lock.close()
        raise
    return lock


def _open_lock(folder: Path) -> IO[str]:
    _refuse_foreign(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / lock_file).open("a+", encoding="ascii", errors="replace")


def _is_ours(name: str) -> bool:
    """Whether a start that was killed, or a lost `cluster.json`, may have left this alone."""
    draft = rf"\.?{re.escape(state_file)}\..*new"
    return name == lock_file or re.fullmatch(rf"node-\d+|{draft}", name) is not None


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataFolderRefused(f"{folder} is not a folder. Choose another data folder.")
    if not folder.exists() or (folder / state_file).exists():
        return
    if not all(_is_ours(each.name) for each in folder.iterdir()):
        raise DataFolderRefused(
            f"{folder} is not empty and has no {state_file}: it is not a Kafka data folder of teo."
            " Choose an empty or a new folder."
        )


def remembered_layout(folder: Path, nodes: int, version: str) -> Layout | None:
    """What the folder holds, when it fits what is asked for; None: nothing yet."""
    layout = _read_layout(folder, nodes, version)
    if layout is None:
        return None
    if len(layout.nodes) != nodes:
        raise DataFolderRefused(
            f"{folder} holds a cluster of {len(layout.nodes)} node(s), {nodes} asked for. {advice}"
        )
    if _numbers(layout.kafka) > _numbers(version):
        raise DataFolderRefused(
            f"{folder} was written by Kafka {layout.kafka}, this is {version}. {advice}"
        )
    for node in layout.nodes:
        meta = meta_file(folder, node)
        held = _read_meta(meta)
        found = (held.get("cluster.id", layout.cluster_id), held.get("node.id", str(node.number)))
        if found != (layout.cluster_id, str(node.number)):
            raise DataFolderRefused(
                f"{meta.parent} holds node {found[1]} of the cluster {found[0]},"
                f" not node {node.number} of {layout.cluster_id}. {advice}"
            )
        if not held:
            _refuse_strayed(meta.parent, layout.cluster_id)
    return layout


def _refuse_strayed(data: Path, cluster_id: str) -> None:
    """Refuse a node without a log whose log an older version has put elsewhere.

    That one gave Kafka the whole path: Java took its UTF-8 for Latin-1, Kafka a comma for the end.
    """
    told = str(data).encode().decode("latin-1").partition(",")[0].strip()
    found = _read_meta(Path(told) / meta_name) if told != str(data) else {}
    if found.get("cluster.id") == cluster_id:
        raise DataFolderRefused(
            f"The log of {data} is in {told}: an older version put it there. Move it:"
            f" mv {shlex.quote(told)} {shlex.quote(str(data))}"
        )


def _read_layout(folder: Path, nodes: int, version: str) -> Layout | None:
    path = folder / state_file
    try:
        return Layout.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _layout_of_nodes(folder, nodes, version, "is missing")
    except OtherFormat as error:
        raise DataFolderRefused(f"{path} is of another version: {error}. {advice}") from error
    except ValueError as error:
        return _layout_of_nodes(folder, nodes, version, f"cannot be read ({error})")


def _layout_of_nodes(folder: Path, nodes: int, version: str, reason: str) -> Layout | None:
    """Make the layout anew from what each node's own folder says; its ports may be any.

    None if no node has data: then nothing is lost with it. What cannot be told for sure is
    refused: a node with the id of another cluster would hide its data.
    """
    homes = sorted(each for each in folder.glob("node-*") if _has_data(each))
    if not homes:
        return None
    metas = {home.name: _read_meta(home / data_folder / meta_name) for home in homes}
    ids = {meta.get("cluster.id", "") for meta in metas.values()}
    if [*metas] != [f"node-{number}" for number in range(1, nodes + 1)] or len(ids) > 1:
        raise DataFolderRefused(
            f"{folder / state_file} {reason}, and the folders {', '.join(metas)} do not say that"
            f" they are all of one cluster of {nodes} node(s). {advice}"
        )
    (cluster_id,) = ids
    if not cluster_id:
        raise DataFolderRefused(
            f"{folder / state_file} {reason}, and no {meta_name} says which cluster this is."
            f" Put one of both back from a backup. {advice}"
        )
    log.warning("embedded_kafka.layout_made_anew", folder=str(folder), reason=reason)
    layout = with_free_ports(None, nodes=nodes, first_port=None, version=version)
    return replace(layout, cluster_id=cluster_id)


def _has_data(home: Path) -> bool:
    data = home / data_folder
    return data.is_dir() and any(data.iterdir())


def _read_meta(path: Path) -> dict[str, str]:
    """What Kafka says of a node's log; nothing if it is not formatted yet, or the file is torn."""
    try:
        return parse_properties(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def drop_torn(folder: Path, node: Node) -> None:
    """Remove what Kafka cannot start with and makes anew, its log is kept: files cut short.

    A `meta.properties` that names no cluster: the node is formatted with the id that `cluster.json`
    has. An empty `bootstrap.checkpoint`, which Kafka does not sync: it says by which version the
    log of metadata begins. Without it Kafka takes its own, as it does when it writes this file; a
    log that has begun does without.
    """
    meta = meta_file(folder, node)
    bootstrap = meta.with_name("bootstrap.checkpoint")
    torn = []
    if meta.exists() and not _read_meta(meta).keys() >= {"cluster.id", "node.id"}:
        torn.append(meta)
    if bootstrap.exists() and bootstrap.stat().st_size == 0:
        torn.append(bootstrap)
    for path in torn:
        path.unlink()
        log.warning("embedded_kafka.torn", path=str(path))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def meta_file(folder: Path, node: Node) -> Path:
    return folder / node.folder_name / data_folder / meta_name


def parse_properties(text: str) -> dict[str, str]:
    """The `key=value` lines that Kafka writes into meta.properties."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, value in pairs}
