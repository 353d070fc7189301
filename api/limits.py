"""Every limit of the HTTP edge, by name and unit. Data only."""

BODY_BYTES_MAX = 1_000_000
"""Largest request body taken; a larger one is answered 413."""
DRAIN_BYTES_MAX = 32_000_000
"""How much of a refused body is read and thrown away, so that its sender can read the answer."""
HEADER_BYTES_MAX = 32_000
"""Names and values of all headers together; more are answered 431."""
CONNECTIONS_MAX = 2_000
KEEP_ALIVE_S = 30.0
"""How long a connection may be idle between requests."""
STOP_S_MAX = 5
"""How long requests that are being served may take to end when the server stops."""
READY_S_MAX = 2.0
"""How long the checks of readiness may take."""
JSON_DEPTH_MAX = 100
BODY_READ_S_MAX = 30.0
"""How long a client may take to send its body."""
DRAIN_S_MAX = 5.0

COMMAND_WAIT_S = 10.0
"""How long a command's outcome is waited for before 202 is answered."""
UNSERVED_WAIT_S = 1.0
"""The same for a partition that nobody serves: its outcome will not come soon."""
PARTITIONS_ASK_S = 3.0
"""How often it is asked which partitions are served; schedulers tell it every two seconds."""
PARTITION_STALE_S = 15.0
"""Of what nobody has said anything new for so long, nobody serves it."""
PUBLISH_PAUSE_S_MIN = 0.05
PUBLISH_PAUSE_S_MAX = 1.0
"""Pauses between tries to publish a command while the log is unavailable."""
IDEMPOTENCY_WINDOW_S = 24 * 3600.0
"""For how long a repeat with the same key gives the first answer."""
IDEMPOTENCY_KEY_CHARS_MAX = 200
KEY_GENERATIONS_MAX = 1_000
"""How many windows of one key are followed; a key used daily for years stays below."""

POSITION_WAIT_S = 5.0
"""How long a read waits for the projection to reach `min_position`."""
LONG_POLL_S_MAX = 60.0
"""Longest `wait_s`; a larger one is cut to it."""

LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 500
CURSOR_CHARS_MAX = 8_000
QUERY_CHARS_MAX = 1_000

SSE_CLIENTS_MAX = 500
"""How many event streams may be open at once; one more is answered 503."""
SSE_KEEP_ALIVE_S = 15.0
SSE_SEND_S_MAX = 30.0
"""A client that takes nothing for so long is dropped; it may resume by `Last-Event-ID`."""
SSE_END_S_MAX = 1.0
"""How long the end of a stream may take to be sent."""
SSE_PENDING_MAX = 2_000
"""Events that may wait for one client of the event stream; more: it is dropped and may resume."""

TAIL_RECORDS_MAX = 500
"""Records a tail or a scan takes in one poll."""
TAIL_POLL_S = 1.0
"""How long a tail's poll may take when nothing comes."""
CANCEL_AGAIN_S = 0.2
"""After so long a part that was cancelled and goes on is cancelled again."""
TAIL_RETRY_S = 0.5
"""Pause before a tail whose log was unavailable opens again."""
FOLLOW_PENDING_BYTES_MAX = 8_000_000
"""Log bytes that may wait for one follower; more: it reads the log by itself until it is level."""
LOG_STARTS_MAX = 20_000
"""Executions whose first offset in the log topic is remembered."""
LOG_SEARCH_SLACK_S = 300.0
"""By how much clocks of workers and scheduler may differ when a log is searched by time."""
LOG_SEARCH_RECORDS_MAX = 500
"""A search by time ends when so few records are left: the rest is scanned."""
LOG_PROBE_S = 2.0
"""How long one probe of a search may take."""
LOG_SETTLE_S = 2.0
"""How long after the end of an execution its last lines may take to be read."""
LOG_FENCE_WAIT_S = 10.0
"""How long a follower waits for the projection to know an attempt whose lines are there."""
LOG_LINES_LIMIT_DEFAULT = 1_000
LOG_LINES_LIMIT_MAX = 10_000
LOG_TEXT_LINES_MAX = 1_000_000
"""Most lines of a log fetched as plain text."""
ARCHIVE_BYTES_MAX = 256_000_000
"""Largest archived log that is read back line by line; a larger one is downloaded as artifact."""

ARTIFACT_CHUNK_BYTES = 256 * 1024
DASHBOARD_ROWS_MAX = 15
DASHBOARD_BENCHES_MAX = 400
DASHBOARD_CASES_MAX = 500

LETTERS_SCANNED_MAX = 5_000
"""Dead letters that one part of a list looks at; a filter that finds fewer goes on by cursor."""
LETTERS_WINDOW = 200
"""Offsets of each partition of the dead letters that are read at once, from the newest back."""
LETTER_RECORDS_MAX = 50
"""Dead letters in memory with all they hold; each may be as large as a record."""
LETTER_READ_S_MAX = 15.0
LETTER_HEX_BYTES_MAX = 65_536
"""How much of what cannot be decoded is shown."""
LETTER_OUTCOME_WAIT_S = 3.0
"""How long the outcome of a command that was put back is waited for: poison has none."""
