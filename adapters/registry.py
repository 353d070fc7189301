"""Finds adapters by entry point; one that is broken never stops the others."""

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from adapters.contract import NO_ALLOWANCE, Adapter, AdapterError, Allowed

GROUP = "teo.adapters"

_METHODS = ("check", "handle_for", "provision", "run", "collect", "teardown", "leftovers")


class UnknownAdapter(AdapterError):
    """Raised when no installed distribution has an adapter of that name."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="unknown_adapter", retriable=False, fault="worker")


class BrokenAdapter(AdapterError):
    """Raised when an adapter is installed but cannot be loaded or made."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="broken_adapter", retriable=False, fault="worker")


class Registry:
    """The adapters installed beside this program; each is made once, when it is first asked for."""

    def __init__(
        self,
        state_dir: Path,
        entries: Iterable[EntryPoint] | None = None,
        *,
        allowed: Allowed = NO_ALLOWANCE,
    ) -> None:
        """Keep each adapter's own folder in `state_dir`; `entries` are the installed ones.

        `allowed` is what benches may reach of this machine, told to each adapter that asks.
        """
        self._state_dir = state_dir
        self._allowed = allowed
        self._made: dict[str, Adapter] = {}
        self._entries: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=GROUP) if entries is None else entries:
            found = self._entries.setdefault(entry.name, [])
            if entry.value not in {other.value for other in found}:
                found.append(entry)

    @property
    def known(self) -> tuple[str, ...]:
        """The names of all installed adapters, whether they load or not."""
        return tuple(sorted(self._entries))

    def get(self, name: str) -> Adapter:
        """Return the adapter `name`. Raises `UnknownAdapter` or `BrokenAdapter`."""
        if (made := self._made.get(name)) is None:
            made = self._made[name] = self._make(name)
        return made

    def usable(self) -> tuple[dict[str, Adapter], dict[str, BrokenAdapter]]:
        """Return all adapters that can be made, and why each of the others cannot."""
        adapters: dict[str, Adapter] = {}
        broken: dict[str, BrokenAdapter] = {}
        for name in self.known:
            try:
                adapters[name] = self.get(name)
            except BrokenAdapter as error:
                broken[name] = error
        return adapters, broken

    def _make(self, name: str) -> Adapter:
        found = self._entries.get(name, [])
        if not found:
            raise UnknownAdapter(
                f"no adapter {name!r}: this worker has {', '.join(self.known) or 'none'}; correct "
                f"the bench file, or install a package with an entry point in {GROUP!r}"
            )
        if len(found) > 1:
            claims = ", ".join(sorted(entry.value for entry in found))
            raise BrokenAdapter(f"adapter {name!r} is claimed by {claims}: uninstall all but one")
        entry = found[0]
        try:
            factory = cast(Callable[[Path], Adapter], entry.load())
            adapter = factory(self._state_dir / name)
            if (allow := getattr(adapter, "allow", None)) is not None:
                allow(self._allowed)
        except Exception as error:
            raise BrokenAdapter(
                f"adapter {name!r} ({entry.value}) cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
        if missing := [method for method in _METHODS if not callable(getattr(adapter, method, 0))]:
            raise BrokenAdapter(
                f"adapter {name!r} ({entry.value}) is no adapter: it lacks {', '.join(missing)}"
            )
        return adapter
