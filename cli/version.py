"""The version of the installed distribution; read only when it is asked for."""

from functools import cache


@cache
def version() -> str:
    """Return the version, `0+unknown` in a tree that was never installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("test-execution-orchestrator")
    except PackageNotFoundError:
        return "0+unknown"
