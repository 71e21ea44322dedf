"""The one error of run folders."""


class RunFolderError(ValueError):
    """A run folder cannot be used; one sentence says what is wrong, where, and the cure."""
