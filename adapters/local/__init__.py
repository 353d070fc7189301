"""The adapter `local`: tests as processes of the worker's own machine."""

from adapters.local.adapter import LocalAdapter

__all__ = ["LocalAdapter"]
