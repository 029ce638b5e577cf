"""The members of a request, read by their types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .failures import RefusedError, not_json

if TYPE_CHECKING:
    from collections.abc import Mapping


class Parameters:
    """The members of a JSON object; one that is null counts as absent.

    Args:
        members: The object; None when the request has none.
        operation: Whose object it is.

    Raises:
        RefusedError: There is no object, or later: a member has another type than the one that is read.
    """

    def __init__(self, members: object, operation: str) -> None:
        if not isinstance(members, dict):
            raise RefusedError(not_json(operation))
        self._members: Mapping[str, object] = members
        self._operation = operation

    def text(self, name: str) -> str | None:
        """Read a string."""
        value = self._members.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._mistake()

    def integer(self, name: str) -> int | None:
        """Read an integer."""
        value = self._members.get(name)
        # In Python, booleans are integers.
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._mistake()

    def texts(self, name: str) -> list[str]:
        """Read a list of strings; empty when it is absent."""
        texts = self._list(name)
        found = [text for text in texts if isinstance(text, str)]
        if len(found) < len(texts):
            raise self._mistake()
        return found

    def structure(self, name: str) -> Parameters | None:
        """Read an object."""
        value = self._members.get(name)
        return None if value is None else Parameters(value, self._operation)

    def structures(self, name: str) -> list[Parameters]:
        """Read a list of objects; empty when it is absent."""
        return [Parameters(value, self._operation) for value in self._list(name)]

    def lists_of_texts(self) -> dict[str, list[str]]:
        """Read all members as lists of strings."""
        return {name: self.texts(name) for name, value in self._members.items() if value is not None}

    def _list(self, name: str) -> list[object]:
        value = self._members.get(name)
        if value is None or isinstance(value, list):
            return value or []
        raise self._mistake()

    def _mistake(self) -> RefusedError:
        return RefusedError(not_json(self._operation))
