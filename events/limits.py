"""Bounds of what may be asked: API, CLI and scheduler refuse by the same ones. Data only.

Texts (names, labels, globs, commands, variables) have their grammar in `adapters/grammar.py`.
"""

DAY_S = 24 * 3600.0

BENCHES_PER_COMMAND_MAX = 500
GANG_SIZE_MAX = 64
PRIORITY_MAX = 1_000
RETRIES_MAX = 10
REASON_CHARS_MAX = 1_000

TIMEOUT_S_MAX = 7 * DAY_S
"""Of a run, and of its silence."""
LIMIT_BYTES_MIN = 1 << 20
LIMIT_BYTES_MAX = 1 << 50
LIMIT_PROCESSES_MAX = 1 << 22
"""Of what a run may set as its own limits; the last is what Linux can count."""
LEASE_S_MAX = 30 * DAY_S
WAIT_S_MAX = 30 * DAY_S
STEP_S_MAX = DAY_S
STEP_RETRIES_MAX = 10
STEP_BACKOFF_S_MAX = 300.0
HEALTH_WINDOW_S_MAX = 7 * DAY_S
HEALTH_ERRORS_MAX = 1_000
