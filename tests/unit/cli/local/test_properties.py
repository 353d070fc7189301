"""What a node is told, and which ports it gets."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cli.local import PortBusy
from cli.local.cluster import ClusterConfig
from cli.local.data_folder import parse_properties
from cli.local.properties import (
    Layout,
    Node,
    log4j_settings,
    new_cluster_id,
    own_ports,
    render,
    server_settings,
    with_free_ports,
    write_settings,
)


def layout_of(nodes: int) -> Layout:
    return Layout(
        cluster_id="c" * 22,
        kafka="4.3.0",
        nodes=tuple(
            Node(number=number, port=20_000 + number, controller_port=21_000 + number)
            for number in range(1, nodes + 1)
        ),
    )


@pytest.mark.parametrize(("nodes", "copies", "in_sync"), [(1, 1, 1), (3, 3, 2)])
def test_copies_follow_the_number_of_nodes(nodes: int, copies: int, in_sync: int) -> None:
    layout = layout_of(nodes)
    settings = server_settings(layout, layout.nodes[0])
    for name in (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    ):
        assert settings[name] == copies, name
    for name in ("min.insync.replicas", "transaction.state.log.min.isr"):
        assert settings[name] == in_sync, name


def test_a_node_listens_on_the_loopback_only() -> None:
    layout = layout_of(3)
    settings = server_settings(layout, layout.nodes[1])
    assert settings["listeners"] == "BROKER://127.0.0.1:20002,CONTROLLER://127.0.0.1:21002"
    assert settings["advertised.listeners"] == "BROKER://127.0.0.1:20002"
    assert settings["controller.quorum.voters"] == (
        "1@127.0.0.1:21001,2@127.0.0.1:21002,3@127.0.0.1:21003"
    )
    assert settings["node.id"] == 2
    assert layout.bootstrap == "127.0.0.1:20001,127.0.0.1:20002,127.0.0.1:20003"


def test_clients_are_sent_to_the_advertised_port_and_brokers_are_not() -> None:
    layout = with_free_ports(None, nodes=3, first_port=None, version="4.3.0", has_internal=True)
    node = layout.nodes[1]
    settings = server_settings(layout, node, advertised_port=31_999)
    internal = f"INTERNAL://127.0.0.1:{node.internal_port}"
    assert settings["listeners"] == (
        f"BROKER://127.0.0.1:{node.port},{internal},CONTROLLER://127.0.0.1:{node.controller_port}"
    )
    assert settings["advertised.listeners"] == f"BROKER://127.0.0.1:31999,{internal}"
    assert settings["inter.broker.listener.name"] == "INTERNAL"
    ports = [port for n in layout.nodes for port in (n.port, n.controller_port, n.internal_port)]
    assert len(set(ports)) == 9
    assert Layout.from_json(layout.to_json()) == layout


def test_brokers_take_what_they_take_anywhere_unless_told_otherwise() -> None:
    layout = layout_of(1)
    assert "message.max.bytes" not in server_settings(layout, layout.nodes[0])
    told = server_settings(layout, layout.nodes[0], bytes_max=5_000_000)
    assert told["message.max.bytes"] == 5_000_000


def test_every_node_or_none_is_advertised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="from 1 to 3, not for \\[1, 2\\]"):
        ClusterConfig(data_dir=tmp_path, nodes=3, advertised={1: 1, 2: 2})


def test_a_folder_without_internal_ports_says_nothing_of_them() -> None:
    assert "internal_port" not in layout_of(1).to_json()


def test_a_dead_broker_is_noticed_after_several_missed_heartbeats() -> None:
    layout = layout_of(1)
    settings = server_settings(layout, layout.nodes[0])
    session = int(settings["broker.session.timeout.ms"])
    assert 4 * int(settings["broker.heartbeat.interval.ms"]) <= session <= 5_000


def test_the_text_has_javas_words_and_escapes() -> None:
    assert render({"a": True, "b": 7, "c": r"x\y"}) == "a=true\nb=7\nc=x\\\\y\n"
    assert render({"d": " ü\n\U0001f600 "}) == "d=\\ \\u00fc\\u000a\\ud83d\\ude00\\ \n"
    assert parse_properties("#when\ncluster.id=abc\n\nnode.id = 1\n") == {
        "cluster.id": "abc",
        "node.id": "1",
    }
    assert log4j_settings()["rootLogger.level"] == "warn"


def test_settings_are_written_and_what_a_killed_jvm_left_is_removed(tmp_path: Path) -> None:
    layout = layout_of(1)
    node = layout.nodes[0]
    left = tmp_path / "node-1" / "tmp" / "libzstd.so"
    left.parent.mkdir(parents=True)
    left.touch()
    write_settings(tmp_path, layout, node)
    written = parse_properties((tmp_path / "node-1" / "server.properties").read_text())
    assert written["log.dirs"] == "data", "of the folder it runs in: Kafka cuts a path at commas"
    assert not left.exists()
    assert left.parent.is_dir()


def test_a_layout_comes_back_as_it_was_written() -> None:
    layout = layout_of(3)
    assert Layout.from_json(layout.to_json()) == layout


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "nodes": [{"x": 1}]}']
)
def test_what_is_no_layout_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        Layout.from_json(text)


def test_cluster_ids_are_16_bytes_and_never_look_like_a_flag() -> None:
    made = {new_cluster_id() for _ in range(500)}
    assert len(made) == 500
    assert {len(text) for text in made} == {22}
    assert not any(text.startswith("-") for text in made)


def listening() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


def test_new_ports_are_distinct_and_no_client_can_get_them() -> None:
    layout = with_free_ports(None, nodes=3, first_port=None, version="4.3.0")
    ports = [port for node in layout.nodes for port in (node.port, node.controller_port)]
    assert len(set(ports)) == 6
    assert all(port in own_ports for port in ports)
    assert [node.number for node in layout.nodes] == [1, 2, 3]


def test_remembered_ports_are_kept_and_a_taken_one_is_replaced() -> None:
    first = with_free_ports(None, nodes=1, first_port=None, version="4.3.0")
    again = with_free_ports(first, nodes=1, first_port=None, version="4.4.0")
    assert again == replace(first, kafka="4.4.0")
    with listening() as server:
        taken = server.getsockname()[1]
        known = replace(first, nodes=(replace(first.nodes[0], port=taken),))
        other = with_free_ports(known, nodes=1, first_port=None, version="4.3.0")
    assert other.nodes[0].port != taken
    assert other.nodes[0].controller_port == first.nodes[0].controller_port
    assert other.cluster_id == first.cluster_id


def test_a_named_port_that_is_taken_is_an_error_that_names_it() -> None:
    with listening() as server:
        taken = server.getsockname()[1]
        with pytest.raises(PortBusy, match=f"Port {taken} .* is taken"):
            with_free_ports(None, nodes=1, first_port=taken, version="4.3.0")
