"""Tokens for the next page, opaque and good for nothing but the same question."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

# A token of another run is bad, as the rows that it counts are gone.
_SECRET = secrets.token_bytes(16)
_DIGEST_SIZE = 12


def make_cursor(question: str, offset: int) -> str:
    """Make the token for the page of an answer that begins with this row."""
    position = str(offset).encode()
    return base64.urlsafe_b64encode(_digest(question, position) + position).decode()


def read_cursor(question: str, token: str) -> int | None:
    """Give the row that a page begins with; None for a token that was not made for this question."""
    try:
        decoded = base64.b64decode(token, b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    digest, position = decoded[:_DIGEST_SIZE], decoded[_DIGEST_SIZE:]
    return int(position) if secrets.compare_digest(digest, _digest(question, position)) else None


def _digest(question: str, position: bytes) -> bytes:
    text = question.encode(errors="surrogatepass") + b"\0" + position
    return hashlib.blake2b(text, key=_SECRET, digest_size=_DIGEST_SIZE).digest()
