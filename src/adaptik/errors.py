"""What adaptik raises when a request cannot be met: each message names argument and cure."""


class InputError(ValueError):
    """A value, shape or combination that has no meaning; raised before any computation."""


class MemoryLimitError(InputError):
    """The request would need more memory than the machine has; raised before allocation."""


class DatasetNotFoundError(InputError):
    """A named data set is not on this machine; the message says the ways to get it."""
