"""How the package's objects pickle.

What was read from files pickles as the call that read it: a few hundred bytes, whatever the weights
take. It is read again where it is unpickled, from the same path, and only if the files are what
they were. In the process that has it already, it is that object, so that copies share the weights,
and many results of a model need it once. A model's parts pickle as their fields, without what
was made of these for the kernel.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

R = TypeVar("R")
CHUNK = 1 << 20


class File(NamedTuple):
    """A file as it was."""

    path: str
    size: int
    modified: int  # nanoseconds
    changed: int  # the like, of its entry in the folder
    digest: bytes | None = None
    """Of its content; None until it is pickled, for most are not."""

    @staticmethod
    def of(path: str | os.PathLike[str]) -> File:
        found = os.stat(path)
        return File(os.path.abspath(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def is_same(self) -> bool:
        """Whether it is as it was. Elsewhere a file of the same times may be another one, and a
        copy has other times: there its content decides."""
        now = File.of(self.path)
        if self.digest is None:
            return now[:3] == self[:3]
        return now[:4] == self[:4] or (now.size == self.size and now.read() == self.digest)

    def read(self) -> bytes:
        """Its digest."""
        digest = hashlib.blake2b(digest_size=16)
        with open(self.path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.digest()


_alive: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


class Origin:
    """What something was read from.

    Parameters
    ----------
    function : callable
        What reads it.
    arguments : dict
        Of the call, by their names; paths absolute.
    files : iterable of path
        All that it reads, before it is read.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: dict[str, Any],
        files: Iterable[str | os.PathLike[str]],
    ) -> None:
        self.function, self.arguments = function, arguments
        self.files = tuple(File.of(path) for path in files)

    def of(self, thing: R) -> R:
        """The thing, which was read so."""
        vars(thing)["_origin"] = self
        self._thing = weakref.ref(thing)
        _alive[self._key(self.files)] = thing
        return thing

    def is_same(self) -> bool:
        """Whether the files are there and as they were."""
        try:
            return all(file.is_same() for file in self.files)
        except OSError:
            return False

    def get(self) -> Any:
        """The thing, read again unless it is here.

        Raises
        ------
        OSError
            A file is not there.
        ValueError
            A file has changed.
        """
        own, key = vars(self).get("_thing", lambda: None)(), self._key(self.files)
        found = _alive.get(key) if own is None else own
        if found is not None:
            return found
        for file in self.files:
            if not file.is_same():
                raise ValueError(
                    f"{file.path}: not the file of {file.size} bytes that was pickled by its name;"
                    " bring that back, or load this one and pickle anew"
                )
        # It may be here by what the files are here.
        found = _alive.get(self._key(tuple(File.of(file.path) for file in self.files)))
        _alive[key] = found = self.function(**self.arguments) if found is None else found
        return found

    def _key(self, files: tuple[File, ...]) -> Any:
        return self.function, *sorted(self.arguments.items()), *(file[:4] for file in files)

    def __getstate__(self) -> dict[str, Any]:
        """With digests of those files that are still what was read."""
        with contextlib.suppress(OSError):  # a result can do without
            self.files = tuple(
                file._replace(digest=file.read())
                if file.digest is None and file.is_same()
                else file
                for file in self.files
            )
        return {name: vars(self)[name] for name in ("function", "arguments", "files")}

    def __deepcopy__(self, memo: Any) -> Origin:
        return self


def _again(origin: Origin) -> Any:
    return origin.get()


class FromFiles:
    """A class whose objects, if they were read from files, pickle as the call that does so."""

    @property
    def origin(self) -> Origin | None:
        """What this was read from; None if it was made in another way."""
        return vars(self).get("_origin")

    def __reduce_ex__(self, protocol: Any) -> Any:
        origin = self.origin
        if origin is not None and origin.is_same():
            return _again, (origin,)
        return super().__reduce_ex__(protocol)


class Part:
    """A dataclass whose objects pickle as their fields: what is computed of them when it is first
    needed is not pickled, and the checks are made again."""

    def __reduce__(self) -> Any:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self), tuple(getattr(self, field.name) for field in fields)


class Result:
    """A class whose objects have a `model`, and pickle without its weights, where it was read from
    files: these are read when `model` is first asked for."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        origin = getattr(state.get("model"), "origin", None)
        if origin is not None:
            del state["model"]
            state["_origin"] = origin
        return state

    def __getattr__(self, name: str) -> Any:
        if name != "model" or "_origin" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return vars(self).setdefault("model", vars(self)["_origin"].get())
