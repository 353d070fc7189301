"""Reads a part of one partition, batch by batch. See `events.reading`."""

from events.reading import RECORDS_MAX, STALLED_S_MAX, WAIT_S, read_until

__all__ = ["RECORDS_MAX", "STALLED_S_MAX", "WAIT_S", "read_until"]
