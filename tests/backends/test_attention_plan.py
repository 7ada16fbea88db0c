"""How the kernel cuts a call of attention: a pure function, asked for its plans by instruction set.

Every number of the tables follows from the shapes and from csrc/tuning.h, as the comments say.
"""

from __future__ import annotations

import itertools

import pytest

from seq2seq_fast.backends import native

if native.why_missing:
    pytest.skip(native.why_missing, allow_module_level=True)

UNBOUNDED = 1 << 62
LINE = 64  # bytes of a line of the cache


def problem(
    heads=1, queries=1, keys=1, width=64, *, batch=1, key_heads=None, dtype="float32", **fields
):
    """The C struct of a call's shapes; no strides, on which no plan depends."""
    return native.ffi.new(
        "s2s_attention_problem *",
        {
            "type": native.TYPES[dtype],
            "lead_axes": 1,
            "lead": [batch],
            "heads": heads,
            "key_heads": heads if key_heads is None else key_heads,
            "queries": queries,
            "keys": keys,
            "width": width,
            "value_width": width,
            "left": UNBOUNDED,
            "right": UNBOUNDED,
            **fields,
        },
    )


def fields(**wanted):
    return wanted


def plan_of(problem, isa, threads, weights):
    return native.lib.s2s_plan_attention(problem, native.ISA_NUMBERS[isa], threads, weights)


