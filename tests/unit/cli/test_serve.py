"""What a worker is started with: refused before anything is made, or taken once."""

from pathlib import Path

import pytest

from cli.problems import BadUsage
from cli.serve import _pools, worker


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "\udcff", "a" * 129])
def test_an_id_that_names_no_folder_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadUsage, match="is no name of a worker"):
        worker(worker_id=name, pool=["lab"], state_dir=tmp_path / "state", artifacts=tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [[""], ["lab,"], ["\udcff"], ["la\nb"]])
def test_a_pool_that_cannot_be_is_refused(given: list[str]) -> None:
    with pytest.raises(BadUsage, match="is no name of a pool"):
        _pools(given, all_pools=False)


@pytest.mark.parametrize(("given", "all_pools"), [([], False), (["lab"], True)])
def test_either_named_pools_or_all(given: list[str], all_pools: bool) -> None:
    with pytest.raises(BadUsage, match="either named pools or all"):
        _pools(given, all_pools=all_pools)


def test_a_pool_that_is_named_twice_is_served_once() -> None:
    """Two workers of one process on one folder would end each other."""
    assert _pools(["lab", "other,lab", "an old one"], all_pools=False) == (
        "lab",
        "other",
        "an old one",
    )
