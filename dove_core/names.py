"""Names of files that are not UTF-8, as text that can be stored and shown."""

from __future__ import annotations

_SHOWN = {0xDC80 + byte: 0xEF80 + byte for byte in range(0x80)}
"""The surrogates by which Python stands for bytes that are not UTF-8, and characters that can be stored."""

_REAL = {shown: surrogate for surrogate, shown in _SHOWN.items()}


def shown_name(name: str) -> str:
    """Return a file's name as valid text: a byte that is not UTF-8 becomes a character of its own, U+EF80 to U+EFFF.

    `real_name` returns the name again.

    >>> real_name(shown_name("caf\\udce9.jpg")) == "caf\\udce9.jpg"
    True
    """
    return name if name.isascii() else name.translate(_SHOWN)


def real_name(text: str) -> str:
    """Return the name that a system's functions take for a text that `shown_name` returned."""
    return text if text.isascii() else text.translate(_REAL)
