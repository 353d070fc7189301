"""Hides the values of secret variables in text. Never keeps or prints a secret itself."""

import re
from collections.abc import Iterable, Mapping, Sequence

from events.secrets import MASK, is_secret

SECRET_CHARS_MIN = 4
"""Shorter values are not masked: they would blot out ordinary words and hide nothing."""


class Masker:
    """Replaces each secret by `***`; what it has no secrets for passes untouched."""

    def __init__(
        self, env: Mapping[str, str], names: Sequence[str], values: Iterable[str] = ()
    ) -> None:
        """Hide the values of those variables of `env` whose names say so, and all of `values`."""
        hidden = [*values, *(value for name, value in env.items() if is_secret(name, names))]
        secrets = {line.strip() for value in hidden for line in (value, *value.splitlines())}
        kept = sorted(
            (s for s in secrets if len(s) >= SECRET_CHARS_MIN), key=lambda s: (-len(s), s)
        )
        self._pattern = re.compile("|".join(map(re.escape, kept))) if kept else None

    def __call__(self, text: str) -> str:
        """Return `text` with every secret masked."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)