# Shape, threads, weights -> fields. Some depend on the rows of a set's tile, of which a row block
# has a multiple if there are so many: a tile of one row (generic), 6 (AVX2, NEON), 24 (AVX-512).
TABLE = {
    "a step of a decoder: a task is one row of one head, its keys never packed together": (
        problem(heads=8, queries=1, keys=100), 1, False,
        fields(threads=1, tasks=8, head_tasks=1, task_rows=1, block_rows=1, copies_values=0,
               keeps_panels=0, slots=1, panel_keys=256, key_size=64 * 4),
    ),
    "8 * 100 * (64 + 64) = 102,400 products are worth no second thread: below 131,072": (
        problem(heads=8, queries=1, keys=100), 8, False, fields(threads=1, tasks=8),
    ),
    "twice as many keys are": (
        problem(heads=8, queries=1, keys=200), 8, False, fields(threads=2, tasks=8),
    ),
    "grouped-query heads: four heads' rows share a key head, and so a task": (
        problem(heads=8, key_heads=2, queries=3, keys=50, batch=5), 1, False,
        fields(tasks=10, head_tasks=1, task_rows=12, block_rows=12),
    ),
    "a sentence: fewer rows than copies of values are worth (96)": (
        problem(heads=8, queries=32, keys=32), 1, False,
        fields(tasks=8, task_rows=32, block_rows=32, copies_values=0, keeps_panels=0, slots=1),
    ),
    "128 rows of 1088 bytes of scores, below 200 KB: one row block, which has nothing to keep": (
        problem(heads=8, queries=128, keys=128), 1, False,
        fields(tasks=8, task_rows=128, block_rows=128, copies_values=1, keeps_panels=0, slots=1,
               panel_keys=256),
    ),
    # Panels of 512 keys are 512 * (64 + 64) * 4 = 262,144 bytes, below 2.2 MB. A row's scores are
    # 2 * 272 * 4 = 2176 bytes, of which 200,000 bytes hold 91 rows, or whole tiles of them; the
    # fewest row blocks are 6, 6 and 8, evenly of 86, 86 and 64 rows, or whole tiles of them.
    "an encoder: a head's panels are kept, for row blocks whose scores stay in the cache": (
        problem(heads=8, queries=512, keys=512), 1, False,
        fields(tasks=8, head_tasks=1, task_rows=512, block_rows=(86, 90, 72), copies_values=1,
               keeps_panels=1, slots=2, panel_keys=512 + 16),
    ),
    "weights take the same slots, since every block has one": (
        problem(heads=8, queries=512, keys=512), 1, True,
        fields(block_rows=(86, 90, 72), keeps_panels=1, slots=2),
    ),
    # 8 * 512 rows are 256 to each of 16 tasks, or whole tiles of them.
    "four threads: four tasks to each, so that one that is held up holds up little": (
        problem(heads=8, queries=512, keys=512), 4, False,
        fields(threads=4, tasks=16, head_tasks=2, task_rows=(256, 258, 264), keeps_panels=1),
    ),
    # 2.2 MB hold the panels of 4296 keys; and a row's scores of 20 blocks are 21,760 bytes, of
    # which 1.9 MB hold 87 rows, or 84 or 72 in whole tiles: 1000 rows are 12, 12 and 14 of these
    # tasks, evenly of 84, 84 and 72.
    "5000 keys: too many to keep, so that a task is a row block": (
        problem(queries=1000, keys=5000), 1, False,
        fields(head_tasks=(12, 12, 14), task_rows=(84, 84, 72), block_rows=(84, 84, 72),
               keeps_panels=0, copies_values=0, slots=20, panel_keys=256),
    ),
    # A row's scores are 391 * 1088 = 425,408 bytes: 1.9 MB hold 4 rows, fewer than a tile of the
    # wider sets. A tile's 24 rows of AVX-512 exceed 3.4 MB, and so have slots for 3.4 MB only: then
    # it takes two tiles, since half as many row blocks compute half as many scores twice.
    "a hundred thousand keys: bounded memory": (
        problem(queries=100, keys=100_000), 1, False,
        fields(task_rows=(4, 6, 48), block_rows=(4, 6, 48), head_tasks=(25, 17, 3),
               slots=(391, 391, 3_400_000 // (48 * 1088))),
    ),
    "weights are read from the slots at the end: one each, and fewer rows (3.4 MB hold 7)": (
        problem(queries=4, keys=100_000), 1, True,
        fields(task_rows=4, block_rows=4, slots=391),
    ),
    # Of 528 rows a window spans 128 + 528 keys, three blocks and the part of a fourth.
    "a window of 128 keys of 4096": (
        problem(queries=4096, keys=4096, left=128, right=0), 1, False, fields(slots=4),
    ),
    "weights of a window": (
        problem(queries=4096, keys=4096, left=128, right=0), 1, True, fields(slots=16),
    ),
    "scores of integers: a key is its bytes, a quad at a time, and its factor": (
        problem(heads=8, queries=64, keys=64, width=30, integer_scores=1), 1, False,
        fields(key_size=32 + 4),
    ),
    "half floats are computed in float": (
        problem(heads=8, queries=512, keys=512, dtype="float16"), 1, False,
        fields(block_rows=(86, 90, 72), key_size=64 * 4),
    ),
    "an empty batch has no tasks": (problem(heads=8, queries=3, keys=3, batch=0), 2, False,
                                      fields(tasks=0, scratch_size=0)),
    "no queries have none": (problem(heads=8, queries=0, keys=3), 2, False, fields(tasks=0)),
    "no keys have a block, in which nothing is": (
        problem(heads=8, queries=3, keys=0), 1, False, fields(tasks=8, slots=1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("isa", native.compiled_isas())
@pytest.mark.parametrize("case", TABLE)
def test_plans(case, isa):
    shape, threads, weights, wanted = TABLE[case]
    plan = plan_of(shape, isa, threads, weights)
    column = ("generic", "avx2", "avx512").index(
        {"neon": "avx2", "avx512_vnni": "avx512"}.get(isa, isa)
    )
    for name, want in wanted.items():
        if isinstance(want, tuple):
            want = want[column]
        assert getattr(plan, name) == want, name


SHAPES = [
    fields(heads=heads, key_heads=key_heads, queries=queries, keys=keys, width=width, dtype=dtype)
    for (heads, key_heads), queries, keys, (width, dtype) in itertools.product(
        [(1, 1), (6, 2)],
        [1, 7, 96, 530, 2000],
        [1, 256, 1000, 20_000],
        [(64, "float32"), (300, "float64"), (5, "bfloat16")],
    )
]


@pytest.mark.parametrize("isa", native.compiled_isas())
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("weights", [False, True])
def test_every_plan_is_sound(isa, threads, weights):
    """Each row is in one task; no bound is exceeded; buffers follow each other in their order, on
    lines of the cache, each as large as it must be."""
    for shape in SHAPES:
        plan = plan_of(problem(**shape), isa, threads, weights)
        rows = shape["heads"] // shape["key_heads"] * shape["queries"]
        assert plan.tasks == shape["key_heads"] * plan.head_tasks
        assert plan.head_tasks * plan.task_rows >= rows >= plan.task_rows >= plan.block_rows >= 1
        assert plan.keeps_panels or plan.block_rows == plan.task_rows or weights
        assert plan.block_rows <= 528 and 1 <= plan.threads <= threads
        size = 8 if shape["dtype"] == "float64" else 4
        scores = plan.slots * plan.block_rows * 272 * size
        assert scores <= 3_400_000 or plan.slots == 1 or (weights and plan.block_rows == 1)
        values = plan.panel_keys * -(-shape["width"] // 16) * 16 * size * plan.copies_values
        wanted = [
            plan.block_rows * 272 * -(-shape["width"] // 256) * size,
            scores,
            plan.panel_keys * plan.key_size,
            values,
            256 * 16 * size,
            plan.block_rows * -(-shape["width"] // 16) * 16 * size,
            256 * size,
            0,
        ]
        at = [
            plan.query_at, plan.scores_at, plan.panels_at, plan.copies_at, plan.tail_at,
            plan.context_at, plan.bias_at, plan.integers_at, plan.scratch_size,
        ]  # fmt: skip
        assert at[0] == 0 and all(start % LINE == 0 for start in at)
        assert [b - a for a, b in itertools.pairwise(at)] == [
            -(-room // LINE) * LINE for room in wanted
        ]
