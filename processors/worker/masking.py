"""Hides the values of secret variables in text. Never keeps or prints a secret itself."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

MASK = "***"
SECRET_CHARS_MIN = 4
"""Shorter values are not masked: they would blot out ordinary words and hide nothing."""


class Masker:
    """Replaces each secret by `***`; what it has no secrets for passes untouched."""

    def __init__(self, env: Mapping[str, str], names: Sequence[str]) -> None:
        secrets = {
            line.strip()
            for name, value in env.items()
            if any(fnmatchcase(name.upper(), pattern) for pattern in names)
            for line in (value, *value.splitlines())
        }
        kept = sorted(
            (s for s in secrets if len(s) >= SECRET_CHARS_MIN), key=lambda s: (-len(s), s)
        )
        self._pattern = re.compile("|".join(map(re.escape, kept))) if kept else None

    def __call__(self, text: str) -> str:
        """Return `text` with every secret masked."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)
