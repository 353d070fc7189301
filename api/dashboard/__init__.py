"""Pages for people: server-rendered over the same queries, live by the same streams."""
