/* The frame of fused attention: cuts a call into units of a few query rows, and walks one unit
 * through pack, scores, softmax, context. No intrinsics and no arithmetic here, but for addresses:
 * numbers are touched by the kernels of one instruction set (kernels.h).
 *
 * One unit is query rows that share a key head (with grouped-query heads, rows of several heads),
 * up to `rows` of them in a pass. A pass walks its keys in blocks of 256, twice: for the greatest
 * scores, then for weights and context. Pairs that are hidden by their position (causal, window,
 * lengths) are skipped, as far as whole tiles of them go. Its scratch memory holds, in this order:
 *
 *   query    [blocks of width][rows][S2S_LDA]   the rows, cut into blocks of 256 features
 *            or [rows][width]                   quantised, where scores are of integers
 *   scores   [slots][rows][S2S_LDA]             dot products, then weights, of one block a slot
 *   panels   [16][width][16]                    a block's keys, transposed
 *   copies   [value panels][256][16]            a block's values, in panels of sixteen features
 *   tail     [256][16]                          the last, partial panel of the values, padded
 *   context  [rows][value panels * 16]          ordered sums so far
 *   bias     [256]                              a row's, widened
 *   integers [tile_rows][S2S_LDA]               a block's dot products, where they are integers
 *
 * Where they are small enough, panels and copies hold all blocks, and are kept for all passes of a
 * unit: so a pass may be of few rows, whose scores stay in the cache. Else there is room for one
 * block, and a unit is one pass.
 *
 * Where there are more blocks than slots (very long rows), those left over share the last slot, and
 * their scores are computed again in the second walk: memory stays bounded, and the bits the same.
 */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "pool.h"

enum {
    MOST_ROWS = 528,        /* of a pass: more would not make packing any cheaper */
    CACHED_SCORES = 1900000, /* bytes of scores to aim for */
    PASS_SCORES = 200000,   /* the like, where panels are kept */
    KEPT_PANELS = 2200000,  /* bytes of them, keys' and values', that are kept */
    KEPT_BLOCKS = 64,       /* blocks that they are of: bits of a set */
    MOST_SCORES = 3400000,  /* bytes of scores that are never exceeded, but by one row's weights */
    SMALL_WORK = 131072,    /* multiply-adds that are done before another thread wakes up */
    ROWS_AHEAD = 192,       /* how early keys are asked for from memory; values twice as early */
    COPY_ROWS = 96,         /* of a unit: from there on copying values, keeping panels pays */
    COPY_AHEAD = 64,        /* how early values to copy are asked for */
    FEW_KEYS = 64,          /* keys that a unit of few rows packs at a time */
    HEADS_AHEAD = 2,        /* how early the newest keys of a cache are asked for */
};

typedef struct {
    const s2s_attention_problem *p;
    const s2s_kernels *in;      /* of the keys and values */
    const s2s_kernels *out;     /* of the query and results */
    const s2s_kernels *bias_in; /* of the bias */
    const s2s_kernels *compute; /* of what is in scratch memory, and the sinks */
    const s2s_integer_kernels *integer; /* of scores; NULL unless they are of integers */
    double scale, softcap;
    const char *query, *key, *value, *mask, *bias, *sinks;
    const s2s_span *spans;
    char *result, *weights, *statistics;
    int rows;                  /* of a pass */
    int copies;                /* whether values are copied into panels */
    int kept;                  /* whether all panels are kept for all passes of a unit */
    int64_t unit_rows, tiles;  /* rows of a unit; units of a key head */
    int64_t slots;             /* blocks of scores held */
    int64_t panel_keys;        /* keys that panels have room for */
    ptrdiff_t key_size;        /* bytes that one of them takes there */
    size_t query_at, scores_at, panels_at, copies_at, tail_at, context_at, bias_at; /* scratch, */
    size_t integers_at, size;                                                       /* bytes */
} job;

/* One unit at work. Keys count from the sequence's first one; [from, to) are visible. */
typedef struct {
    const job *jb;
    s2s_span span;
    int64_t lead[S2S_MAX_LEAD], key_head;
    const char *q, *k, *v, *mask, *bias;              /* at this unit's index of the leading axes */
    char *out, *weights, *statistics;
    char *query, *scores, *panels, *copies, *tail, *context, *bias_row; /* scratch */
    int32_t *integers;
    uint64_t packed_blocks, copied_blocks;            /* sets: what kept panels hold already */

    int rows;                                         /* from here on: of the pass */
    int64_t block;                                    /* where the first block begins */
    int64_t end;                                      /* past the last visible key of all rows */
    int64_t head[MOST_ROWS], row[MOST_ROWS];          /* where a row is in the operands */
    int64_t from[MOST_ROWS], to[MOST_ROWS];
    int alike;                                        /* all rows see the same keys, masks apart */
    double greatest[MOST_ROWS], sums[MOST_ROWS];
    float scales[MOST_ROWS];                          /* of a quantised row, */
    int32_t row_sums[MOST_ROWS];                      /* and its integers' sum */
} unit;

