"""Errors that a caller can tell apart.  All derive from :class:`FarkasError`."""

from __future__ import annotations


class FarkasError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(FarkasError):
    """The user's input is at fault: file, usage or question (exit code 3)."""


class ModelError(InputError):
    """A model file cannot be read, or it breaks a rule of its format."""


class UnsupportedOperatorError(ModelError):
    """A model uses an operator, or an operator's attribute, that has no rule."""


class PropertyError(InputError):
    """A property cannot be read or makes no sense for its network.

    The message carries ``FILE:LINE:COLUMN`` where the property came from a file.
    """


class QuestionError(InputError):
    """A question file (TOML) is malformed, or its parts do not fit together."""


class EvidenceError(InputError):
    """A proof or witness file is unreadable, or was made for another question."""


class MissingExtraError(InputError):
    """An optional part of the installation is needed; the message says which."""
