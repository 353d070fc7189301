"""Where files kept from attempts are stored: the protocol, and stores that keep it."""
