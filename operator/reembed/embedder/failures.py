"""Why a request got no vectors, whoever computes them; `app` turns each into its status."""

from __future__ import annotations


class EngineUnavailable(Exception):
    """The engine died or is not ready; trying again soon helps."""


class EngineBusy(Exception):
    """More waits than will be done soon."""


class EngineFailed(Exception):
    """The engine could not do this request; another may work."""


class TextRefused(Exception):
    """A text has no vector; `index` says which."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(f"text {index} {message}")
        self.index = index
        self._message = message

    def at(self, index: int) -> TextRefused:
        """Return the same of a text at another place."""
        return type(self)(index, self._message)


class TextTooLong(TextRefused):
    """A text is longer than the model reads, and the pool refuses such."""
