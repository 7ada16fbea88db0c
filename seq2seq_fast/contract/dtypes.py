"""The float types of the package's arrays, and how the half types become float32 and back.

bfloat16 is the type of that name of the package `ml_dtypes`, which is known by its name here and
never imported: its numbers are the upper halves of float32's. Weights and files have them as
uint16, which needs no package: wherever floats are expected, uint16 is bfloat16. The arrays of the
public functions are not: there it is a mistake.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .float_state import under_contract

Array = np.ndarray[Any, Any]

SUPPORTED = "float16, bfloat16, float32 or float64"
BFLOAT16 = np.dtype(np.uint16)
NATIVE = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "V" and dtype.name == "bfloat16"


def bare(array: Array) -> Array:
    """The same array without the type of `ml_dtypes`."""
    return array.view(BFLOAT16) if is_bfloat16(array.dtype) else array


def is_supported(dtype: np.dtype[Any]) -> bool:
    return dtype in NATIVE or is_bfloat16(dtype)


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """What numbers of this type are widened to before they are computed with."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def as_array(name: str, given: ArrayLike) -> Array:
    """An argument as an array.

    Raises
    ------
    TypeError, ValueError
        It is none; the message names it, and says how a PyTorch tensor becomes one.
    """
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} is no array: {error}{_remedy(given)}") from None
    except RuntimeError as error:
        raise TypeError(f"{name} is no array: {error}{_remedy(given)}") from None


def _remedy(given: object) -> str:
    if type(given).__module__.partition(".")[0] != "torch":
        return ""
    return (
        ". Pass a PyTorch tensor as tensor.detach().cpu().numpy(), one of bfloat16 as"
        " tensor.detach().cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)"
    )


def wide(array: Array) -> Array:
    """The same numbers in the compute type, exactly."""
    bits = bare(array)
    if bits.dtype == BFLOAT16:
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def narrow(array: Array, dtype: np.dtype[Any]) -> Array:
    """Rounded to the nearest of `dtype`, ties to even; NaN becomes the canonical one."""
    if not is_bfloat16(dtype) and dtype != BFLOAT16:
        return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    halves = np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)
    return halves.view(dtype)


@under_contract
def rounded(array: Array, dtype: np.dtype[Any]) -> Array:
    """The same numbers in `dtype`, float32 or float64; an axis that broadcasts has length 1."""
    once = array[(..., *(slice(1) if step == 0 else slice(None) for step in array.strides))]
    return wide(once).astype(dtype, copy=False)
