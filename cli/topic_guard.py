"""Looks now and then whether somebody changed a topic such that facts would be lost, and says so.

The role goes on: what it has written is safe so far, and whoever made the change must undo it.
"""

import asyncio
from collections.abc import Iterable

import structlog
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from events.errors import TeoError, TopicRefused
from events.kafka.admin import check_topics
from events.topics import Topics

LOOK_EVERY_S = 20.0

logger = structlog.get_logger()


class TopicGuard:
    """What is wrong with the topics of a role that runs."""

    def __init__(self, kafka: str, topics: Topics, meter: Meter) -> None:
        self._kafka = kafka
        self._topics = topics
        self._fault = ""
        meter.create_observable_gauge(
            "teo_topics_unsafe",
            callbacks=[self._observe],
            description="1 while the settings of a topic would lose facts, else 0",
        )

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(bool(self._fault)))]

    def fault(self) -> str:
        """Return what is wrong now; empty: nothing, as far as it is known."""
        return self._fault

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look once. What cannot be seen now stays as it was."""
        try:
            await check_topics(self._kafka, self._topics, are_all_due=True)
        except TopicRefused as error:
            if str(error) != self._fault:
                self._fault = str(error)
                logger.critical("topics.unsafe", error=self._fault)
        except TeoError as error:
            logger.debug("topics.not_checked", error=str(error))
        except Exception:
            logger.exception("topics.not_checked")
        else:
            if self._fault:
                logger.warning("topics.safe_again", was=self._fault)
            self._fault = ""
