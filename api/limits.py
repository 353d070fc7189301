"""Every limit of the HTTP edge, by name and unit. Data only."""

BODY_BYTES_MAX = 1_000_000
"""Largest request body taken; a larger one is answered 413."""
DRAIN_BYTES_MAX = 32_000_000
"""How much of a refused body is read and thrown away, so that its sender can read the answer."""
HEADER_BYTES_MAX = 32_000
"""Names and values of all headers together; more are answered 431."""
HEAD_BYTES_MAX = 2 * HEADER_BYTES_MAX
"""A request line with its headers that is not over by then: the connection is answered 431."""
HEAD_S_MAX = 10.0
"""How long a client may take from its connection, or the first byte of a request, to the end of
the head."""
PIPELINE_MAX = 16
"""How many requests may wait on one connection for the answer to the one before."""
BODY_LEFT_S_MAX = 40.0
"""How long a client may go on sending a body whose request is answered already."""
STALLED_S_MAX = 30.0
"""A client that takes nothing of what is sent to it for so long is cut off."""
CONNECTIONS_MAX = 2_000
"""Connections at once, if the process may have as many open files; one more takes the place of
the one that has been idle for longest."""
FILES_WANTED = 8_192
FILES_KEPT_FREE = 200
"""Open files that connections leave to the log, the read models and artifacts."""
KEEP_ALIVE_S = 30.0
"""How long a connection may be idle between requests."""
STOP_S_MAX = 5
"""How long requests that are being served may take to end when the server stops."""
READY_S_MAX = 2.0
"""How long the checks of readiness may take."""
JSON_DEPTH_MAX = 100
NUMBER_MAX = 10**15
"""Of attempts and lines; far below what tables and the log can hold."""
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

LONG_POLLS_MAX = 1_000
LONG_POLLS_EACH_MAX = 250
"""How many requests may wait for a change at once: in all (503), and of one principal (429)."""
SSE_CLIENTS_MAX = 500
"""How many event streams may be open at once; one more is answered 503."""
SSE_CLIENTS_EACH_MAX = 200
"""How many of them one principal may have; one more is answered 429."""
SSE_KEEP_ALIVE_S = 15.0
SSE_SEND_S_MAX = 30.0
"""A client that takes nothing for so long is dropped; it may resume by `Last-Event-ID`."""
SSE_END_S_MAX = 1.0
"""How long the end of a stream may take to be sent."""
SSE_PENDING_MAX = 2_000
"""Events that may wait for one client of the event stream; more: it is dropped and may resume."""
SSE_CHUNK_BYTES = 64 * 1024
"""What is handed to a client at once: more of it would wait in memory while it reads slowly."""
PAST_BLOCK_OFFSETS = 256
PAST_BLOCK_BYTES = 512 * 1024
"""A block of the past has so many offsets, or so many bytes and the event that reaches them."""
PAST_BYTES_MAX = 64 * 1024 * 1024
"""What is kept of the past, as it is sent."""
PAST_MADE_AT_ONCE = 2
PAST_READERS_MAX = 8
PAST_SLICE_S = 0.004
"""So long a block may be worked at before the loop gets the same time back."""
PAST_STALLED_S_MAX = 30.0
PAST_LEFT_FOR_LIVE = 500
"""A stream listens to what comes once so few events of the past are left."""

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
"""By how much the clocks that stamp a log may be behind log time when it is searched by time."""
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
LOG_PART_BYTES_MAX = 4_000_000
"""Bytes of lines after which a part of a log as JSON ends, however many lines were asked for."""
LOG_TEXT_LINES_MAX = 1_000_000
"""Most lines of a log fetched as plain text."""
ARCHIVE_BYTES_MAX = 256_000_000
"""Largest archived log that is read back line by line; a larger one is downloaded as artifact."""

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
