"""Messages of each family, their codec, errors, and the protocol of the log."""
