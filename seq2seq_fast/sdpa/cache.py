"""KeyValueCache: the keys and values of a decoder, in the layout that the kernel reads fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..aligned import aligned_zeros
from ..contract.dtypes import SUPPORTED, as_array, compute_dtype, is_supported, narrow, wide
from ..contract.panels import PANEL, unpacked

__all__ = ["KeyValueCache"]

Array = np.ndarray[Any, Any]


class KeyValueCache:
    """Keys and values that grow step by step, for ``attention(query, cache)``.

    Keys lie packed, sixteen to a panel, so that the kernel need not transpose them at each step.
    Every sequence has a length of its own. Attention over a cache has the same bits as over the
    arrays ``cache.keys()`` and ``cache.values()`` with ``key_lengths=cache.lengths``. It pickles
    what it holds.

    Parameters
    ----------
    sequences, heads : int
        B and Hk.
    width, value_width : int
        D and Dv; Dv is D if left out.
    capacity : int
        Keys that there is room for at first; doubled when it is used up.
    fixed : bool
        Never grow: an append beyond the capacity raises ValueError.
    dtype : float32, float16, bfloat16 (of ``ml_dtypes``) or float64
        What numbers are stored as. Half types take half the memory and its traffic, and go with a
        float32 query.

    Attributes
    ----------
    lengths : ndarray of int64, shape (B,)
        Read-only.

    Raises
    ------
    TypeError, ValueError
        A dtype that is not one of these; a negative number.

    References
    ----------
    Pope et al., "Efficiently Scaling Transformer Inference", 2022, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from seq2seq_fast import attention
    >>> cache = KeyValueCache(2, 8, 64)
    >>> step = np.ones((2, 8, 1, 64), np.float32)
    >>> cache.append(step, step)
    >>> attention(step, cache).shape
    (2, 8, 1, 64)
    """

    def __init__(
        self,
        sequences: int,
        heads: int,
        width: int,
        value_width: int | None = None,
        *,
        capacity: int = 64,
        fixed: bool = False,
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dtype = np.dtype(dtype)
        if not is_supported(self.dtype):
            raise TypeError(f"dtype must be {SUPPORTED}; got {self.dtype}")
        self.heads, self.width = heads, width
        self.value_width = width if value_width is None else value_width
        for name in ("heads", "width", "value_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if sequences < 0 or capacity < 0:
            raise ValueError(
                f"sequences and capacity must not be negative; got {sequences}, {capacity}"
            )
        self.fixed = fixed
        self._limit = capacity
        self._lengths = np.zeros(sequences, np.int64)
        self._keys, self._values = self._room(sequences, capacity)

    def _room(self, sequences: int, capacity: int) -> tuple[Array, Array]:
        """Empty panels (B, Hk, panels, D, 16) and values (B, Hk, capacity, Dv)."""
        panels = -(-capacity // PANEL)
        return (
            aligned_zeros((sequences, self.heads, panels, self.width, PANEL), self.dtype),
            aligned_zeros((sequences, self.heads, panels * PANEL, self.value_width), self.dtype),
        )

    @property
    def lengths(self) -> Array:
        """How many keys each sequence has, (B,) int64, read-only."""
        view = self._lengths.view()
        view.flags.writeable = False
        return view

    @property
    def capacity(self) -> int:
        """Keys of a sequence that there is room for."""
        return self._limit if self.fixed else self._values.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return self._keys.nbytes + self._values.nbytes

    def append(self, key: ArrayLike, value: ArrayLike, lengths: ArrayLike | None = None) -> None:
        """Add keys and values at the end of each sequence.

        Parameters
        ----------
        key : array_like, shape (B, Hk, T, D)
        value : array_like, shape (B, Hk, T, Dv)
            Rounded to the cache's dtype; float64 goes with float64 only.
        lengths : array_like of int, optional, shape (B,)
            How many of the T each sequence takes; all if None.

        Raises
        ------
        TypeError, ValueError
            Shapes and dtypes that do not fit; no room in a fixed cache. The cache is as before.
        """
        key, value = as_array("key", key), as_array("value", value)
        sequences = len(self._lengths)
        for name, array, width in (("key", key, self.width), ("value", value, self.value_width)):
            if array.ndim != 4 or array.shape != (sequences, self.heads, key.shape[-2], width):
                raise ValueError(
                    f"{name} must have the shape ({sequences}, {self.heads}, T, {width}),"
                    f" T the same for both; got {array.shape}"
                )
            if not is_supported(array.dtype) or compute_dtype(array.dtype) != compute_dtype(
                self.dtype
            ):
                raise TypeError(f"{name} must go with the cache's {self.dtype}; got {array.dtype}")
        new = np.full(sequences, key.shape[2], np.int64)
        if lengths is not None:
            given = as_array("lengths", lengths)
            if given.shape != new.shape or not np.issubdtype(given.dtype, np.integer):
                raise ValueError(
                    f"lengths must be {sequences} integers; got {given.dtype}, shape {given.shape}"
                )
            if given.size and (given.min() < 0 or given.max() > key.shape[2]):
                raise ValueError(
                    f"lengths must be from 0 to the number of keys, {key.shape[2]}; got {given}"
                )
            new = given.astype(np.int64)
        needed = int((self._lengths + new).max(initial=0))
        if needed > self.capacity:
            if self.fixed:
                raise ValueError(f"the cache has room for {self.capacity} keys; got {needed}")
            self._move(slice(None), max(needed, 2 * self.capacity))
        with np.errstate(over="ignore"):
            keys, values = (narrow(wide(array), self.dtype) for array in (key, value))
        starts = self._lengths
        if sequences and (starts == starts[0]).all():  # one place for all: what lies past a
            longest = int(new.max())  # length is of no account
            self.store(int(starts[0]), keys[:, :, :longest], values[:, :, :longest])
        else:
            # Where each new key goes: (B, T) or, with lengths, the chosen ones of it.
            row, column = np.nonzero(np.arange(key.shape[2]) < new[:, None])
            at = starts[row] + column
            self._keys[row, :, at // PANEL, :, at % PANEL] = keys[row, :, column]
            self._values[row, :, at] = values[row, :, column]
        self._lengths = starts + new

    def store(self, start: int, keys: Array, values: Array, which: slice = slice(None)) -> None:
        """What append() checks and rounds: keys and values of some sequences from `start` on, where
        there is room. Lengths stay."""
        stop = start + keys.shape[2]
        for panel in range(start // PANEL, -(-stop // PANEL)):
            first = panel * PANEL
            begin, end = max(start, first), min(stop, first + PANEL)
            self._keys[which, :, panel, :, begin - first : end - first] = keys[
                :, :, begin - start : end - start
            ].swapaxes(2, 3)
        self._values[which, :, start:stop] = values

    def copy(self) -> KeyValueCache:
        """Another cache of the same contents; neither changes with the other."""
        return self.select(np.arange(len(self._lengths)))

    def select(self, sequences: ArrayLike) -> KeyValueCache:
        """Another cache, whose sequence b is this one's sequence ``sequences[b]``: see reorder()
        for what they may be."""
        other = self._alias()
        other.reorder(sequences)
        return other

    def __copy__(self) -> KeyValueCache:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> KeyValueCache:
        return self.copy()

    def __getstate__(self) -> dict[str, Any]:
        """Without the room that is not used."""
        longest = int(self._lengths.max(initial=0))
        keys, values = self._keys[:, :, : -(-longest // PANEL)], self._values[:, :, :longest]
        return {**vars(self), "_keys": keys, "_values": values, "_capacity": self.capacity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        capacity = state.pop("_capacity")
        vars(self).update(state)
        self._move(slice(None), capacity)

    def _alias(self) -> KeyValueCache:
        """Another of the same arrays, which is to move to others."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def truncate(self, length: ArrayLike) -> None:
        """Forget what each sequence has past its first `length` keys.

        Parameters
        ----------
        length : array_like of int, shape () or (B,)
            One for all, or one for each.

        Raises
        ------
        TypeError, ValueError
            `length` is no integer, is negative, or has another shape.
        """
        given = as_array("length", length)
        if not np.issubdtype(given.dtype, np.integer):
            raise TypeError(f"length must be of integers; got {given.dtype}")
        if given.shape not in ((), self._lengths.shape):
            raise ValueError(
                f"length must have the shape () or {self._lengths.shape}; got {given.shape}"
            )
        if (given < 0).any():
            raise ValueError(f"length must not be negative; got {given}")
        self._lengths = np.minimum(self._lengths, given)

    def reorder(self, sequences: ArrayLike) -> None:
        """Sequence b becomes what sequence ``sequences[b]`` was, as a beam search needs it.

        Parameters
        ----------
        sequences : array_like of int, shape (B',)
            From 0 to B - 1, each as often as wanted: B' may differ from B.

        Raises
        ------
        TypeError, ValueError
            `sequences` is no row of integers, or one of them is no sequence's. The cache is as
            before.
        """
        chosen = as_array("sequences", sequences)
        count = len(self._lengths)
        if chosen.ndim != 1 or (chosen.size and not np.issubdtype(chosen.dtype, np.integer)):
            raise TypeError(
                f"sequences must be a row of integers; got {chosen.dtype}, shape {chosen.shape}"
            )
        if chosen.size and (chosen.min() < 0 or chosen.max() >= count):
            raise ValueError(
                f"sequences must be from 0 to {count - 1}; got {chosen.min()} to {chosen.max()}"
            )
        self._move(chosen.astype(np.intp), self.capacity)

    def _move(self, sequences: Any, capacity: int) -> None:
        """Copies what is used of the sequences into new room."""
        longest = int(self._lengths[sequences].max(initial=0))
        panels = -(-longest // PANEL)
        self._lengths = self._lengths[sequences]
        keys, values = self._room(len(self._lengths), capacity)
        keys[:, :, :panels] = self._keys[sequences, :, :panels]
        values[:, :, :longest] = self._values[sequences, :, :longest]
        self._keys, self._values = keys, values

    def with_room(self, capacity: int) -> KeyValueCache:
        """A copy of another capacity, at least that of the longest sequence."""
        other = self._alias()
        other._move(slice(None), capacity)
        return other

    def set_lengths(self, lengths: Array | int) -> None:
        """Of each sequence, or of all: so much has been stored."""
        self._lengths[:] = lengths

    def assign(self, other: KeyValueCache) -> None:
        """Take over what another of the same shape, but for the capacity, holds."""
        longest = int(other._lengths.max(initial=0))
        panels = -(-longest // PANEL)
        self._lengths[:] = other._lengths
        self._keys[:, :, :panels] = other._keys[:, :, :panels]
        self._values[:, :, :longest] = other._values[:, :, :longest]

    def overwrite(self, targets: Array, sources: Array) -> None:
        """The sequences `targets` become what others, the `sources`, are and stay."""
        for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
            self._keys[target] = self._keys[source]
            self._values[target] = self._values[source]
        self._lengths[targets] = self._lengths[sources]

    def keys(self) -> Array:
        """The keys as rows, (B, Hk, longest, D); past a sequence's length they are undefined."""
        return unpacked(self._keys)[:, :, : self._lengths.max(initial=0)]

    def values(self) -> Array:
        """The values, (B, Hk, longest, Dv)."""
        return self._values[:, :, : self._lengths.max(initial=0)].copy()

    def _operands(self, keys: int | None) -> tuple[Array, Array, Array]:
        """Panels, values and lengths for a kernel; of `keys` keys, or of all that there is room
        for, whose shapes stay the same from step to step."""
        if keys is None:
            return self._keys, self._values, self._lengths
        return self._keys[:, :, : -(-keys // PANEL)], self._values[:, :, :keys], self._lengths
