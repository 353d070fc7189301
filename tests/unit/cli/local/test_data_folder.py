"""The data folder: which are refused, and what one remembers after a power cut."""

import asyncio
import fcntl
import json
import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from cli.local import DataFolderRefused
from cli.local.data_folder import (
    drop_torn,
    lock_file,
    meta_file,
    remembered_layout,
    state_file,
    take_folder,
)
from cli.local.identity import Identity
from cli.local.properties import Layout, Node

TORN = {
    "empty": b"",
    "half": b'{\n  "format": 1,\n  "clus',
    "zeros": bytes(200),
    "no text": b"\xff\x00",
}
CUT_SHORT = b"#\n#Sat Nov 28\ncluster.id=" + b"c" * 22 + b"\n"


def layout_of(nodes: int) -> Layout:
    return Layout(
        cluster_id="c" * 22,
        kafka="4.3.0",
        nodes=tuple(
            Node(number=number, port=20_000 + number, controller_port=21_000 + number)
            for number in range(1, nodes + 1)
        ),
    )


def take_and_release(folder: Path, wait_s: float = 0.0) -> None:
    asyncio.run(take_folder(folder, wait_s)).close()


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataFolderRefused, match=r"not empty and has no cluster\.json"):
        take_and_release(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DataFolderRefused, match="not a folder"):
        take_and_release(path)


def test_a_folder_can_be_taken_again_after_a_start_that_came_to_nothing(tmp_path: Path) -> None:
    take_and_release(tmp_path / "new")
    take_and_release(tmp_path / "new")


def test_a_folder_in_use_by_a_living_process_is_refused_at_once(tmp_path: Path) -> None:
    refused = pytest.raises(DataFolderRefused, match=f"in use by the process {os.getpid()}")
    with asyncio.run(take_folder(tmp_path, 0.0)), refused:
        take_and_release(tmp_path, wait_s=60.0)


def test_the_brokers_of_a_dead_owner_are_waited_for(tmp_path: Path) -> None:
    beyond_all_pids = 2**22 + 1

    async def scenario() -> None:
        with (tmp_path / lock_file).open("w") as held_by_a_broker:
            held_by_a_broker.write(str(beyond_all_pids))
            held_by_a_broker.flush()
            fcntl.flock(held_by_a_broker, fcntl.LOCK_EX)
            with pytest.raises(DataFolderRefused, match=f"process {beyond_all_pids}"):
                await take_folder(tmp_path, 0.0)
            waiting = asyncio.create_task(take_folder(tmp_path, 30.0))
            await asyncio.sleep(0)
            assert not waiting.done()
        (await waiting).close()

    asyncio.run(scenario())


def test_who_has_the_pid_of_a_dead_owner_does_not_keep_the_folder(tmp_path: Path) -> None:
    stranger = replace(Identity.own(), started=1)

    async def scenario() -> None:
        with (tmp_path / lock_file).open("w") as held_by_a_broker:
            held_by_a_broker.write(str(stranger))
            held_by_a_broker.flush()
            fcntl.flock(held_by_a_broker, fcntl.LOCK_EX)
            waiting = asyncio.create_task(take_folder(tmp_path, 30.0))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        (await waiting).close()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["jürgen", "a,b"])
def test_a_log_that_an_older_version_put_elsewhere_is_refused_and_told(
    tmp_path: Path, name: str
) -> None:
    layout, folder = layout_of(1), tmp_path / name
    data = meta_file(folder, layout.nodes[0]).parent
    told = Path(str(data).encode().decode("latin-1").partition(",")[0])
    told.mkdir(parents=True)
    (told / "meta.properties").write_text(f"cluster.id={layout.cluster_id}\nnode.id=1\n")
    folder.mkdir()
    write_state(folder, layout)
    with pytest.raises(DataFolderRefused, match="an older version put it there") as refused:
        remembered_layout(folder, 1, "4.3.0")
    assert f"mv {shlex.quote(str(told))} {shlex.quote(str(data))}" in str(refused.value)
    (told / "meta.properties").unlink()
    assert remembered_layout(folder, 1, "4.3.0") == layout


def test_an_unknown_folder_remembers_nothing(tmp_path: Path) -> None:
    assert remembered_layout(tmp_path, 1, "4.3.0") is None


def write_state(folder: Path, layout: Layout) -> None:
    (folder / state_file).write_text(layout.to_json())


def test_a_folder_is_remembered_by_a_newer_kafka_and_refused_by_an_older(tmp_path: Path) -> None:
    layout = layout_of(1)
    write_state(tmp_path, layout)
    assert remembered_layout(tmp_path, 1, "4.10.0") == layout
    with pytest.raises(DataFolderRefused, match=r"written by Kafka 4\.3\.0, this is 4\.2\.9"):
        remembered_layout(tmp_path, 1, "4.2.9")


def test_another_number_of_nodes_is_refused(tmp_path: Path) -> None:
    write_state(tmp_path, layout_of(3))
    with pytest.raises(DataFolderRefused, match=r"cluster of 3 node\(s\), 1 asked for"):
        remembered_layout(tmp_path, 1, "4.3.0")


