"""Names of options: an unknown one is a TypeError that offers the nearest known one."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def known(
    of: Callable[..., Any],
    given: Iterable[str],
    where: str,
    also: Callable[..., Any] | None = None,
) -> None:
    """Check the names of options.

    Parameters
    ----------
    of : callable
        Whose parameters may be given by name: a function or a class.
    given : iterable of str
    where : str
        What they were given to, for the message.
    also : callable, optional
        Whose parameters may be what was meant, too.

    Raises
    ------
    TypeError
        A name is not known; the message offers the nearest one.
    """
    names = _names(of)
    for name in given:
        if name not in names:
            every = names if also is None else [*names, *_names(also)]
            near = difflib.get_close_matches(name, every, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(names)}"
            raise TypeError(f"{where} has no option {name!r}{hint}")


@functools.cache
def _names(of: Callable[..., Any]) -> list[str]:
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(of).parameters.values()
    return [one.name for one in parameters if one.kind in by_name and one.name != "self"]


def names_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: a function or an ``__init__`` that refuses an unknown option, and offers the
    nearest."""
    where = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        known(function, kwargs, where)
        return function(*args, **kwargs)

    return checked
