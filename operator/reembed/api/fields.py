"""Reading raw objects field by field, with errors that name the field.

The API server has checked an object against its CRD before anybody reads it here; an error means that an object was
written under another version of the CRD, or is not what it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from reembed.api.values import InvalidValue
from reembed.core.model import Meta

Raw = Mapping[str, Any]
T = TypeVar("T")
E = TypeVar("E", bound=Enum)

_MISSING: Any = object()


class InvalidField(Exception):
    """A field does not hold what it should; the object has to be changed."""

    def __init__(self, path: str, found: object, expected: str) -> None:
        super().__init__(f"{path} is {found!r}, expected {expected}")
        self.path = path
        self.found = found
        self.expected = expected


class Fields:
    """One mapping of a raw object, with the path that leads to it."""

    def __init__(self, raw: Any, path: str) -> None:
        # Reports of pods come over the network: what claims to be an object may be anything.
        if not isinstance(raw, Mapping):
            raise InvalidField(path, raw, "an object")
        self._raw: Raw = raw
        self._path = path

    def text(self, name: str, default: str = _MISSING) -> str:
        return str(self._typed(name, str, "a string", default))

    def number(self, name: str, default: int = _MISSING) -> int:
        return int(self._typed(name, int, "a whole number", default))

    def real(self, name: str, default: float = _MISSING) -> float:
        """Return a number; Python reads NaN and Infinity from what claims to be JSON."""
        value = float(self._typed(name, (int, float), "a number", default))
        if not math.isfinite(value):
            raise InvalidField(f"{self._path}.{name}", value, "a number")
        return value

    def flag(self, name: str, *, default: bool = _MISSING) -> bool:
        return bool(self._typed(name, bool, "true or false", default))

    def maybe_text(self, name: str) -> str | None:
        return self.text(name) if self._raw.get(name) is not None else None

    def maybe_number(self, name: str) -> int | None:
        return self.number(name) if self._raw.get(name) is not None else None

    def maybe_real(self, name: str) -> float | None:
        return self.real(name) if self._raw.get(name) is not None else None

    def maybe_flag(self, name: str) -> bool | None:
        return self.flag(name) if self._raw.get(name) is not None else None

    def into(self, name: str) -> Fields:
        """Return a mapping inside this one; an empty one if it is not there."""
        return Fields(self._typed(name, Mapping, "an object", {}), f"{self._path}.{name}")

    def maybe(self, name: str) -> Fields | None:
        """Return a mapping inside this one, None if it is not there."""
        return self.into(name) if self._raw.get(name) is not None else None

    def each(self, name: str) -> list[Fields]:
        """Return the mappings of a list; none if it is not there."""
        items: list[Any] = self._typed(name, list, "a list", [])
        return [Fields(item, f"{self._path}.{name}[{number}]") for number, item in enumerate(items)]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the strings of a list; none if it is not there."""
        items: list[Any] = self._typed(name, list, "a list", [])
        if not all(isinstance(item, str) for item in items):
            raise InvalidField(f"{self._path}.{name}", items, "a list of strings")
        return tuple(items)

    def mapping(self, name: str) -> dict[str, str]:
        """Return a mapping of strings; an empty one if it is not there."""
        values: Mapping[str, Any] = self._typed(name, Mapping, "an object", {})
        return {key: self.into(name).text_or_number(key) for key in values}

    def text_or_number(self, name: str) -> str:
        """Return a string, or a whole number as it is written: `cpu: 2` is as good as `cpu: "2"`."""
        return str(self._typed(name, (str, int), "a string or a whole number", _MISSING))

    def raws(self, name: str) -> tuple[dict[str, Any], ...]:
        """Return the mappings of a list as they are, for what goes on to Kubernetes unread."""
        return tuple(dict(item) for item in self._typed(name, list, "a list", []))

    def parsed(self, name: str, parse: Callable[[str], T], default: T = _MISSING) -> T:
        """Return a string turned into a value by `parse`, which raises InvalidValue if it cannot."""
        if default is not _MISSING and self._raw.get(name) is None:
            return default
        text = self.text(name)
        try:
            return parse(text)
        except InvalidValue as error:
            raise InvalidField(f"{self._path}.{name}", text, error.expected) from error

    def choice(self, name: str, kind: type[E], default: E = _MISSING) -> E:
        """Return the member of an enumeration."""
        if default is not _MISSING and self._raw.get(name) is None:
            return default
        value = self.text(name)
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise InvalidField(f"{self._path}.{name}", value, f"one of {known}") from None

    def _typed(self, name: str, kind: Any, expected: str, default: Any) -> Any:
        value = self._raw.get(name)
        if value is None and default is not _MISSING:
            return default
        # A bool is an int to Python, not to JSON.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidField(f"{self._path}.{name}", value, expected)
        return value


def parse_meta(raw: Raw) -> Meta:
    """Return what every object carries."""
    meta = raw["metadata"]
    return Meta(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        generation=meta.get("generation", 0),
        resource_version=meta.get("resourceVersion", ""),
        deleting=meta.get("deletionTimestamp") is not None,
        finalizers=tuple(meta.get("finalizers") or ()),
    )
