/* Tuning constants: every number that was found by measuring. None of them changes a bit of a result.
 * csrc/README.md has what was tried against them, and by how much it lost.
 *
 * They were measured on AMD EPYC (Zen 4: 32 KB of L1, 1 MB of L2 and 32 MB of L3 cache) by GCC 12,
 * AVX2 and plain C on the same processor; what is of eight-bit integers on an Intel Xeon with VNNI,
 * too. NEON has AVX2's numbers, since it ran under emulation only. */
#ifndef S2S_TUNING_H
#define S2S_TUNING_H

/* ---- the drivers, on every set ---- */

enum {
    /* multiply-adds that are done before another thread wakes up, which takes tens of us */
    SMALL_WORK = 131072,
    /* tasks to a thread: one that is held up holds up only one of them */
    TASKS_PER_THREAD = 4,
};

enum { /* attention.c */
    ATTENTION_MAX_ROWS = 528,        /* of a row block: more would not make packing any cheaper */
    ATTENTION_SCORES = 1900000,      /* bytes of scores of a row block to aim for */
    ATTENTION_KEPT_SCORES = 200000,  /* likewise where panels are kept: beside these in the L2 */
    ATTENTION_MAX_SCORES = 3400000,  /* bytes of scores never exceeded but by one row's weights */
    ATTENTION_KEPT_PANELS = 2200000, /* bytes of keys' and values' panels that are kept */
    ATTENTION_KEPT_BLOCKS = 64,      /* blocks that they are of: bits of a set */
    ATTENTION_COPY_ROWS = 96,        /* of a task: from there on copying values pays, and keeping */
    ATTENTION_FEW_KEYS = 64,         /* keys that a task of few rows packs at a time */
    /* prefetch distances, in rows, and for a cache's newest keys in heads */
    ATTENTION_KEYS_AHEAD = 192,
    ATTENTION_VALUES_AHEAD = 384,
    ATTENTION_COPIED_AHEAD = 64,
    ATTENTION_HEADS_AHEAD = 2,
};

enum { /* layers.c */
    LINEAR_MAX_ROWS = 96,      /* of a task: enough to read the weights seldom */
    LINEAR_INPUTS = 600000,    /* bytes of a task's inputs to aim for */
    LINEAR_NEAR_INPUTS = 512,  /* up to so many, the next panels are near enough to prefetch */
    LINEAR_ROW_PANELS = 8,     /* that one row takes at a time: tasks have whole groups of them */
    LINEAR_WIDEN_ROWS = 48,    /* of a task: from there on widening weights beforehand pays */
    NORM_ROWS = 16,            /* to a task */
};

enum { /* row_blocks.c */
    ROW_BLOCK_WEIGHTS = 8 << 20, /* bytes of all weights that cost little to read again */
    ROW_BLOCK_ROWS = 24,         /* of a task then: what they become stays in the cache */
    ROW_BLOCK_PANELS = 4,        /* that they take at a time: their sums stay in the L1 */
};

/* ---- the kernels, by set ---- */

#if defined(S2S_ISA_AVX512)
#define BY_SET(generic, avx2, avx512, neon) avx512
#elif defined(S2S_ISA_AVX2)
#define BY_SET(generic, avx2, avx512, neon) avx2
#elif defined(S2S_ISA_NEON)
#define BY_SET(generic, avx2, avx512, neon) neon
#elif defined(S2S_ISA_GENERIC)
#define BY_SET(generic, avx2, avx512, neon) generic
#endif

#ifdef BY_SET
enum { /*                generic  avx2  avx512  neon */
    /* rows of a tile: as many as have their sums in registers, with room for the panel's line. In
     * plain C one, which compilers vectorise: two rows measured a third of its speed */
    f32_ROWS       = BY_SET(1,    6,    24,     6),
    f64_ROWS       = BY_SET(1,    2,    12,     2),
    /* up to so many rows take four panels at once, to have enough sums under way */
    f32_FEW_ROWS   = BY_SET(1,    1,    4,      1),
    f64_FEW_ROWS   = BY_SET(1,    1,    2,      1),
    /* and one row so many */
    f32_MAX_COLS   = BY_SET(4,    4,    8,      4),
    f64_MAX_COLS   = BY_SET(4,    4,    4,      4),
    /* vectors of sixteen lanes that go through exp abreast: a chain of thirty operations each */
    f32_GROUP_VECS = BY_SET(1,    1,    4,      1),
    f64_GROUP_VECS = BY_SET(1,    1,    2,      1),
    /* rows of a tile of integers; panels that one row takes at once; and rows that take panels in
     * pairs, 0 for none: where a product is as fast as a load, two panels share what is loaded */
    I8_ROWS        = BY_SET(1,    2,    24,     1),
    I8_COLS        = BY_SET(1,    1,    8,      1),
    I8_PAIR_ROWS   = BY_SET(0,    0,    12,     0),
};

/* From so many rows on a tile prefetches its panel into the L1, so many lines ahead: a step has time
 * for one more instruction, and their rows of `a` leave little room in that cache. */
enum { PREFETCH_ROWS = 12, LINES_AHEAD = 24 };
#endif

#endif
