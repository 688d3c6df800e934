"""Every error this package raises.

    MemOSError
    ├── InvalidRequest (ValueError)     the call itself is wrong: fix the arguments
    ├── NotFound (LookupError)          no such cube, version, key or activity in the caller's scope
    ├── AccessDenied                    it exists, but this caller may not do that
    ├── InvalidTransition               the life cycle does not allow that step
    ├── VersionConflict        retry    somebody wrote first: read again and retry
    ├── IncompatibleModel               made by another model, tokenizer or embedder
    ├── IntegrityError                  stored bytes are not what was written
    └── BackendUnavailable     retry    the store cannot serve now: locked, full, closed, unreachable

A message says what happened, with which values, and what to do; the same values are in `details`.
"""

from __future__ import annotations

from typing import ClassVar


class MemOSError(Exception):
    """Base of all our errors. `retryable` says whether the same call can succeed later unchanged."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.details = details


class InvalidRequest(MemOSError, ValueError):
    """An argument is missing, malformed or contradicts another one."""


class NotFound(MemOSError, LookupError):
    """Nothing by that name in the caller's scope; whether it exists elsewhere is never said."""


class AccessDenied(MemOSError):
    """The caller may see the thing but not do this with it."""


class InvalidTransition(MemOSError):
    """The life cycle has no such step, or the cube is frozen."""


class VersionConflict(MemOSError):
    """The version to be replaced is no longer the newest one."""

    retryable = True


class IncompatibleModel(MemOSError):
    """Stored data belongs to another model than the one at hand."""


class IntegrityError(MemOSError):
    """Stored bytes are damaged, missing or were changed from outside."""


class BackendUnavailable(MemOSError):
    """The store cannot serve the call now."""

    retryable = True
