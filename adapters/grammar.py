"""What may be said to an adapter: names, labels, globs, words of a command, variables.

The one grammar of them all: the API, the CLI and the scheduler refuse by it before anything is
sent or decided, an adapter once more. Pure: no file, no clock, nothing else of this project.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
LABEL_PATTERN = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?"
VARIABLE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"
LABEL_VALUE_CHARS_MAX = 128
LABELS_MAX = 64
GLOB_CHARS_MAX = 1024
GLOB_PARTS_MAX = 64
GLOBS_MAX = 100
WORDS_MAX = 1_000
VARIABLES_MAX = 1_000
WORD_BYTES_MAX = 128 * 1024 - 1
"""Linux starts no program with a longer argument, or a longer `NAME=VALUE`."""
SET_FOR_TESTS = frozenset(
    {
        "TEO_ARTIFACTS_DIR",
        "TEO_ATTEMPT",
        "TEO_BENCH",
        "TEO_BENCH_LABELS",
        "TEO_DEADLINE",
        "TEO_EXECUTION_ID",
        "TEO_FENCE",
        "TRACEPARENT",
    }
)
"""Variables that say to a test where it runs: nobody else may set them."""
_SHOWN_CHARS_MAX = 200

ANY = None
"""The part `**` of a glob: any number of folders, also none."""
Part = re.Pattern[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """Why an ask may not be taken, and what to write instead. The code is a stable word."""

    code: str
    what: str
    next_step: str

    def __str__(self) -> str:
        return f"{self.what}; {self.next_step}"


class BadGlob(ValueError):
    """Raised for a glob that may not be used; holds what is wrong with it."""

    def __init__(self, wrong: Wrong) -> None:
        super().__init__(str(wrong))
        self.wrong = wrong


def wrong_glob(text: str) -> Wrong | None:
    """Return what is wrong with a glob of files in a workspace; None: nothing."""
    try:
        parts_of(text)
    except BadGlob as error:
        return error.wrong
    return None


def parts_of(glob: str) -> tuple[Part, ...]:
    """Return the parts of a glob, one for each name of a path. Raises `BadGlob`.

    POSIX and relative; `*`, `?` and `[…]` within a name, `**` for any number of folders, a
    trailing `/` for everything below a folder. Names that begin with a dot are like any other.
    """
    if what := _form_of(glob):
        raise _bad(f"a glob {what}", "write a path below the workspace, as in reports/*.xml")
    if glob.startswith(("/", "~")):
        raise _bad(
            f"glob {shown(glob)} leaves the workspace",
            "write a path below it, as in reports/*.xml; ./~x names what begins with ~",
        )
    if "\\" in glob:
        raise _bad(
            f"glob {shown(glob)} holds a backslash",
            "write / between names, and [*] or ? where a sign stands for itself",
        )
    names = [name for name in glob.split("/") if name not in {"", "."}]
    if ".." in names:
        raise _bad(
            f"glob {shown(glob)} climbs out of the workspace",
            "write a path below it, without '..'",
        )
    if glob.endswith("/") or (names and names[-1] == "**"):
        names += ["**", "*"]
    if not names:
        raise _bad(f"glob {shown(glob)} names no file", "write **, if you want all there is")
    if len(names) > GLOB_PARTS_MAX:
        raise _bad(
            f"glob {shown(glob)} has over {GLOB_PARTS_MAX} parts", "write ** for many folders"
        )
    return tuple(ANY if name == "**" else _compiled(name, glob) for name in names)


def _form_of(glob: str) -> str:
    if not glob:
        return "is empty"
    if len(glob) > GLOB_CHARS_MAX:
        return f"has {len(glob)} characters, {GLOB_CHARS_MAX} allowed"
    return unsayable(glob)


def _compiled(name: str, glob: str) -> re.Pattern[str]:
    try:
        return re.compile(fnmatch.translate(name))
    except re.error as error:
        raise _bad(f"glob {shown(glob)}: {error}", "mend what stands in [ and ]") from error


def _bad(what: str, next_step: str) -> BadGlob:
    return BadGlob(Wrong(code="invalid_glob", what=what, next_step=next_step))


def wrong_globs(globs: Sequence[str]) -> Wrong | None:
    """Return what is wrong with the first bad one of `globs`, or that there are too many."""
    if len(globs) > GLOBS_MAX:
        what = f"{len(globs)} globs, {GLOBS_MAX} allowed"
        return Wrong(code="invalid_glob", what=what, next_step="write wider ones, as in out/**")
    return _first(wrong_glob, globs)


def wrong_command(command: Sequence[str]) -> Wrong | None:
    """Return what is wrong with a program and its arguments; None: nothing."""
    if not command or not command[0]:
        what = "there is no command to run"
        return Wrong(code="invalid_command", what=what, next_step="name a program first")
    if len(command) > WORDS_MAX:
        what = f"the command has {len(command)} words, {WORDS_MAX} allowed"
        return Wrong(code="invalid_command", what=what, next_step="put them into a file")
    return _first(wrong_word, command)


def wrong_word(word: str) -> Wrong | None:
    """Return why a text cannot be an argument of a program; None: it can."""
    if what := unsayable(word) or _too_long(len(word.encode())):
        text = f"argument {shown(word)} {what}"
        next_step = "leave it out, or put it into a file that the test reads"
        return Wrong(code="invalid_command", what=text, next_step=next_step)
    return None


def wrong_variables(env: Mapping[str, str]) -> Wrong | None:
    """Return what is wrong with variables a test shall find; None: nothing."""
    if len(env) > VARIABLES_MAX:
        what = f"{len(env)} variables, {VARIABLES_MAX} allowed"
        return Wrong(code="invalid_variable", what=what, next_step="put them into a file")
    return _first(lambda name: wrong_variable(name) or wrong_value(name, env[name]), env)


def wrong_variable(name: str) -> Wrong | None:
    """Return why a text cannot be the name of a variable that a user gives; None: it can."""
    if not re.fullmatch(VARIABLE_PATTERN, name):
        what = f"{shown(name)} is no name of a variable"
        next_step = "use letters, digits and '_', first no digit"
        return Wrong(code="invalid_variable", what=what, next_step=next_step)
    if name in SET_FOR_TESTS:
        what = f"{shown(name)} is set for each attempt and cannot be given"
        return Wrong(code="invalid_variable", what=what, next_step="use another name")
    return None


def wrong_value(name: str, value: str) -> Wrong | None:
    """Return why a text cannot be the value of the variable `name`; None: it can."""
    if what := unsayable(value) or _too_long(len(f"{name}={value}".encode())):
        text = f"the value of variable {shown(name)} {what}"
        next_step = "leave it out, or put it into a file that the test reads"
        return Wrong(code="invalid_variable", what=text, next_step=next_step)
    return None


def wrong_name(text: str, noun: str) -> Wrong | None:
    """Return why a text cannot be the name of a `noun`, as a bench or a pool; None: it can."""
    if re.fullmatch(NAME_PATTERN, text):
        return None
    next_step = "use 1 to 128 letters, digits, '.', '_' and '-', first no sign"
    return Wrong(
        code="invalid_name", what=f"{shown(text)} is no name of a {noun}", next_step=next_step
    )


def wrong_labels(labels: Mapping[str, str]) -> Wrong | None:
    """Return which label no selector could ever ask for, and why; None: all can be."""
    if len(labels) > LABELS_MAX:
        what = f"{len(labels)} labels, {LABELS_MAX} allowed"
        return Wrong(code="invalid_label", what=what, next_step="keep those you select by")
    return _first(lambda name: wrong_label(name, labels[name]), labels)


def wrong_label(name: str, value: str) -> Wrong | None:
    """Return why no selector could ask for a label; None: one can."""
    if not re.fullmatch(LABEL_PATTERN, name):
        what = f"{shown(name)} is no name of a label"
        next_step = (
            "use 1 to 128 letters, digits, '.', '_', '-' and '/', first and last a letter or digit"
        )
        return Wrong(code="invalid_label", what=what, next_step=next_step)
    if not is_label_value(value):
        what = f"{shown(value)} is no value of label {name}"
        next_step = (
            f"use at most {LABEL_VALUE_CHARS_MAX} characters that can be seen, no '\"', and no "
            "blank at an end"
        )
        return Wrong(code="invalid_label", what=what, next_step=next_step)
    return None


def is_label_value(value: str) -> bool:
    """Return whether a bench may have a label of this value, and a selector ask for it."""
    return (
        len(value) <= LABEL_VALUE_CHARS_MAX
        and value.isprintable()
        and '"' not in value
        and value == value.strip()
    )


def shown(text: str) -> str:
    """Return `text` as an error shows it: quoted, printable and not too long."""
    cut = text if len(text) <= _SHOWN_CHARS_MAX else text[:_SHOWN_CHARS_MAX] + "…"
    return repr(cut)


def unsayable(text: str) -> str:
    """Return what in `text` no operating system and no record can carry; empty: nothing."""
    if "\0" in text:
        return "holds a NUL"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half a character: it is not UTF-8"
    return ""


def _too_long(size_bytes: int) -> str:
    return f"has {size_bytes} bytes, {WORD_BYTES_MAX} allowed" * (size_bytes > WORD_BYTES_MAX)


def _first(check: Callable[[str], Wrong | None], texts: Iterable[str]) -> Wrong | None:
    return next((wrong for text in texts if (wrong := check(text)) is not None), None)
