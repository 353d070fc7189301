"""How much of what is scarce one principal may have at once. Counts, and knows nothing else."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem


class Shares:
    """A number of places, of which one principal may have a part."""

    def __init__(self, what: str, code: str, *, most: int, most_each: int) -> None:
        self._what = what
        self._code = code
        self._most = most
        self._most_each = most_each
        self._taken: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many places are taken now."""
        return self._taken.total()

    def admit(self, actor: str) -> None:
        """Raise the 429 or 503 that one more deserves, if it does."""
        headers = {"Retry-After": "10"}
        if self.open >= self._most:
            detail = f"{self.open} {self._what} are open, which is the limit; try again later"
            raise Problem(503, self._code, detail, headers=headers)
        if self._taken[actor] >= self._most_each:
            detail = (
                f"{actor} has {self._taken[actor]} {self._what} open, which is the limit for one "
                "principal; close some, or try again later"
            )
            raise Problem(429, self._code, detail, headers=headers)

    @contextmanager
    def place(self, actor: str) -> Iterator[None]:
        """Take a place for `actor` while the block runs."""
        self._taken[actor] += 1
        try:
            yield
        finally:
            self._taken[actor] -= 1
            if not self._taken[actor]:
                del self._taken[actor]
