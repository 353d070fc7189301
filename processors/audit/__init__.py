"""Judges what is on the log: every invariant as a checker, and the copies of the state."""
