"""The HTTP API: publishes commands, waits for their outcome on the log, reads projections."""