static int64_t blocks(int64_t n)
{
    return max64(1, parts(n, S2S_BLOCK));
}

static int64_t round_up(int64_t n, int64_t step)
{
    return parts(n, step) * step;
}

/* Byte offset of row 0 of one (lead..., head 0) of an operand. */
static ptrdiff_t offset_of(const s2s_attention_problem *p, const s2s_strides *strides,
                           const int64_t *lead)
{
    ptrdiff_t offset = 0;
    for (int axis = 0; axis < p->lead_axes; axis++)
        offset += lead[axis] * strides->lead[axis];
    return offset;
}

/* The visible keys of rows [first, first + count) within [start, stop): the range that holds them
 * all, empty (from >= to) if there are none. */
typedef struct {
    int64_t from, to;
} range;

static range visible(const unit *u, int first, int count, int64_t start, int64_t stop)
{
    range all = {stop, start};
    const int last = u->alike ? first + 1 : first + count;
    for (int r = first; r < last; r++) {
        const int64_t from = max64(u->from[r], start), to = min64(u->to[r], stop);
        if (from < to) {
            all.from = min64(all.from, from);
            all.to = max64(all.to, to);
        }
    }
    return all;
}

/* Where the scores of one row's block are. */
static char *scores_of(const unit *u, int64_t block, int row)
{
    const job *jb = u->jb;
    const int64_t slot = min64((block - u->block) / S2S_BLOCK, jb->slots - 1);
    return u->scores + (slot * jb->rows + row) * S2S_LDA * (ptrdiff_t)jb->compute->element_size;
}

/* Where a row's features from `c` on are, c a multiple of 256. */
static char *query_of(const unit *u, int64_t c, int row)
{
    const job *jb = u->jb;
    return u->query
           + (c / S2S_BLOCK * jb->rows + row) * S2S_LDA * (ptrdiff_t)jb->compute->element_size;
}

/* Where a quantised row is. */
static void *integers_of_row(const unit *u, int row)
{
    const job *jb = u->jb;
    return u->query + row * parts(jb->p->width, 4) * 4 * (ptrdiff_t)jb->integer->input_size;
}

/* Where the copy of the values has the first panel's line of a key. */
static char *copy_of(const unit *u, int64_t key)
{
    const job *const jb = u->jb;
    const ptrdiff_t size = (ptrdiff_t)jb->compute->element_size;
    const int64_t block = jb->kept ? key / S2S_BLOCK * S2S_BLOCK : 0;
    return u->copies
           + (block * round_up(jb->p->value_width, S2S_LANES) + key % S2S_BLOCK * S2S_LANES) * size;
}

/* Whether a set of blocks has one already; from now on it has. */
static int is_in(uint64_t *set, int64_t block)
{
    const uint64_t one = (uint64_t)1 << block / S2S_BLOCK;
    const int was = (*set & one) != 0;
    *set |= one;
    return was;
}

/* Asks for a row that is needed soon, `ahead` bytes from p. */
static void ask_for_row(const char *p, ptrdiff_t ahead, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += CACHE_LINE)
        prefetch_l2(p, ahead + i);
}

/* Whether the block's scores lie in a slot of their own. */
static int is_kept(const unit *u, int64_t block)
{
    const int64_t slots = u->jb->slots;
    return (block - u->block) / S2S_BLOCK < slots - 1 || u->end - u->block <= slots * S2S_BLOCK;
}

/* The visible keys of each of the rows, within the block. */
static void clip(const unit *u, int64_t block, int first, int count, int *from, int *to)
{
    for (int r = 0; r < count; r++) {
        const int64_t start = max64(u->from[first + r], block);
        const int64_t stop = min64(u->to[first + r], block + S2S_BLOCK);
        from[r] = start < stop ? (int)(start - block) : 0;
        to[r] = start < stop ? (int)(stop - block) : 0;
    }
}

/* Dot products of a few rows with the keys [from, to) of the block, transposed on the way. Returns
 * where it stopped: a last few keys are left over. */
