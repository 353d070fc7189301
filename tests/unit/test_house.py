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


def test_no_advice_names_a_tool_that_does_not_come_with_us() -> None:
    """Whoever runs `teo` has no scripts of Kafka: what can be done is a verb of ours."""
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    sources = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    sources += [source for name in packages for source in (ROOT / name).rglob("*.py")]
    named = [
        f"{source.relative_to(ROOT)}: {tool}"
        for source in sources
        for tool in re.findall(r"\bkafka-[a-z-]+\.sh\b", source.read_text())
    ]
    assert named == []


def test_each_verb_that_advice_names_exists() -> None:
    from typer.main import get_command

    from cli.journal import app
    from cli.main import VERBS

    journal = get_command(app).commands  # type: ignore[attr-defined]
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    sources = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    sources += [source for name in packages for source in (ROOT / name).rglob("*.py")]
    text = "\n".join(re.sub(r'"\s*f?"', "", source.read_text()) for source in sources)
    named = set(re.findall(r"`teo journal ([a-z-]+)", text))
    assert named <= set(journal)
    assert set(journal) <= named, "each is named where it is needed"
    assert set(re.findall(r"`teo ([a-z]+)[ `]", text)) <= set(VERBS)
