"""The house itself: what must hold for the tree and its environment as a whole."""

import ast
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


NEED_NOT_SURVIVE = {
    # Who guards a test: after a power cut nobody does.
    "adapters/local/guardian.py": ["os.rename(draft, path)"],
    # A log and an unreadable note are put aside.
    "cli/local/broker.py": ["log.replace(log.with_suffix(log.suffix + '.1'))"],
    "processors/worker/notes.py": ["path.rename(path.with_suffix('.broken'))"],
    # A note that is on the disk moves; until the move is there too, it is where it was.
    "processors/worker/fences.py": ["path.replace(self._path(leftover.bench_key))"],
    # A jar is still in the folder it is fetched into.
    "cli/local/jars.py": ["fetched.replace(target)"],
    # What is being removed.
    "adapters/local/removal.py": ["folder.rename(aside)"],
    # The one place that syncs before it renames.
    "events/durable.py": [
        "draft.replace(path)",
        "os.replace(draft, name, src_dir_fd=folder, dst_dir_fd=folder)",
    ],
}


def renames(tree: ast.AST) -> list[str]:
    """Every rename of a file: `replace` with one argument is a path's, a text's has two."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        ast.unparse(call)
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and not ast.unparse(call.func).startswith("durable.")
        and (
            (call.func.attr == "replace" and len(call.args) == 1 and not call.keywords)
            or ast.unparse(call.func) in ("os.replace", "shutil.move")
            or call.func.attr in ("rename", "renames")
        )
    ]


def test_no_file_gets_its_name_before_its_content_is_on_the_disk() -> None:
    """After a power cut a file that was renamed unsynced is empty (`events/durable.py`)."""
    source = (
        "a.replace(b); os.replace(a, b); a.rename(b); s.replace('a', 'b'); durable.replace(a, b)"
    )
    assert len(renames(ast.parse(source))) == 3, "the check sees what it must, and only that"
    parts = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    files = [path for part in parts for path in (ROOT / part).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)): calls
        for path in files
        if (calls := renames(ast.parse(path.read_text())))
    }
    assert found == NEED_NOT_SURVIVE


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