static int64_t few_dots(unit *u, int64_t block, int first, int count, int64_t from, int64_t to)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const ptrdiff_t element = (ptrdiff_t)jb->in->element_size;
    int64_t j = from;
    for (; j + 2 * S2S_LANES <= to; j += 2 * S2S_LANES) {
        char *const scores = scores_of(u, block, first);
        for (int64_t c = 0; c == 0 || c < p->width; c += S2S_BLOCK)
            jb->in->small_dot(count, query_of(u, c, first), u->k + j * p->key.row + c * element,
                         p->key.row / element, (int)min64(S2S_BLOCK, p->width - c), ROWS_AHEAD,
                         scores + (j - block) * (ptrdiff_t)jb->compute->element_size, S2S_LDA,
                         c > 0, c + S2S_BLOCK >= p->width ? jb->scale : 1);
    }
    return j;
}

/* The keys [from, to) of a block, from a multiple of 16, in panels: transposed, unless they lie so
 * already. */
static const char *panels_of(unit *u, int64_t from, int64_t to)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    if (to <= u->span.packed)
        return u->k + from / S2S_LANES * p->key.row;
    const ptrdiff_t size = jb->key_size;
    const int64_t first = jb->kept ? 0 : from; /* key in the room for panels */
    char *const panels = u->panels + (from - first) * size;
    if (jb->kept) { /* the whole block: other rows may see more of it */
        const int64_t block = from / S2S_BLOCK * S2S_BLOCK;
        if (is_in(&u->packed_blocks, block))
            return panels;
        from = max64(block, u->span.packed);
        to = min64(block + S2S_BLOCK, u->span.keys);
    }
    for (int64_t j = from; j < to; j += S2S_LANES) {
        const int count = (int)min64(S2S_LANES, to - j);
        char *const panel = u->panels + (j - first) * size;
        if (jb->integer)
            jb->integer->pack_keys((const float *)(u->k + j * p->key.row),
                              p->key.row / (ptrdiff_t)sizeof(float), count, p->width, ROWS_AHEAD,
                              (uint8_t *)panel);
        else if (p->packed) {
            /* Rows in the room of a panel: of sixteen copied ones the last may be anything. Those
             * of another head are a jump away, which no processor foresees: they are asked for. */
            char *const rows = u->panels + (jb->panel_keys - S2S_LANES) * size;
            const char *const at = u->k + j / S2S_LANES * p->key.row;
            const int64_t bytes = count * p->width * (int64_t)jb->in->element_size;
            ask_for_row(at, HEADS_AHEAD * p->key.head, bytes);
            jb->in->widen(at, count * p->width, rows);
            jb->compute->pack_keys(rows, p->width, S2S_LANES, p->width, 0, panel);
        } else
            jb->in->pack_keys(u->k + j * p->key.row, p->key.row / (ptrdiff_t)jb->in->element_size,
                         count, p->width, ROWS_AHEAD, panel);
    }
    return panels;
}

/* The mask and the bias of one row, where there are any. */
static void mask_row(unit *u, int64_t block, int r, int from, int to)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const char *bias = NULL, *mask = NULL;
    if (u->mask)
        mask = u->mask + u->head[r] * p->mask.head + u->row[r] * p->mask.row
               + block * p->mask.column;
    if (u->bias) {
        bias = u->bias + u->head[r] * p->bias.head + u->row[r] * p->bias.row
               + block * p->bias.column;
        if (jb->bias_in != jb->compute) {
            const ptrdiff_t start = p->bias.column ? from : 0;
            jb->bias_in->widen(bias + start * p->bias.column, p->bias.column ? to - from : 1,
                           u->bias_row + start * (ptrdiff_t)jb->compute->element_size);
            bias = u->bias_row;
        }
    }
    jb->compute->mask(scores_of(u, block, r), from, to, bias, p->bias.column != 0,
                      (const uint8_t *)mask, p->mask.column != 0);
}

/* The block's dot products of the rows [first, first + count) with the keys that they see, all of
 * which are in [seen.from, seen.to). */