def test_the_log_of_another_cluster_is_refused(tmp_path: Path) -> None:
    layout = layout_of(1)
    write_state(tmp_path, layout)
    meta = meta_file(tmp_path, layout.nodes[0])
    meta.parent.mkdir(parents=True)
    meta.write_text("version=1\ncluster.id=other\nnode.id=1\n")
    with pytest.raises(DataFolderRefused, match="node 1 of the cluster other"):
        remembered_layout(tmp_path, 1, "4.3.0")
    meta.write_text(f"version=1\ncluster.id={layout.cluster_id}\nnode.id=2\n")
    with pytest.raises(DataFolderRefused, match="holds node 2"):
        remembered_layout(tmp_path, 1, "4.3.0")


def test_a_state_file_of_another_version_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / state_file).write_text(json.dumps({"format": 2}))
    with pytest.raises(DataFolderRefused, match="Choose another data folder") as refused:
        remembered_layout(tmp_path, 1, "4.3.0")
    assert "remove" not in str(refused.value)


def format_node(folder: Path, node: Node, cluster_id: str) -> None:
    """As Kafka's own tool leaves it."""
    meta = meta_file(folder, node)
    meta.parent.mkdir(parents=True)
    meta.write_text(f"#\n#Sat Nov 28\ncluster.id={cluster_id}\nnode.id={node.number}\nversion=1\n")


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
@pytest.mark.parametrize("nodes", [1, 3])
def test_a_torn_state_file_is_made_anew_from_the_nodes(
    tmp_path: Path, torn: bytes, nodes: int
) -> None:
    known = layout_of(nodes)
    (tmp_path / state_file).write_bytes(torn)
    for node in known.nodes:
        format_node(tmp_path, node, known.cluster_id)
    take_and_release(tmp_path)
    made = remembered_layout(tmp_path, nodes, "4.3.0")
    assert made is not None
    assert made.cluster_id == known.cluster_id
    assert [node.number for node in made.nodes] == [node.number for node in known.nodes]
    ports = [port for node in made.nodes for port in (node.port, node.controller_port)]
    assert len({*ports}) == 2 * nodes
    assert 0 not in ports


def test_a_state_file_that_is_gone_is_made_anew_from_the_nodes(tmp_path: Path) -> None:
    known = layout_of(1)
    format_node(tmp_path, known.nodes[0], known.cluster_id)
    (tmp_path / f".{state_file}.12-34.new").touch()
    take_and_release(tmp_path)
    made = remembered_layout(tmp_path, 1, "4.3.0")
    assert made is not None
    assert made.cluster_id == known.cluster_id


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN)
def test_a_torn_state_file_of_a_cluster_without_data_is_a_new_one(
    tmp_path: Path, torn: bytes
) -> None:
    (tmp_path / state_file).write_bytes(torn)
    (tmp_path / "node-1" / "tmp").mkdir(parents=True)
    assert remembered_layout(tmp_path, 1, "4.3.0") is None


@pytest.mark.parametrize("ids", [("a" * 22, "b" * 22, "a" * 22), ("a" * 22,)], ids=["two", "few"])
def test_nodes_that_do_not_agree_are_refused_and_kept(tmp_path: Path, ids: tuple[str, ...]) -> None:
    (tmp_path / state_file).touch()
    for node, cluster_id in zip(layout_of(3).nodes, ids, strict=False):
        format_node(tmp_path, node, cluster_id)
    with pytest.raises(DataFolderRefused, match="one cluster of 3 node") as refused:
        remembered_layout(tmp_path, 3, "4.3.0")
    assert "left as it is" in str(refused.value)


def test_data_of_which_nobody_knows_the_cluster_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / state_file).touch()
    (tmp_path / "node-1" / "data" / "teo.events-0").mkdir(parents=True)
    with pytest.raises(DataFolderRefused, match=r"no meta\.properties says .* backup"):
        remembered_layout(tmp_path, 1, "4.3.0")


def test_a_torn_bootstrap_file_is_removed_and_a_whole_one_kept(tmp_path: Path) -> None:
    node = layout_of(1).nodes[0]
    path = meta_file(tmp_path, node).with_name("bootstrap.checkpoint")
    drop_torn(tmp_path, node)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"records")
    drop_torn(tmp_path, node)
    assert path.exists()
    path.write_bytes(b"")
    drop_torn(tmp_path, node)
    assert not path.exists()


@pytest.mark.parametrize("torn", [*TORN.values(), CUT_SHORT], ids=[*TORN, "cut short"])
def test_a_torn_meta_file_is_removed_where_the_state_file_names_the_cluster(
    tmp_path: Path, torn: bytes
) -> None:
    known = layout_of(1)
    (tmp_path / state_file).write_text(known.to_json())
    (node,) = known.nodes
    format_node(tmp_path, node, known.cluster_id)
    drop_torn(tmp_path, node)
    meta = meta_file(tmp_path, node)
    assert meta.exists()
    meta.write_bytes(torn)
    assert remembered_layout(tmp_path, 1, known.kafka) == known
    drop_torn(tmp_path, node)
    assert not meta.exists()
