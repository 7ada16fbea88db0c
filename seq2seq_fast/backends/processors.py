"""How many threads a process should use: what its processors, its container and its user allow."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Allowed(NamedTuple):
    """A number of threads, and what decided it."""

    threads: int
    by: str  # "affinity", "cgroup" or "OMP_NUM_THREADS"


def allowed(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Allowed:
    """The least of what the affinity mask, the control group's quota and OMP_NUM_THREADS allow.

    Parameters
    ----------
    root : path
        Where proc and sys are.
    environment : mapping

    Examples
    --------
    >>> allowed(environment={"OMP_NUM_THREADS": "1"}).threads
    1
    """
    if hasattr(os, "sched_getaffinity"):
        found = [Allowed(len(os.sched_getaffinity(0)), "affinity")]
    else:
        found = [Allowed(os.cpu_count() or 1, "affinity")]
    quota = cgroup_quota(root)
    if quota is not None:
        found.append(Allowed(max(1, math.ceil(quota)), "cgroup"))
    asked = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isascii() and asked.isdigit() and 0 < len(asked) < 10 and int(asked) > 0:
        found.append(Allowed(int(asked), "OMP_NUM_THREADS"))
    return min(found, key=lambda one: one.threads)


def cgroup_quota(root: Path) -> float | None:
    """The processors' time that a process may take of each second, by its control group and those
    that hold it; None where there is no limit, or none that can be read.

    References
    ----------
    The Linux kernel's documentation of cgroup-v1 (cpu.cfs_quota_us) and cgroup-v2 (cpu.max).
    """
    quotas = []
    for folder, version in _groups(root):
        try:
            if version == 2:
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = (
                    (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
                )
            if int(quota) > 0 and int(period) > 0:
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):  # there is none: "max", or no such file
            continue
    return min(quotas, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of a process's control group and of those that hold it, and their version."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except (OSError, ValueError):
        return
    for mount in mounts:
        # id parent device root mount-point options [more] - type source super-options
        before, _, after = mount.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        version = {"cgroup": 1, "cgroup2": 2}.get(kind[0])
        if version is None or (version == 1 and "cpu" not in kind[2].split(",")):
            continue
        for membership in memberships:
            _, controllers, path = [*membership.split(":", 2), "", "", ""][:3]
            if (controllers == "") if version == 2 else ("cpu" in controllers.split(",")):
                point = root / fields[4].lstrip("/")
                yield from ((point / one, version) for one in _up_from(path, fields[3]))


def _up_from(path: str, top: str) -> list[PurePosixPath]:
    """A group's place under a mount that shows the groups from `top` on, and all above it."""
    try:
        relative = PurePosixPath(path).relative_to(top)
    except ValueError:  # outside of what is mounted, as in a container: its top is what there is
        relative = PurePosixPath()
    if ".." in relative.parts:
        relative = PurePosixPath()
    return [relative, *relative.parents]