static void dot_products(unit *u, int64_t block, int first, int count, range seen)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    int64_t start = seen.from / S2S_LANES * S2S_LANES;
    if (!p->packed && !jb->kept && count <= S2S_DOT_ROWS)
        start = few_dots(u, block, first, count, start, seen.to);
    const int chunk = jb->compute->tile_rows;
    const ptrdiff_t panel = (ptrdiff_t)p->width * S2S_LANES;
    /* Few rows: packing waits for memory, the tile does not, so that they should take turns. */
    const int64_t step = jb->copies ? S2S_BLOCK : FEW_KEYS;
    for (int64_t stop, j = start; j < seen.to; j = stop) {
        const int in_panels = j < u->span.packed;
        stop = min64(j + step, in_panels ? min64(seen.to, u->span.packed) : seen.to);
        const char *const panels = panels_of(u, j, stop);
        const s2s_kernels *const kernels = in_panels ? jb->in : jb->compute; /* of the panels */
        const ptrdiff_t element = (ptrdiff_t)kernels->element_size;
        for (int r = first; r < first + count; r += chunk) {
            const int n = (int)min64(chunk, first + count - r);
            const range part = visible(u, r, n, j, stop);
            if (part.from >= part.to)
                continue;
            const int64_t at = part.from / S2S_LANES * S2S_LANES;
            const int cols = (int)((part.to - at + S2S_LANES - 1) / S2S_LANES);
            char *const to = scores_of(u, block, r)
                             + (at - block) * (ptrdiff_t)jb->compute->element_size;
            for (int64_t c = 0; c == 0 || c < p->width; c += S2S_BLOCK)
                kernels->tile(n, cols, query_of(u, c, r),
                              panels + ((at - j) / S2S_LANES * panel + c * S2S_LANES) * element,
                              S2S_LANES, panel, in_panels ? FEW_KEYS / S2S_LANES * panel : 0,
                              (int)min64(S2S_BLOCK, p->width - c), to, S2S_LDA, c > 0,
                              c + S2S_BLOCK >= p->width ? jb->scale : 1);
        }
    }
}

/* The like from eight-bit integers. */
static void integer_products(unit *u, int64_t block, int first, int count, range seen)
{
    const job *const jb = u->jb;
    const int64_t quads = parts(jb->p->width, 4), start = seen.from / S2S_LANES * S2S_LANES;
    const ptrdiff_t panel = S2S_LANES * jb->key_size;
    const char *const panels = panels_of(u, start, seen.to);
    const int chunk = jb->compute->tile_rows;
    for (int r = first; r < first + count; r += chunk) {
        const int n = (int)min64(chunk, first + count - r);
        const range part = visible(u, r, n, start, seen.to);
        if (part.from >= part.to)
            continue;
        const int64_t at = part.from / S2S_LANES * S2S_LANES;
        const int cols = (int)parts(part.to - at, S2S_LANES);
        const uint8_t *const from = (const uint8_t *)panels + (at - start) * jb->key_size;
        jb->integer->tile(n, cols, integers_of_row(u, r), quads * 4, from, panel, 0, quads,
                          u->integers);
        jb->integer->score(n, cols, u->integers, u->scales + r, u->row_sums + r, jb->scale,
                           from + quads * 4 * S2S_LANES, panel,
                           (float *)scores_of(u, block, r) + (at - block));
    }
}

/* Final scores of one block for the rows [first, first + count), their greatest kept. */
static void score(unit *u, int64_t block, int first, int count)
{
    const job *const jb = u->jb;
    const range seen = visible(u, first, count, block, block + S2S_BLOCK);
    if (seen.from >= seen.to)
        return;
    if (jb->integer)
        integer_products(u, block, first, count, seen);
    else
        dot_products(u, block, first, count, seen);
    int from[MOST_ROWS], to[MOST_ROWS];
    clip(u, block, first, count, from, to);
    for (int r = 0; r < count && (jb->softcap != 0 || u->mask || u->bias); r++) {
        if (from[r] < to[r] && jb->softcap != 0)
            jb->compute->softcap(scores_of(u, block, first + r), from[r], to[r], jb->softcap);
        if (from[r] < to[r] && (u->mask || u->bias))
            mask_row(u, block, first + r, from[r], to[r]);
    }
    jb->compute->row_max(count, scores_of(u, block, first), from, to, u->greatest + first);
}

/* The block's values [seen.from, seen.to) in panels, where so many rows use them that copying pays:
 * a tile reads sixteen features of one value after another, which may be far apart, and narrow. */
static void copy_values(unit *u, int64_t block, range seen)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    if (seen.from >= seen.to || (jb->kept && is_in(&u->copied_blocks, block)))
        return;
    if (jb->kept)
        seen = (range){block, min64(block + S2S_BLOCK, u->span.keys)};
    jb->in->pack_values(u->v + seen.from * p->value.row, p->value.row / (ptrdiff_t)jb->in->element_size,
                  (int)(seen.to - seen.from), p->value_width, COPY_AHEAD, copy_of(u, seen.from));
}

/* context (+)= the chunk's weights of one block x the values [seen.from, seen.to): from the copy,
 * or whole panels of values as they lie, and a last partial one padded. */
