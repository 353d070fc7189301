"""Which bench serves which place of an ask for several. Pure."""

from collections.abc import Sequence


def match_all(choices: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """Return one different bench for each place of an ask, or None if that cannot be.

    Augmenting paths (Kuhn): a bench that fits two places goes to the one that has no other.
    """
    owner: dict[str, int] = {}

    def assign(place_number: int, tried: set[str]) -> bool:
        for name in choices[place_number]:
            if name in tried:
                continue
            tried.add(name)
            if name not in owner or assign(owner[name], tried):
                owner[name] = place_number
                return True
        return False

    if not all(assign(number, set()) for number in range(len(choices))):
        return None
    by_place = {number: name for name, number in owner.items()}
    return tuple(by_place[number] for number in range(len(choices)))
