"""Errors a user can act on: what was wrong, where, and the command to run next."""

from __future__ import annotations


class MNTradingError(Exception):
    """A problem stated for the person who has to solve it.

    Parameters
    ----------
    what
        What was wrong, with the offending value and what was expected.
    where
        The symbol, pair, file or parameter it was found in.
    fix
        The command to run, or the parameter to change, next.
    """

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        parts = [f"{where}: {what}" if where else what]
        if fix:
            parts.append(f"Next: {fix}")
        super().__init__("\n".join(parts))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[MNTradingError], what: str, where: str | None, fix: str | None) -> MNTradingError:
    return kind(what, where=where, fix=fix)


class BarDataError(MNTradingError):
    """Bars that break the data contract: unsorted, non-finite, off the grid, inconsistent."""


class SourceError(MNTradingError):
    """A market source that can't be read: unknown symbol, blocked, malformed answer."""


class ParameterError(MNTradingError):
    """A parameter that is unknown, of the wrong type, or at odds with the data or another one."""


class ArtifactError(MNTradingError):
    """A stored artefact that is missing, altered, or not of its schema."""


class DoubtError(MNTradingError):
    """Live inputs too doubtful to enter on: signals, exits and orders were made, entries were not."""


class LockedError(MNTradingError):
    """Another run holds the storage root."""
