"""Requests of Kafka's protocol that aiokafka 0.14 does not have, made of its types.

Both sides take the newest version that they share; where a broker is too old for the newer of two,
what it cannot tell is empty.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

from events.errors import LogUnavailable

SET, DELETE = 0, 1
"""Operations on a setting: it gets a value, or what the broker has for all; no other is touched."""
UUID_BYTES = 16
Changes = Mapping[str, Mapping[str, str | None]]
"""Topic → setting → value."""


class Uuid(AbstractType[str]):  # type: ignore[misc]
    """A UUID as its text; the one of zeros, which stands for none, is empty."""

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        """Return the next UUID of `data`."""
        found = UUID(bytes=data.read(UUID_BYTES))
        return str(found) if found.int else ""

    @classmethod
    def encode(cls, value: str) -> bytes:
        """Return the bytes of a UUID."""
        return UUID(value or str(UUID(int=0))).bytes


class _TopicsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicsRequestWithIds(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _TopicsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[MetadataRequest_v5 | _TopicsRequestWithIds]):  # type: ignore[misc]
    """Asks what topics there are by these names, with Kafka's ids of them; makes none."""

    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: Any) -> Any:
        """Return the request in the version that the broker takes."""
        if request_struct_class is MetadataRequest_v5:
            return MetadataRequest_v5(self._names, False)
        topics: list[tuple[str, str, dict[int, bytes]]] = [("", name, {}) for name in self._names]
        return _TopicsRequestWithIds(topics, False, False, False, {})


class _ChangeResponse(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "resources",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _ChangeRequest(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _ChangeResponse
    SCHEMA = Schema(
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                (
                    "configs",
                    Array(
                        ("name", String("utf-8")),
                        ("operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Change(Request[_ChangeRequest]):  # type: ignore[misc]
    """Sets settings of topics: aiokafka only has the request that replaces all of them."""

    API_KEY = 44
    TOPIC = 2

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def build(self, request_struct_class: Any) -> Any:
        """Return the request."""
        resources = [
            (self.TOPIC, name, [_operation(key, value) for key, value in wanted.items()])
            for name, wanted in sorted(self._changes.items())
        ]
        return request_struct_class(resources, False)


def _operation(key: str, value: str | None) -> tuple[str, int, str | None]:
    return key, DELETE if value is None else SET, value


async def change_topics(client: AIOKafkaAdminClient, changes: Changes) -> None:
    """Set settings of topics, by topic, and leave all others; None: to what the broker has for all.

    Raises `LogUnavailable` if the broker refuses.
    """
    answer = await client._send_request(_Change(changes))  # noqa: SLF001 - no other way.
    for code, message, _kind, name in answer.resources:
        if code != 0:
            raise LogUnavailable(f"topic {name} could not be set: error {code} {message}")
