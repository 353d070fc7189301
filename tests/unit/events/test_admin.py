"""Whoever looks at topics makes none."""

import asyncio
from typing import Any, cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.metadata import MetadataRequest

from events.errors import LogUnavailable
from events.kafka.admin import found_topics, wait_for_broker


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


@pytest.mark.parametrize("address", ["", "h:0", "h:70000", "h:x", ":9092", "[", "a:1,b:x"])
def test_what_is_no_address_is_refused_before_anybody_is_asked(address: str) -> None:
    with pytest.raises(LogUnavailable, match="HOST:PORT"):
        asyncio.run(wait_for_broker(address, wait_s=60.0))
