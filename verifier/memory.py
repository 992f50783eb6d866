"""Recognising that memory ran out, whoever says so."""

from __future__ import annotations


def ran_out(error: BaseException) -> bool:
    """Whether an exception means that an allocation failed.

    Python and numpy raise ``MemoryError``.  Torch raises its ``OutOfMemoryError`` on an
    accelerator and a plain ``RuntimeError`` on the CPU; neither is a ``MemoryError``, and
    torch need not be there to be asked.
    """
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    text = str(error)
    named = type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in text or "out of memory" in text