static void add_context(unit *u, int64_t block, int first, int count, range seen, int add)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const ptrdiff_t size = (ptrdiff_t)jb->compute->element_size;
    const ptrdiff_t element = (ptrdiff_t)jb->in->element_size, row = p->value.row / element;
    const int64_t whole = p->value_width / S2S_LANES, left = p->value_width % S2S_LANES;
    const ptrdiff_t stride = (ptrdiff_t)round_up(p->value_width, S2S_LANES);
    char *const context = u->context + first * stride * size;
    const char *const weights = scores_of(u, block, first) + (seen.from - block) * size;
    const char *const values = u->v + seen.from * p->value.row;
    const int depth = (int)(seen.to - seen.from);
    if (jb->copies) {
        jb->compute->tile(count, (int)(stride / S2S_LANES), weights,
                          copy_of(u, seen.from), S2S_LANES, S2S_BLOCK * S2S_LANES, 0, depth,
                          context, stride, add, 1);
        return;
    }
    jb->in->tile(count, (int)whole, weights, values, row, S2S_LANES, 2 * ROWS_AHEAD * row, depth,
                 context, stride, add, 1);
    if (left) {
        jb->in->pack_values(values + whole * S2S_LANES * element, row, depth, left, 0, u->tail);
        jb->compute->tile(count, 1, weights, u->tail, S2S_LANES, 0, 0, depth,
                          context + whole * S2S_LANES * size, stride, add, 1);
    }
}

/* One block's weights, their sums, and what they add to the context. started[c] says whether chunk
 * c of the rows has a context yet. */
static void weigh(unit *u, int64_t block, int *started)
{
    const job *const jb = u->jb;
    const int chunk = jb->compute->tile_rows;
    int from[MOST_ROWS], to[MOST_ROWS];
    clip(u, block, 0, u->rows, from, to);
    if (jb->copies)
        copy_values(u, block, visible(u, 0, u->rows, block, block + S2S_BLOCK));
    for (int r = 0; r < u->rows; r += chunk) {
        const int n = (int)min64(chunk, u->rows - r);
        const range seen = visible(u, r, n, block, block + S2S_BLOCK);
        if (seen.from >= seen.to)
            continue;
        jb->compute->exp_and_sum(n, scores_of(u, block, r), from + r, to + r,
                           (int)(seen.from - block) / S2S_LANES * S2S_LANES,
                           (int)round_up(seen.to - block, S2S_LANES), u->greatest + r, u->sums + r);
        add_context(u, block, r, n, seen, started[r / chunk]);
        started[r / chunk] = 1;
    }
}

/* The context of one row once more, without touching the values of hidden keys. */
static void context_visible(unit *u, int r)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const ptrdiff_t size = (ptrdiff_t)jb->compute->element_size;
    char *const context = u->context + r * (ptrdiff_t)round_up(p->value_width, S2S_LANES) * size;
    char *const weights = u->tail; /* [256], free by now */
    memset(context, 0, (size_t)(p->value_width * size));
    for (int64_t block = u->block; block < u->end; block += S2S_BLOCK) {
        double greatest = u->greatest[r], sum = 0;
        int from, to;
        clip(u, block, r, 1, &from, &to);
        if (from >= to)
            continue;
        score(u, block, r, 1);
        char *const scores = scores_of(u, block, r);
        memcpy(weights, scores, (size_t)(S2S_BLOCK * size));
        jb->compute->exp_and_sum(1, weights, &from, &to, from / S2S_LANES * S2S_LANES,
                           (int)round_up(to, S2S_LANES), &greatest, &sum);
        jb->in->context_visible(scores + from * size, weights + from * size, to - from,
                                u->v + (block + from) * p->value.row,
                                p->value.row / (ptrdiff_t)jb->in->element_size, p->value_width,
                                context);
    }
}

/* One number of the compute type as a double, exactly. */
static double number(const job *jb, const char *at)
{
    return jb->compute->compute_type == S2S_FLOAT64 ? *(const double *)at
                                                    : (double)*(const float *)at;
}

