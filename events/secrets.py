"""Which variables look like secrets, and what is said to who submits one. Pure.

What is asked for stands on the journal, which is kept for ever and read by everybody who may look
at runs. So a secret does not go there: it is given to a worker, on its machine.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

SECRET_NAMES = (
    "*TOKEN*",
    "*SECRET*",
    "*PASSWORD*",
    "*PASSWD*",
    "*CREDENTIAL*",
    "*API_KEY*",
    "*APIKEY*",
    "*ACCESS_KEY*",
    "*PRIVATE_KEY*",
    "*SSH_KEY*",
    "*SIGNING_KEY*",
    "*ENCRYPTION_KEY*",
    "*PASSPHRASE*",
    "*BEARER*",
    "PASS",
    "*_PASS",
    "*_PWD",
)
"""Patterns of names, in capitals, of variables whose value is hidden wherever text is kept."""
NAMES_OF_PLACES = ("*_FILE", "*_PATH", "*_DIR")
"""Such a variable says where a secret is: that may be read by anybody."""
MASK = "***"


def is_secret(name: str, patterns: Iterable[str] = SECRET_NAMES) -> bool:
    """Return whether the value of a variable of this name is to be hidden."""
    upper = name.upper()
    return any(fnmatchcase(upper, pattern) for pattern in patterns) and not any(
        fnmatchcase(upper, pattern) for pattern in NAMES_OF_PLACES
    )


def secrets_fault(env: Mapping[str, str]) -> tuple[str, str]:
    """Return why variables may not be submitted, and what to do instead; two empty texts: they may.

    An empty value hides nothing: it may unset what a test would find otherwise.
    """
    names = sorted(name for name, value in env.items() if value and is_secret(name))
    if not names:
        return "", ""
    what = f"{', '.join(names)} would stand in the journal, where everybody can read it, for ever"
    first = names[0]
    hint = (
        f"set {first} where the worker runs, start it with `--allow-env {first}` and name it in "
        f"pass_env of the bench's config; or submit where it is, as in {first}_FILE=/run/secrets/it"
    )
    return what, hint


def names_only(env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables as people are shown them: journals of before hold secrets too."""
    return dict.fromkeys(env, MASK)
