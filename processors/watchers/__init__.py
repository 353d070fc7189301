"""Watchers: they read the journal and ask for things, as users do. The system is whole without."""