/* What row r gives: its context, and if asked its weights and statistics. */
static void store(unit *u, int r, int sees_none)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const ptrdiff_t size = (ptrdiff_t)jb->compute->element_size;
    const ptrdiff_t element = (ptrdiff_t)jb->out->element_size;
    char *const context = u->context + r * (ptrdiff_t)round_up(p->value_width, S2S_LANES) * size;
    char *const out = u->out + u->head[r] * p->out.head + u->row[r] * p->out.row;
    if (u->weights) {
        char *const weights =
            u->weights + u->head[r] * p->weights.head + u->row[r] * p->weights.row;
        memset(weights, 0, (size_t)(p->keys * element));
        if (u->sums[r] != u->sums[r]) { /* 0 / NaN is what hidden keys weigh, too */
            memset(u->bias_row, 0, (size_t)(S2S_BLOCK * size));
            for (int64_t j = 0; j < p->keys; j += S2S_BLOCK)
                jb->out->normalize(u->bias_row, u->sums[r], min64(S2S_BLOCK, p->keys - j),
                                weights + j * element);
        }
        for (int64_t block = u->block; block < u->end && !sees_none; block += S2S_BLOCK) {
            int from, to;
            clip(u, block, r, 1, &from, &to);
            jb->out->normalize(scores_of(u, block, r) + from * size, u->sums[r], to - from,
                            weights + (block + from) * element);
        }
    }
    if (u->statistics) {
        double *const at = (double *)(u->statistics + u->head[r] * p->statistics.head
                                      + u->row[r] * p->statistics.row);
        at[0] = sees_none ? -INFINITY : u->greatest[r];
        at[1] = sees_none ? 0 : u->sums[r];
    }
    if (sees_none)
        memset(out, 0, (size_t)(p->value_width * element));
    else if (jb->out->normalize(context, u->sums[r], p->value_width, out)
             && u->sums[r] == u->sums[r]) {
        /* A hidden key's value may have been NaN or infinite, and 0 * that is NaN. */
        context_visible(u, r);
        jb->out->normalize(context, u->sums[r], p->value_width, out);
    }
}

/* The rows [first, last) of the unit's key head. */
static void pass(unit *u, int64_t first, int64_t last)
{
    const job *const jb = u->jb;
    const s2s_attention_problem *const p = jb->p;
    const int64_t queries = u->span.queries;

    /* 1. Where the rows are, and which keys they see. */
    u->rows = (int)min64(jb->rows, last - first);
    u->block = u->span.keys;
    u->end = 0;
    u->alike = 1;
    int64_t head = u->key_head * (p->heads / p->key_heads) + first / queries;
    int64_t row = first % queries;
    for (int r = 0; r < u->rows; r++, row++) {
        if (row == queries) {
            head++;
            row = 0;
        }
        u->head[r] = head;
        u->row[r] = row;
        const int64_t position = u->row[r] + u->span.offset;
        u->from[r] = max64(0, position - p->left);
        u->to[r] = min64(u->span.keys, position + p->right + 1);
        u->alike &= u->from[r] == u->from[0] && u->to[r] == u->to[0];
        if (u->from[r] < u->to[r]) {
            u->block = min64(u->block, u->from[r] / S2S_BLOCK * S2S_BLOCK);
            u->end = max64(u->end, u->to[r]);
        }
        u->greatest[r] = -INFINITY;
        u->sums[r] = 0;
    }

    /* 2. The query rows, in blocks. Where their results go, and the next pass's rows, which lie
     * about a pass further on, are asked for. */
    const ptrdiff_t element = (ptrdiff_t)jb->out->element_size;
    for (int r = 0; r < u->rows; r++) {
        const char *const from = u->q + u->head[r] * p->query.head + u->row[r] * p->query.row;
        if (jb->integer)
            u->scales[r] = jb->integer->quantise(p->width, (const float *)from, S2S_BLOCK, 0,
                                                 integers_of_row(u, r), u->row_sums + r);
        for (int64_t c = 0; !jb->integer && c < p->width; c += S2S_BLOCK)
            jb->out->widen(from + c * element, min64(S2S_BLOCK, p->width - c), query_of(u, c, r));
        if (jb->kept) {
            ask_for_row(u->out, u->head[r] * p->out.head + u->row[r] * p->out.row,
                        p->value_width * element);
            ask_for_row(from, jb->rows * p->query.row, p->width * element);
        }
    }

    /* 3. The greatest score of each row, its sink among them. */
    for (int64_t block = u->block; block < u->end; block += S2S_BLOCK)
        score(u, block, 0, u->rows);
    int blind[MOST_ROWS];
    double sinks[MOST_ROWS];
    for (int r = 0; r < u->rows; r++) {
        blind[r] = u->greatest[r] == -INFINITY;
        if (jb->sinks) {
            sinks[r] = number(jb, jb->sinks + offset_of(p, &p->sinks, u->lead)
                                      + u->head[r] * p->sinks.head);
            if (sinks[r] > u->greatest[r])
                u->greatest[r] = sinks[r];
        }
    }

    /* 4. Weights, their sums, and the context. */
    int started[MOST_ROWS] = {0};
    for (int64_t block = u->block; block < u->end; block += S2S_BLOCK) {
        if (!is_kept(u, block))
            score(u, block, 0, u->rows);
        weigh(u, block, started);
    }

    /* 5. Results. */
    for (int r = 0; r < u->rows; r++) {
        const int sees_none = blind[r] && u->sums[r] == 0; /* NaN scores show in the sum */
        if (jb->sinks && !sees_none)
            u->sums[r] = jb->compute->add_sink(u->sums[r], sinks[r], u->greatest[r]);
        store(u, r, sees_none);
    }
}

