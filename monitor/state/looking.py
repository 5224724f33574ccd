"""Which pictures are being looked at: so that one that kills the process is known after its death.

A network, or a decoder of pictures, is other people's code on outsiders' bytes: it may end the
process without a word. What is looked at is noted before, in a small file beside the database. It
is not made durable: the death of a process leaves it whole, and one of the whole machine says
nothing of a picture.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

FILE = "looking.json"


class Looking:
    """The pictures of one data folder that are being looked at, by the hashes of their files."""

    def __init__(self, folder: Path) -> None:
        """Whatever was being looked at when the last process ended, ended with it."""
        self._path = folder / FILE
        self._deaths: Counter[str] = Counter()
        self._said = False
        now = self._read()
        self._deaths.update(now)
        if now:
            self._write(())

    def deaths(self, hash_: str) -> int:
        """In how many deaths of the process a picture was being looked at."""
        return self._deaths[hash_]

    @contextmanager
    def at(self, hashes: Sequence[str]) -> Iterator[None]:
        """These are being looked at within the block."""
        self._write(hashes)
        try:
            yield
        finally:
            self._write(())

    def done(self, hashes: Sequence[str]) -> None:
        """They have their results: what is known of them is of no use any more."""
        if any(self._deaths.pop(one, 0) for one in hashes):
            self._write(())

    def _read(self) -> list[str]:
        """Those that were looked at; the deaths before are taken over."""
        try:
            given = json.loads(self._path.read_bytes())
            self._deaths.update({str(one): int(count) for one, count in given["deaths"].items()})
            return [str(one) for one in given["now"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            logger.warning("%s: not readable, and begun anew: %s", self._path, error)
            return []

    def _write(self, now: Sequence[str]) -> None:
        partial = self._path.with_suffix(".tmp")
        try:
            partial.write_text(json.dumps({"now": list(now), "deaths": +self._deaths}))
            partial.replace(self._path)
        except OSError as error:
            if not self._said:
                logger.warning(
                    "%s: cannot be written: %s. A picture that ends the process would be looked "
                    "at again after each start.",
                    *(self._path, error),
                )
            self._said = True
