"""What a search asks of logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import contract
from ..backends import native
from ..backends.selection import current

Array = np.ndarray[Any, Any]


def best(logits: Array, count: int) -> tuple[Array, Array, Array]:
    """The likeliest of each row: see contract.best."""
    active = current()
    if active.backend == "native":
        return native.best(active, logits, count)
    return contract.best(logits, count)
