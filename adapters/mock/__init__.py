"""The adapter `mock`: scripted benches, for tests and for the `local` environment."""

from adapters.mock.adapter import MockAdapter

__all__ = ["MockAdapter"]
