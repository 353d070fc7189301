"""Adapters are found by entry point, and a broken one is only its own problem."""

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from adapters.local import LocalAdapter
from adapters.mock import MockAdapter
from adapters.registry import GROUP, BrokenAdapter, Registry, UnknownAdapter


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=GROUP)


MOCK = entry("mock", "adapters.mock:MockAdapter")


class Raises:
    """An adapter of somebody else that cannot be made."""

    def __init__(self, state_dir: Path) -> None:
        raise RuntimeError(f"no licence in {state_dir.name}")


class NoAdapter:
    """Something else that was named as an adapter."""

    def __init__(self, state_dir: Path) -> None:
        self.check = state_dir


def test_the_installed_ones_are_found(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert {"local", "mock"} <= set(registry.known)
    assert isinstance(registry.get("local"), LocalAdapter)
    assert isinstance(registry.get("mock"), MockAdapter)


def test_one_is_made_once(tmp_path: Path) -> None:
    registry = Registry(tmp_path, [MOCK])
    assert registry.get("mock") is registry.get("mock")


def test_an_unknown_one_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownAdapter, match="this worker has mock") as caught:
        Registry(tmp_path, [MOCK]).get("ssh")
    assert (caught.value.code, caught.value.retriable) == ("unknown_adapter", False)
    with pytest.raises(UnknownAdapter, match="has none"):
        Registry(tmp_path, []).get("ssh")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("no_such_module:Adapter", "ModuleNotFoundError"),
        ("adapters.mock:NoSuchClass", "AttributeError"),
        (f"{__name__}:Raises", "no licence in bad"),
        (f"{__name__}:NoAdapter", "lacks check, handle_for"),
    ],
)
def test_a_broken_one_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    import sys
    import types

    module = types.ModuleType(__name__)
    vars(module).update(Raises=Raises, NoAdapter=NoAdapter)
    monkeypatch.setitem(sys.modules, __name__, module)
    registry = Registry(tmp_path, [entry("bad", value), MOCK])
    with pytest.raises(BrokenAdapter, match=words):
        registry.get("bad")
    adapters, broken = registry.usable()
    assert list(adapters) == ["mock"]
    assert list(broken) == ["bad"]
    assert value in str(broken["bad"])


def test_a_name_claimed_twice_is_refused(tmp_path: Path) -> None:
    registry = Registry(tmp_path, [MOCK, entry("mock", "other.mock:MockAdapter")])
    with pytest.raises(BrokenAdapter, match=r"adapters\.mock:MockAdapter, other\.mock:MockAdapter"):
        registry.get("mock")
    assert Registry(tmp_path, [MOCK, MOCK]).get("mock") is not None
