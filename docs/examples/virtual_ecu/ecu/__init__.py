"""A virtual ECU: its board, its diagnostics and its place on a CAN bus."""
