"""A Faust app that obeys the rules of the watchers. The only file that shapes Faust.

What it changes of Faust's ways, and why:
- records are read committed (Faust reads aborted ones unless it is told exactly_once);
- streams begin where the watcher's own fold of the journal ended, never where the group committed:
  a commit of Faust can step over a record whose work was not done;
- nothing is kept on disk or in a table, no topic is made;
- the environment sets nothing unless it says `TEO_FAUST_` (`TEO_FAUST_BROKER_SESSION_TIMEOUT=…`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from yarl import URL

SESSION_S = 6.0
"""A watcher that was killed is missed after this, and another gets its partitions."""
HEARTBEAT_S = 2.0
REQUEST_S_MAX = 30.0
COMMIT_EVERY_S = 3.0

Starts = Callable[[], Mapping[TP, int]]


class _CommittedThread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust has no setting for it.
        return consumer


class _JournalConsumer(Consumer):
    app: "WatcherApp"

    def _new_consumer_thread(self) -> _CommittedThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Begin each partition where its fold ended."""
        assigned = self.assignment()
        starts = {tp: offset for tp, offset in self.app.starts().items() if tp in assigned}
        await self.seek_wait(starts)
        self._committed_offset.update(starts)


class _JournalTransport(Transport):
    Consumer = _JournalConsumer


class WatcherApp(faust.App):
    """A Faust app whose streams begin where `starts` says."""

    starts: Starts

    def _create_directories(self) -> None:
        """Make none: nothing is kept on disk."""


def watcher_app(name: str, bootstrap: str, *, starts: Starts) -> WatcherApp:
    """Return an app of consumer group `name`, not started. Needs a running loop."""
    urls = [URL(f"kafka://{address.strip()}") for address in bootstrap.split(",")]
    app = WatcherApp(
        name,
        broker=urls,
        env_prefix="TEO_FAUST",
        autodiscover=False,
        web_enabled=False,
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_request_timeout=REQUEST_S_MAX,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_commit_interval=COMMIT_EVERY_S,
        producer_request_timeout=REQUEST_S_MAX,
        producer_acks=-1,
        stream_wait_empty=False,
    )
    app.starts = starts
    app.transport = _JournalTransport(urls, app)
    return app