/* A unit: rows of one sequence (an index of the leading axes) and one key head. */
static void attend(void *job_, int64_t number_of_unit, void *scratch)
{
    const job *const jb = job_;
    const s2s_attention_problem *const p = jb->p;
    const int64_t index = number_of_unit / jb->tiles / p->key_heads;
    unit state, *const u = &state;

    u->jb = jb;
    u->span = (s2s_span){.queries = p->queries, .keys = p->keys, .offset = p->offset,
                         .packed = p->keys};
    if (jb->spans)
        u->span = jb->spans[index];
    if (!p->packed)
        u->span.packed = 0;
    const int64_t rows = p->heads / p->key_heads * u->span.queries;
    const int64_t begin = number_of_unit % jb->tiles * jb->unit_rows;
    const int64_t end = min64(begin + jb->unit_rows, rows);

    int64_t rest = index;
    for (int axis = p->lead_axes - 1; axis >= 0; axis--) {
        u->lead[axis] = rest % p->lead[axis];
        rest /= p->lead[axis];
    }
    u->key_head = number_of_unit / jb->tiles % p->key_heads;
    u->q = jb->query + offset_of(p, &p->query, u->lead) + u->span.query_start * p->query.row;
    u->k = jb->key + offset_of(p, &p->key, u->lead) + u->key_head * p->key.head
           + u->span.key_start * p->key.row;
    u->v = jb->value + offset_of(p, &p->value, u->lead) + u->key_head * p->value.head
           + u->span.key_start * p->value.row;
    u->mask = jb->mask ? jb->mask + offset_of(p, &p->mask, u->lead) : NULL;
    u->bias = jb->bias ? jb->bias + offset_of(p, &p->bias, u->lead) : NULL;
    u->out = jb->result + offset_of(p, &p->out, u->lead) + u->span.query_start * p->out.row;
    u->weights = jb->weights ? jb->weights + offset_of(p, &p->weights, u->lead) : NULL;
    u->statistics = jb->statistics ? jb->statistics + offset_of(p, &p->statistics, u->lead)
                                         + u->span.query_start * p->statistics.row
                                   : NULL;
    u->query = (char *)scratch + jb->query_at;
    u->scores = (char *)scratch + jb->scores_at;
    u->panels = (char *)scratch + jb->panels_at;
    u->copies = (char *)scratch + jb->copies_at;
    u->tail = (char *)scratch + jb->tail_at;
    u->context = (char *)scratch + jb->context_at;
    u->bias_row = (char *)scratch + jb->bias_at;
    u->integers = (int32_t *)((char *)scratch + jb->integers_at);
    u->packed_blocks = u->copied_blocks = 0;
    for (int64_t first = begin; first < end; first += jb->rows)
        pass(u, first, end);
}

/* How many query rows make a unit and a pass: enough to make packing cheap, few enough for the cache
 * and for every thread to have a share; and how many blocks of scores there is room for. No result
 * depends on it. */
