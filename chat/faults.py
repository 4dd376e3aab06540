"""Faults of ours that are to be the end of nothing but what was done: they are noted, and the rest goes on."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def noted(note: Callable[[Exception], None], but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Hand what goes wrong within to `note`; what is of `but` is for whoever is around."""
    try:
        yield
    except but:
        raise
    except Exception as error:  # whatever it is, it is the fault of one of many who are told, or who come
        note(error)
