"""Which known name a misspelt one may have meant."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

ALIKE = 0.6  # of 1: as alike as names must be
_NUMBER = re.compile(r"\d+")


def meant(given: str, known: Iterable[str]) -> str | None:
    """The one most alike; None where none is, or where they differ in a number alone.

    pump_4 is no misspelt pump_9: it is another machine.
    """
    words, numbers = _parts(given)
    names = {}
    for one in known:
        other_words, other_numbers = _parts(one)
        if words != other_words or numbers == other_numbers:
            names[one.lower()] = one
    close = get_close_matches(given.lower(), names, n=1, cutoff=ALIKE)
    return names[close[0]] if close else None


def _parts(name: str) -> tuple[str, list[int]]:
    """A name without its numbers, and those."""
    return _NUMBER.sub("#", name.lower()), [int(number) for number in _NUMBER.findall(name)]
