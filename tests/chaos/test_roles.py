"""Whose connection it is that comes to the proxy."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.chaos.proxy import HOST
from tests.chaos.roles import owner_of


@dataclass(frozen=True)
class Role:
    name: str
    pid: int | None


ME = [Role("gone", None), Role("other", 1), Role("me", os.getpid())]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def server(stack: ExitStack) -> tuple[socket.socket, int]:
    listens = stack.enter_context(socket.create_server((HOST, 0)))
    return listens, listens.getsockname()[1]


def call(stack: ExitStack, port: int, called: int) -> socket.socket:
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind((HOST, port))
    client.connect((HOST, called))
    return client


def test_a_port_with_a_connection_that_is_over_is_known_by_the_one_that_lives(
    stack: ExitStack,
) -> None:
    (before, port_before), (after, port_after) = server(stack), server(stack)
    first = call(stack, 0, port_before)
    port = first.getsockname()[1]
    accepted, _ = before.accept()
    first.close()  # Who closes first waits: the port is in the kernel's table for a minute.
    accepted.close()
    call(stack, port, port_after)
    stack.enter_context(after.accept()[0])
    assert owner_of(port, port_after, ME) == "me"
    assert owner_of(port, port_before, ME) == ""


def test_a_port_nobody_has_belongs_to_nobody(stack: ExitStack) -> None:
    _, called = server(stack)
    assert owner_of(1, called, ME) == ""
