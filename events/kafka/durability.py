"""Whether a broker has facts on its disk before it acknowledges them. Changes one setting only.

Kafka acknowledges what is in the memory of enough brokers. With one broker that is lost when the
machine loses its power, unless the topic says that each append is written to the disk first. The
end of a transaction is acknowledged once `__transaction_state` has it, so that topic must too.
"""

import asyncio
from collections.abc import Iterable, Sequence

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResourceType
from aiokafka.errors import CoordinatorNotAvailableError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int8, Int16, Int32, Schema, String

from events.errors import LogUnavailable
from events.internal_rules import TRANSACTIONS
from events.kafka.admin import _admin, _configs
from events.topics import FLUSH_KEY, Durability, TopicSpec

EACH = "1"
SET, DELETE = 0, 1
_Resource = tuple[int, str, list[tuple[str, int, str | None]]]
"""Kind, name, and of each setting its name, what is done and its value."""
TRANSACTION = 1
"""The kind of coordinator that is asked for: of transactions, not of groups."""
ASK_TRIES, ASK_PAUSE_S = 100, 0.1

log = structlog.get_logger()


class _AlterResponse(Response):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "responses",
            Array(
                ("error_code", Int16),
                ("error_message", String("utf-8")),
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
            ),
        ),
    )


class _AlterStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterResponse
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
                        ("config_operation", Int8),
                        ("value", String("utf-8")),
                    ),
                ),
            ),
        ),
        ("validate_only", Boolean),
    )


class _Alter(Request[_AlterStruct]):  # type: ignore[misc]
    """IncrementalAlterConfigs: aiokafka only has the one that replaces all settings of a topic."""

    API_KEY = 44

    def __init__(self, resources: Sequence[_Resource]) -> None:
        self._resources = resources

    def build(self, request_struct_class: type[_AlterStruct]) -> _AlterStruct:
        return request_struct_class(self._resources, False)


async def keep_facts(
    bootstrap: str,
    wanted: Iterable[TopicSpec],
    durability: Durability,
    *,
    is_broker_ours: bool = False,
) -> frozenset[str]:
    """Make the topics of facts durable as asked; return the names of those that were changed.

    Kafka's own topic of transactions is made durable with them. It is made fast again only if the
    broker is ours alone: others may rely on it. Raises `LogUnavailable`.
    """
    names = {spec.name for spec in wanted if spec.has_facts}
    is_disk = durability == "disk"
    if is_disk or is_broker_ours:
        names.add(TRANSACTIONS)
    async with _admin(bootstrap, f"keep facts on {durability}") as client:
        if is_disk:
            await _make_transactions(client)
        found = await _configs(client, ConfigResourceType.TOPIC, sorted(names))
        changed = {name for name, config in found.items() if is_on_disk(config) != is_disk}
        if changed:
            await set_topics(client, changed, FLUSH_KEY, EACH if is_disk else None)
    return frozenset(changed)


def is_on_disk(config: dict[str, str]) -> bool:
    """Return True if a topic of this `config` has each append on disk before it is acknowledged."""
    return config.get(FLUSH_KEY) == EACH


async def set_topics(
    client: AIOKafkaAdminClient, names: Iterable[str], key: str, value: str | None
) -> None:
    """Set one setting of topics and leave all others; None: to what the broker has for all.

    Raises `LogUnavailable` if the broker refuses.
    """
    operation = DELETE if value is None else SET
    kind = int(ConfigResourceType.TOPIC)
    resources = [(kind, name, [(key, operation, value)]) for name in sorted(names)]
    answer = await client._send_request(_Alter(resources))  # noqa: SLF001 - no other way.
    for code, message, _kind, name in answer.responses:
        if code != 0:
            raise LogUnavailable(f"{key} of {name} could not be set: error {code} {message}")


async def _make_transactions(client: AIOKafkaAdminClient) -> None:
    """Return once Kafka's own topic of transactions is there: the first who asks makes it."""
    for _ in range(ASK_TRIES):
        try:
            await client.find_coordinator("teo", TRANSACTION)
        except CoordinatorNotAvailableError:
            await asyncio.sleep(ASK_PAUSE_S)
        else:
            return
    raise LogUnavailable("Kafka does not make its topic of transactions; see the broker's log")
