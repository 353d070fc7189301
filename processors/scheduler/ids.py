"""Ids that follow from what they are for, as the scheduler gives them. See `events.ids`."""

from events.ids import derived_id

__all__ = ["derived_id"]
