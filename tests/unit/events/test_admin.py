"""Whoever looks at topics makes none."""

import asyncio
from typing import Any, cast

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.metadata import MetadataRequest

from events.kafka.admin import found_topics


class Broker:
    """Answers that it knows of nothing."""

    def __init__(self) -> None:
        self.asked: list[MetadataRequest] = []

    async def _send_request(self, request: MetadataRequest) -> "Broker":
        self.asked.append(request)
        return self

    def to_object(self) -> dict[str, Any]:
        unknown = {"topic": "t.events", "partitions": [], "error_code": 3}
        return {"topics": [unknown]}


def test_a_topic_that_is_only_looked_for_is_not_made() -> None:
    broker = Broker()
    found = asyncio.run(found_topics(cast(AIOKafkaAdminClient, broker), ["t.events"]))
    assert found == {}
    (request,) = broker.asked
    assert (request._topics, request._allow_auto_topic_creation) == (["t.events"], False)
