"""The house itself: what must hold for the tree and its environment as a whole."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = PROJECT["project"]["name"]


def test_no_installed_distribution_has_one_of_our_import_names() -> None:
    """The names are flat: the PyPI package `Events`, for one, would shadow our `events`."""
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    installed = packages_distributions()
    others = {name: set(installed.get(name, ())) - {OURS} for name in packages}
    assert not any(others.values()), others


def test_links_and_paths_in_the_docs_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert pages
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    parts = "tests|cli|api|processors|projections|events|adapters"
    broken += [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(rf"`((?:{parts})/[\w./-]+?)[`:]", page.read_text())
        if not (ROOT / target).exists()
    ]
    assert broken == []
