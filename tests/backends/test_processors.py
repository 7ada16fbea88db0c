"""How many threads there are by default, from made-up trees of /proc and /sys."""

from __future__ import annotations

import os

import pytest

from seq2seq_fast.backends.processors import Allowed, allowed, cgroup_quota

V2 = "30 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 25 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
OTHER = "34 25 0:30 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\nshort\n"


@pytest.fixture
def tree(tmp_path):
    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def v2(group, limits, top="/"):
    return {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": OTHER + V2.format(top=top),
        **{f"sys/fs/cgroup{path}/cpu.max": text for path, text in limits.items()},
    }


def v1(group, limits):
    files = {
        "proc/self/cgroup": f"4:memory:/\n3:cpu,cpuacct:{group}\n0::/elsewhere\n",
        "proc/self/mountinfo": OTHER + V1.format(top="/"),
    }
    for path, (quota, period) in limits.items():
        folder = f"sys/fs/cgroup/cpu,cpuacct{path}"
        files |= {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}
    return files


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        (v2("/", {"": "150000 100000\n"}), 1.5),
        (v2("/a/b", {"/a/b": "max 100000\n", "/a": "50000 100000\n"}), 0.5),  # of those above, too
        (v2("/a/b", {"/a/b": "300000 100000\n", "/a": "400000 100000\n"}), 3.0),
        (v2("/a", {"/a": "max 100000\n"}), None),
        (v2("/docker/x", {"": "200000 100000\n"}, top="/docker/x"), 2.0),
        (v2("/../other", {"": "200000 100000\n"}), 2.0),
        (v2("/docker/x", {"": "200000 100000\n"}, top="/another"), 2.0),  # a container's own
        (v2("/a", {"/a": "nonsense"}), None),
        (v2("/a", {"/a": "-1 0\n"}), None),
        (v1("/x/y", {"/x/y": ("-1\n", "100000\n"), "/x": ("250000\n", "100000\n")}), 2.5),
        (v1("/x", {"/x": ("-1\n", "100000\n")}), None),
        ({"proc/self/cgroup": "0::/\n"}, None),
        ({"proc/self/cgroup": "\0", "proc/self/mountinfo": " - cgroup2\n"}, None),
        ({}, None),
    ],
)
def test_quota(tree, files, quota):
    assert cgroup_quota(tree(files)) == quota


def test_the_least_decides(tree, monkeypatch):
    root = tree(v2("/a", {"/a": "250000 100000\n"}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert allowed(root, {}) == Allowed(3, "cgroup")
    assert allowed(root, {"OMP_NUM_THREADS": "2,4"}) == Allowed(2, "OMP_NUM_THREADS")
    assert allowed(root, {"OMP_NUM_THREADS": "5"}) == Allowed(3, "cgroup")
    for nonsense in ("", "0", "-1", "many", "1.5", "9" * 400, "\u0663"):
        assert allowed(root, {"OMP_NUM_THREADS": nonsense}) == Allowed(3, "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert allowed(root, {"OMP_NUM_THREADS": "1"}) == Allowed(1, "affinity")
