"""Hides the values of secret variables in text. Never keeps or prints a secret itself."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        lines = {line.strip() for value in hidden for line in (value, *value.splitlines())}
        secrets = {form for line in lines if len(line) >= SECRET_CHARS_MIN for form in _forms(line)}
        self._secrets = sorted(secrets, key=lambda s: (-len(s), s))
        self._pattern = re.compile("|".join(map(re.escape, self._secrets))) if secrets else None
        self._longest = max(map(len, self._secrets), default=0)

    def __call__(self, text: str) -> str:
        """Return `text` with every secret masked."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def cut(self, text: str, mark: str) -> str:
        """Return a text that was cut, masked: also the part of a secret that stands before `mark`.

        `mark` says where it was cut, once or several times.
        """
        *before, last = self(text).split(mark)
        return mark.join([*map(self._without_beginning, before), last])

    def held_back(self, text: str) -> tuple[str, str]:
        """Return the part of a text that may go on its way, and the rest, for what follows it.

        The rest is as it was: with what follows, it may be a secret.
        """
        if self._pattern is None:
            return text, ""
        end = max(0, len(text) - self._longest + 1)
        for found in self._pattern.finditer(text):
            if found.start() < end < found.end():
                end = found.start()
        return text[:end], text[end:]

    def _without_beginning(self, text: str) -> str:
        """Return `text` without the beginning of a secret at its end."""
        found = max((_shared(text, secret) for secret in self._secrets), default=0)
        return f"{text[:-found]}{MASK}" if found else text


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, and as programs print it between quotes."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]


def _shared(text: str, secret: str) -> int:
    """Return how much of the beginning of `secret` ends `text`; 0 if it is too little to tell."""
    for length in range(min(len(secret), len(text)), SECRET_CHARS_MIN - 1, -1):
        if text.endswith(secret[:length]):
            return length
    return 0