static void choose_rows(job *jb, int64_t groups, int64_t group_rows, int threads)
{
    const s2s_attention_problem *const p = jb->p;
    const int step = jb->compute->tile_rows;
    const int64_t size = (int64_t)jb->compute->element_size;
    const int64_t block_size = S2S_LDA * size; /* of one row */
    const int64_t every = blocks(p->keys);
    int64_t total = every; /* of which a pass needs scores */
    /* What a window over one pass touches, unless its rows go on with another head; the weights are
     * read from the slots at the end, and then every block needs its own. */
    if (!jb->weights && p->left < p->keys && p->right < p->keys)
        total = min64(every, blocks(p->left + p->right + min64(p->queries, MOST_ROWS)) + 1);
    const int64_t shares = 4 * threads;
    int64_t share = group_rows; /* rows of a unit, for there to be enough units */
    if (threads > 1) /* no larger than that: a thread that is held up holds up one of them */
        share = min64(min64(share, MOST_ROWS),
                      round_up(parts(groups * group_rows, shares), step));
    const int64_t panels =
        every * S2S_BLOCK * (jb->key_size + round_up(p->value_width, S2S_LANES) * size);
    const int keeps = share >= COPY_ROWS && every <= KEPT_BLOCKS && panels <= KEPT_PANELS;

    int64_t rows = min64(MOST_ROWS, (keeps ? PASS_SCORES : CACHED_SCORES) / (total * block_size));
    rows = max64(step, min64(rows, round_up(share, step)) / step * step);
    if (total * block_size * step > MOST_SCORES) /* scores computed twice: fewer passes over keys */
        rows = max64(rows, 2 * step);
    if (jb->weights)
        rows = max64(1, min64(rows, MOST_SCORES / (total * block_size)));
    /* As many units, and passes of them, as that takes, all of about the same size. */
    jb->unit_rows = keeps ? share : rows;
    jb->tiles = parts(group_rows, jb->unit_rows);
    jb->unit_rows = min64(group_rows, round_up(parts(group_rows, jb->tiles), step));
    rows = min64(rows, jb->unit_rows);
    const int64_t passes = parts(jb->unit_rows, rows);
    jb->rows = (int)min64(rows, round_up(parts(jb->unit_rows, passes), step));
    jb->kept = keeps && passes > 1;
    jb->slots = jb->weights ? total : max64(1, min64(total, MOST_SCORES / (jb->rows * block_size)));
    jb->copies = jb->kept || jb->rows >= COPY_ROWS;
    jb->panel_keys = jb->kept ? round_up(p->keys, S2S_BLOCK) + S2S_LANES : S2S_BLOCK;
}

int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  double softcap, const void *query, const void *key, const void *value,
                  const void *mask, const void *bias, const void *sinks, const s2s_span *spans,
                  void *out, void *weights, double *statistics)
{
    const s2s_attention_problem *const p = problem;
    int64_t groups = p->key_heads; /* of query rows that share a key head */
    for (int axis = 0; axis < p->lead_axes; axis++)
        groups *= p->lead[axis];
    if (groups == 0 || p->heads == 0 || p->queries == 0)
        return S2S_OK;

    const s2s_kernels *const kernels = s2s_kernels_of(isa, p->type);
    job jb = {.p = p,
              .in = s2s_kernels_of(isa, p->key_type),
              .out = kernels,
              .bias_in = s2s_kernels_of(isa, p->bias_type),
              .compute = s2s_kernels_of(isa, kernels->compute_type),
              .scale = scale,
              .softcap = softcap,
              .query = query,
              .key = key,
              .value = value,
              .mask = mask,
              .bias = bias,
              .sinks = sinks,
              .spans = spans,
              .result = out,
              .weights = weights,
              .statistics = (char *)statistics};
    const int64_t group_rows = p->heads / p->key_heads * p->queries;
    const int64_t work = groups * group_rows * p->keys * (p->width + p->value_width);
    threads = (int)min64(threads, 1 + work / SMALL_WORK);
    if (p->integer_scores)
        jb.integer = s2s_integer_kernels_of(isa);
    jb.key_size = jb.integer ? (ptrdiff_t)(parts(p->width, 4) * 4 + (int64_t)sizeof(float))
                             : (ptrdiff_t)p->width * (ptrdiff_t)jb.compute->element_size;
    choose_rows(&jb, groups, group_rows, threads);

    const size_t size = jb.compute->element_size, rows = (size_t)jb.rows;
    const size_t panels = (size_t)(jb.panel_keys * jb.key_size);
    const size_t copies = (size_t)(jb.panel_keys * round_up(p->value_width, S2S_LANES)) * size;
    const struct {
        size_t *at, size;
    } pieces[] = {
        {&jb.query_at, rows * S2S_LDA * (size_t)blocks(p->width) * size},
        {&jb.scores_at, rows * S2S_LDA * (size_t)jb.slots * size},
        {&jb.panels_at, panels},
        {&jb.copies_at, jb.copies ? copies : 0},
        {&jb.tail_at, S2S_BLOCK * S2S_LANES * size},
        {&jb.context_at, rows * (size_t)round_up(p->value_width, S2S_LANES) * size},
        {&jb.bias_at, S2S_BLOCK * size},
        {&jb.integers_at,
         jb.integer ? (size_t)(jb.compute->tile_rows * S2S_LDA) * sizeof(int32_t) : 0},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        *pieces[i].at = jb.size;
        jb.size += (pieces[i].size + 63) / 64 * 64;
    }
    return s2s_run(attend, &jb, groups * jb.tiles, threads, jb.size);
}
