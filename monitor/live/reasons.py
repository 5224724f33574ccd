"""What was said of an outage: each reason once, and not without end."""

MOST = 5  # different reasons of one outage; some hold a number that is another each time


class Reasons:
    """The reasons why one peer is away that people were told."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def is_new(self, reason: str) -> bool:
        """Whether to say it, and remember that it was said."""
        if reason in self._said or len(self._said) >= MOST:
            return False
        self._said.add(reason)
        return True

    def over(self) -> None:
        """The peer is back: the next outage is another one."""
        self._said.clear()
