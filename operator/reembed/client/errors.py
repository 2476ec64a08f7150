"""What can go wrong when a text is embedded, by what the caller should do about it.

EmbedderError
  TextRefused              the text is at fault: the same text will be refused again
    TextTooLong            it exceeds the model's limit and the pool refuses to cut it
    TextInvalid            it is empty, not text, or asks for what the model does not have
  EmbedderBusy             the queue is full: come back after `retry_after` seconds
  EmbedderUnavailable      no usable answer: another attempt may find one
  FingerprintMismatch      another model answered: its vectors must not be used

No message quotes a text: texts are the user's documents and queries, and messages end in logs and in status.
"""

from __future__ import annotations


class EmbedderError(Exception):
    """A request to an embedder brought no vectors."""


class TextRefused(EmbedderError):
    """One text of the request can't be embedded; `index` says which, None if the embedder did not say."""

    def __init__(self, index: int | None, message: str) -> None:
        super().__init__(message)
        self.index = index


class TextTooLong(TextRefused):
    """A text exceeds the model's limit, and its pool has `truncate: Refuse`."""


class TextInvalid(TextRefused):
    """A text is empty or malformed, or the request asks for what the model does not offer."""


class EmbedderBusy(EmbedderError):
    """The embedder's queue is full."""

    def __init__(self, retry_after: float, message: str) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EmbedderUnavailable(EmbedderError):
    """The embedder did not answer in time, is not ready, or answered something that can't be used."""


class FingerprintMismatch(EmbedderError):
    """The vectors come from another model than the one asked for."""

    def __init__(self, url: str, expected: str, found: str) -> None:
        super().__init__(
            f"the embedder at {url} answered with model '{found}' where '{expected}' was expected; its vectors were "
            "not used: check which model the pool behind this address runs"
        )
        self.expected = expected
        self.found = found
