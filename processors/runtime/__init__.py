"""Runs the decider on a log: ownership, recovery, one transaction per batch."""
