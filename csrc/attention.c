/* The driver of fused attention: takes a call's tasks, row block by row block, through packing,
 * scores, softmax and context. No intrinsics and no arithmetic here, but for addresses: numbers are
 * touched by the kernels of one instruction set (kernels.h). How a call is cut into tasks and row
 * blocks, and what scratch memory holds, is planned beforehand (attention_plan.c).
 *
 * A row block walks its keys in blocks of 256, twice: for the rows' greatest scores, then for weights
 * and context. Pairs that are hidden by their position (causal, window, lengths) are skipped, as far
 * as whole tiles of them go.
 */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "pool.h"
#include "tuning.h"

enum { MAX_ROWS = ATTENTION_MAX_ROWS };

/* A call: its operands, the kernels that work on it, and its plan. */
typedef struct {
    const s2s_attention_problem *p;
    s2s_attention_plan plan;
    const s2s_kernels *in;              /* of the keys and values */
    const s2s_kernels *out;             /* of the query and results */
    const s2s_kernels *bias_in;         /* of the bias */
    const s2s_kernels *compute;         /* of what is in scratch memory, and the sinks */
    const s2s_integer_kernels *integer; /* of scores; null unless they are of integers */
    double scale, softcap;
    const char *query, *key, *value, *mask, *bias, *sinks;
    const s2s_span *spans;
    char *result, *weights, *statistics;
} attention_call;

/* A task at work. Keys count from the sequence's first one; [from, to) are visible. */
typedef struct {
    const attention_call *call;
    const s2s_attention_problem *p;
    s2s_span span;
    int64_t lead[S2S_MAX_LEAD], key_head;
    const char *q, *k, *v, *mask, *bias; /* at this task's index of the leading axes */
    char *out, *weights, *statistics;
    char *query, *scores, *panels, *copies, *tail, *context, *bias_row; /* scratch */
    int32_t *integers;
    uint64_t packed_blocks, copied_blocks; /* sets: what kept panels hold already */

    /* of the row block */
    int rows;
    int64_t block;                         /* where the first block of keys begins */
    int64_t end;                           /* past the last visible key of all rows */
    int64_t head[MAX_ROWS], row[MAX_ROWS]; /* where a row is in the operands */
    int64_t from[MAX_ROWS], to[MAX_ROWS];
    int same_keys;                         /* all rows see the same keys, masks apart */
    double row_max[MAX_ROWS], sums[MAX_ROWS], sinks[MAX_ROWS];
    int blind[MAX_ROWS];                   /* a row has no score, or NaN alone */
    int started[MAX_ROWS];                 /* by tile: it has a context already */
    float scales[MAX_ROWS];                /* of a quantised row, */
    int32_t row_sums[MAX_ROWS];            /* and its integers' sum */
} task;

/* ---- where things are ---- */

/* Bytes of a number in scratch memory. */
static ptrdiff_t number_size(const task *t)
{
    return (ptrdiff_t)t->call->compute->element_size;
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

/* Byte offset of row r of the row block, from there on. */
static ptrdiff_t row_offset(const task *t, const s2s_strides *strides, int r)
{
    return (ptrdiff_t)(t->head[r] * strides->head + t->row[r] * strides->row);
}

/* Where the scores of one row's block are. */
static char *scores_of(const task *t, int64_t block, int row)
{
    const s2s_attention_plan *const plan = &t->call->plan;
    const int64_t slot = min64((block - t->block) / S2S_BLOCK, plan->slots - 1);
    return t->scores + (slot * plan->block_rows + row) * S2S_LDA * number_size(t);
}

/* Where a row's features from `feature` on are, a multiple of 256. */
static char *query_of(const task *t, int64_t feature, int row)
{
    const int rows = t->call->plan.block_rows;
    return t->query + (feature / S2S_BLOCK * rows + row) * S2S_LDA * number_size(t);
}

/* Where a quantised row is. */
static void *integers_of_row(const task *t, int row)
{
    const ptrdiff_t size = (ptrdiff_t)t->call->integer->input_size;
    return t->query + row * parts(t->p->width, 4) * 4 * size;
}

static char *context_of(const task *t, int row)
{
    return t->context + row * (ptrdiff_t)round_up(t->p->value_width, S2S_LANES) * number_size(t);
}

/* Where the copy of the values has the first panel's line of a key. */
static char *copy_of(const task *t, int64_t key)
{
    const int64_t block = t->call->plan.keeps_panels ? key / S2S_BLOCK * S2S_BLOCK : 0;
    const int64_t line = key % S2S_BLOCK * S2S_LANES;
    return t->copies + (block * round_up(t->p->value_width, S2S_LANES) + line) * number_size(t);
}

/* Whether a set of blocks has one already; from now on it has. */
static int is_in(uint64_t *set, int64_t block)
{
    const uint64_t one = (uint64_t)1 << block / S2S_BLOCK;
    const int was = (*set & one) != 0;
    *set |= one;
    return was;
}

/* Prefetches a row that is needed soon, `ahead` bytes from p. */
static void prefetch_row(const char *p, ptrdiff_t ahead, int64_t bytes)
{
    for (int64_t i = 0; i < bytes; i += CACHE_LINE)
        prefetch_l2(p, ahead + i);
}

/* ---- which keys rows see ---- */

typedef struct {
    int64_t from, to;
} range;

/* The keys within [start, stop) that the rows [first, first + count) see: the range that holds them
 * all, empty (from >= to) if there are none. */
static range visible(const task *t, int first, int count, int64_t start, int64_t stop)
{
    range all = {stop, start};
    const int last = t->same_keys ? first + 1 : first + count;
    for (int r = first; r < last; r++) {
        const int64_t from = max64(t->from[r], start), to = min64(t->to[r], stop);
        if (from < to) {
            all.from = min64(all.from, from);
            all.to = max64(all.to, to);
        }
    }
    return all;
}

/* The keys of the block that each of the rows sees, counted from its beginning. */
static void clip(const task *t, int64_t block, int first, int count, int *from, int *to)
{
    for (int r = 0; r < count; r++) {
        const int64_t start = max64(t->from[first + r], block);
        const int64_t stop = min64(t->to[first + r], block + S2S_BLOCK);
        from[r] = start < stop ? (int)(start - block) : 0;
        to[r] = start < stop ? (int)(stop - block) : 0;
    }
}

/* ---- scores ---- */

/* Sixteen keys, or the last few, to a panel. */
static void pack_panel(const task *t, int64_t key, int count, char *panel)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const char *const at = t->k + key * p->key.row;
    if (call->integer)
        call->integer->pack_keys((const float *)at, p->key.row / (ptrdiff_t)sizeof(float), count,
                                 p->width, ATTENTION_KEYS_AHEAD, (uint8_t *)panel);
    else
        call->in->pack_keys(at, p->key.row / (ptrdiff_t)call->in->element_size, count, p->width,
                            ATTENTION_KEYS_AHEAD, panel);
}

/* The same from a cache's rows in the room of a panel: of sixteen copied ones the last may be
 * anything. Those of another head are a jump away, which no processor foresees: they are prefetched.
 */
static void pack_cached_rows(const task *t, int64_t key, int count, char *panel)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const s2s_attention_plan *const plan = &call->plan;
    char *const rows = t->panels + (plan->panel_keys - S2S_LANES) * plan->key_size;
    const char *const at = t->k + key / S2S_LANES * p->key.row;
    const int64_t bytes = count * p->width * (int64_t)call->in->element_size;
    prefetch_row(at, ATTENTION_HEADS_AHEAD * p->key.head, bytes);
    call->in->widen(at, count * p->width, rows);
    call->compute->pack_keys(rows, p->width, S2S_LANES, p->width, 0, panel);
}

/* The keys [from, to) of a block, from a multiple of 16, in panels: packed, unless they lie so
 * already. */
static const char *key_panels(task *t, int64_t from, int64_t to)
{
    if (to <= t->span.packed)
        return t->k + from / S2S_LANES * t->p->key.row;
    const s2s_attention_plan *const plan = &t->call->plan;
    const int64_t first = plan->keeps_panels ? 0 : from; /* key in the room for panels */
    char *const panels = t->panels + (from - first) * plan->key_size;
    if (plan->keeps_panels) { /* the whole block: other rows may see more of it */
        const int64_t block = from / S2S_BLOCK * S2S_BLOCK;
        if (is_in(&t->packed_blocks, block))
            return panels;
        from = max64(block, t->span.packed);
        to = min64(block + S2S_BLOCK, t->span.keys);
    }
    for (int64_t j = from; j < to; j += S2S_LANES) {
        char *const panel = t->panels + (j - first) * plan->key_size;
        const int count = (int)min64(S2S_LANES, to - j);
        if (t->p->packed)
            pack_cached_rows(t, j, count, panel);
        else
            pack_panel(t, j, count, panel);
    }
    return panels;
}

/* Dot products of a few rows with the keys [from, to) of the block, transposed on the way. Returns
 * where it stopped: a last few keys are left over. */
static int64_t small_dot_products(task *t, int64_t block, int first, int count, int64_t from,
                                  int64_t to)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const ptrdiff_t element = (ptrdiff_t)call->in->element_size;
    int64_t j = from;
    for (; j + 2 * S2S_LANES <= to; j += 2 * S2S_LANES) {
        char *const scores = scores_of(t, block, first) + (j - block) * number_size(t);
        for (int64_t c = 0; c == 0 || c < p->width; c += S2S_BLOCK)
            call->in->small_dot(count, query_of(t, c, first), t->k + j * p->key.row + c * element,
                                p->key.row / element, (int)min64(S2S_BLOCK, p->width - c),
                                ATTENTION_KEYS_AHEAD, scores, S2S_LDA, c > 0,
                                c + S2S_BLOCK >= p->width ? call->scale : 1);
    }
    return j;
}

/* Dot products of the rows, tile by tile, with those of some keys of the block that they see. Keys
 * that were given in panels are elements there, and from memory; others are of the compute type. */
static void tiled_dot_products(task *t, int64_t block, int first, int count, range keys)
{
    const attention_call *const call = t->call;
    const int64_t width = t->p->width;
    const int step = call->compute->tile_rows, given = keys.from < t->span.packed;
    const s2s_kernels *const kernels = given ? call->in : call->compute;
    const ptrdiff_t panel = (ptrdiff_t)width * S2S_LANES;
    const ptrdiff_t ahead = given ? ATTENTION_FEW_KEYS / S2S_LANES * panel : 0;
    const char *const panels = key_panels(t, keys.from, keys.to);
    for (int r = first; r < first + count; r += step) {
        const int n = (int)min64(step, first + count - r);
        const range part = visible(t, r, n, keys.from, keys.to);
        if (part.from >= part.to)
            continue;
        const int64_t at = part.from / S2S_LANES * S2S_LANES;
        const int cols = (int)parts(part.to - at, S2S_LANES);
        char *const to = scores_of(t, block, r) + (at - block) * number_size(t);
        for (int64_t c = 0; c == 0 || c < width; c += S2S_BLOCK)
            kernels->tile(n, cols, query_of(t, c, r),
                          panels + ((at - keys.from) / S2S_LANES * panel + c * S2S_LANES)
                                       * (ptrdiff_t)kernels->element_size,
                          S2S_LANES, panel, ahead, (int)min64(S2S_BLOCK, width - c), to, S2S_LDA,
                          c > 0, c + S2S_BLOCK >= width ? call->scale : 1);
    }
}

/* The block's dot products of the rows [first, first + count) with the keys that they see, all of
 * which are in [seen.from, seen.to). */
static void dot_products(task *t, int64_t block, int first, int count, range seen)
{
    const attention_call *const call = t->call;
    int64_t start = seen.from / S2S_LANES * S2S_LANES;
    if (!t->p->packed && !call->plan.keeps_panels && count <= S2S_DOT_ROWS)
        start = small_dot_products(t, block, first, count, start, seen.to);
    /* Few rows: packing waits for memory, the tile does not, so that they should take turns. */
    const int64_t step = call->plan.copies_values ? S2S_BLOCK : ATTENTION_FEW_KEYS;
    for (int64_t stop, j = start; j < seen.to; j = stop) {
        stop = min64(j + step, j < t->span.packed ? min64(seen.to, t->span.packed) : seen.to);
        tiled_dot_products(t, block, first, count, (range){j, stop});
    }
}

/* The same from eight-bit integers, as finished scores. */
static void integer_scores(task *t, int64_t block, int first, int count, range seen)
{
    const attention_call *const call = t->call;
    const ptrdiff_t key_size = call->plan.key_size, panel = S2S_LANES * key_size;
    const int64_t quads = parts(t->p->width, 4), start = seen.from / S2S_LANES * S2S_LANES;
    const char *const panels = key_panels(t, start, seen.to);
    const int step = call->compute->tile_rows;
    for (int r = first; r < first + count; r += step) {
        const int n = (int)min64(step, first + count - r);
        const range part = visible(t, r, n, start, seen.to);
        if (part.from >= part.to)
            continue;
        const int64_t at = part.from / S2S_LANES * S2S_LANES;
        const int cols = (int)parts(part.to - at, S2S_LANES);
        const uint8_t *const from = (const uint8_t *)panels + (at - start) * key_size;
        call->integer->tile(n, cols, integers_of_row(t, r), quads * 4, from, panel, 0, quads,
                            t->integers);
        call->integer->score(n, cols, t->integers, t->scales + r, t->row_sums + r, call->scale,
                             from + quads * 4 * S2S_LANES, panel,
                             (float *)scores_of(t, block, r) + (at - block));
    }
}

/* The mask and the bias of one row's visible keys, where there are any. */
static void mask_row(task *t, int64_t block, int r, int from, int to)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const char *bias = NULL, *mask = NULL;
    if (t->mask)
        mask = t->mask + row_offset(t, &p->mask, r) + block * p->mask.column;
    if (t->bias) {
        bias = t->bias + row_offset(t, &p->bias, r) + block * p->bias.column;
        if (call->bias_in != call->compute) {
            const ptrdiff_t start = p->bias.column ? from : 0;
            call->bias_in->widen(bias + start * p->bias.column, p->bias.column ? to - from : 1,
                                 t->bias_row + start * number_size(t));
            bias = t->bias_row;
        }
    }
    call->compute->mask(scores_of(t, block, r), from, to, bias, p->bias.column != 0,
                        (const uint8_t *)mask, p->mask.column != 0);
}

/* Final scores of one block for the rows [first, first + count); their row_max is raised. */
static void score_block(task *t, int64_t block, int first, int count)
{
    const attention_call *const call = t->call;
    const range seen = visible(t, first, count, block, block + S2S_BLOCK);
    if (seen.from >= seen.to)
        return;
    if (call->integer)
        integer_scores(t, block, first, count, seen);
    else
        dot_products(t, block, first, count, seen);
    int from[MAX_ROWS], to[MAX_ROWS];
    clip(t, block, first, count, from, to);
    for (int r = 0; r < count && (call->softcap != 0 || t->mask || t->bias); r++) {
        if (from[r] < to[r] && call->softcap != 0)
            call->compute->softcap(scores_of(t, block, first + r), from[r], to[r], call->softcap);
        if (from[r] < to[r] && (t->mask || t->bias))
            mask_row(t, block, first + r, from[r], to[r]);
    }
    call->compute->row_max(count, scores_of(t, block, first), from, to, t->row_max + first);
}

/* Whether the block's scores lie in a slot of their own. */
static int keeps_scores(const task *t, int64_t block)
{
    const int64_t slots = t->call->plan.slots;
    return (block - t->block) / S2S_BLOCK < slots - 1 || t->end - t->block <= slots * S2S_BLOCK;
}

/* ---- weights and context ---- */

/* The block's values [seen.from, seen.to) in panels, where so many rows use them that copying pays:
 * a tile reads sixteen features of one value after another, which may be far apart, and narrow. */
static void copy_values(task *t, int64_t block, range seen)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const int keeps = call->plan.keeps_panels;
    if (seen.from >= seen.to || (keeps && is_in(&t->copied_blocks, block)))
        return;
    if (keeps)
        seen = (range){block, min64(block + S2S_BLOCK, t->span.keys)};
    call->in->pack_values(t->v + seen.from * p->value.row,
                          p->value.row / (ptrdiff_t)call->in->element_size,
                          (int)(seen.to - seen.from), p->value_width, ATTENTION_COPIED_AHEAD,
                          copy_of(t, seen.from));
}

/* context (+)= the rows' weights of one block x the values [seen.from, seen.to): from the copy, or
 * whole panels of values as they lie, and a last partial one padded. */
static void add_context(task *t, int64_t block, int first, int count, range seen, int add)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const ptrdiff_t size = number_size(t);
    const ptrdiff_t element = (ptrdiff_t)call->in->element_size, row = p->value.row / element;
    const int64_t whole = p->value_width / S2S_LANES, left = p->value_width % S2S_LANES;
    const ptrdiff_t stride = (ptrdiff_t)round_up(p->value_width, S2S_LANES);
    char *const context = context_of(t, first);
    const char *const weights = scores_of(t, block, first) + (seen.from - block) * size;
    const char *const values = t->v + seen.from * p->value.row;
    const int depth = (int)(seen.to - seen.from);
    if (call->plan.copies_values) {
        call->compute->tile(count, (int)(stride / S2S_LANES), weights, copy_of(t, seen.from),
                            S2S_LANES, S2S_BLOCK * S2S_LANES, 0, depth, context, stride, add, 1);
        return;
    }
    call->in->tile(count, (int)whole, weights, values, row, S2S_LANES,
                   ATTENTION_VALUES_AHEAD * row, depth, context, stride, add, 1);
    if (left) {
        call->in->pack_values(values + whole * S2S_LANES * element, row, depth, left, 0, t->tail);
        call->compute->tile(count, 1, weights, t->tail, S2S_LANES, 0, 0, depth,
                            context + whole * S2S_LANES * size, stride, add, 1);
    }
}

/* One block's weights, their sums, and what they add to the context. */
static void weigh_block(task *t, int64_t block)
{
    const attention_call *const call = t->call;
    const int step = call->compute->tile_rows;
    int from[MAX_ROWS], to[MAX_ROWS];
    clip(t, block, 0, t->rows, from, to);
    if (call->plan.copies_values)
        copy_values(t, block, visible(t, 0, t->rows, block, block + S2S_BLOCK));
    for (int r = 0; r < t->rows; r += step) {
        const int n = (int)min64(step, t->rows - r);
        const range seen = visible(t, r, n, block, block + S2S_BLOCK);
        if (seen.from >= seen.to)
            continue;
        call->compute->exp_and_sum(n, scores_of(t, block, r), from + r, to + r,
                                   (int)(seen.from - block) / S2S_LANES * S2S_LANES,
                                   (int)round_up(seen.to - block, S2S_LANES), t->row_max + r,
                                   t->sums + r);
        add_context(t, block, r, n, seen, t->started[r / step]);
        t->started[r / step] = 1;
    }
}

/* The context of one row once more, without touching the values of hidden keys. */
static void context_of_visible(task *t, int r)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const ptrdiff_t size = number_size(t);
    char *const context = context_of(t, r), *const weights = t->tail; /* [256], free by now */
    memset(context, 0, (size_t)(p->value_width * size));
    for (int64_t block = t->block; block < t->end; block += S2S_BLOCK) {
        double row_max = t->row_max[r], sum = 0;
        int from, to;
        clip(t, block, r, 1, &from, &to);
        if (from >= to)
            continue;
        score_block(t, block, r, 1);
        char *const scores = scores_of(t, block, r);
        memcpy(weights, scores, (size_t)(S2S_BLOCK * size));
        call->compute->exp_and_sum(1, weights, &from, &to, from / S2S_LANES * S2S_LANES,
                                   (int)round_up(to, S2S_LANES), &row_max, &sum);
        call->in->context_visible(scores + from * size, weights + from * size, to - from,
                                  t->v + (block + from) * p->value.row,
                                  p->value.row / (ptrdiff_t)call->in->element_size,
                                  p->value_width, context);
    }
}

/* ---- results ---- */

/* The weights of row r, divided by their sum; 0 for keys that it does not see. */
static void store_weights(task *t, int r, int sees_none)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const ptrdiff_t size = number_size(t), element = (ptrdiff_t)call->out->element_size;
    char *const weights = t->weights + row_offset(t, &p->weights, r);
    memset(weights, 0, (size_t)(p->keys * element));
    if (t->sums[r] != t->sums[r]) { /* 0 / NaN is what hidden keys weigh, too */
        memset(t->bias_row, 0, (size_t)(S2S_BLOCK * size));
        for (int64_t j = 0; j < p->keys; j += S2S_BLOCK)
            call->out->normalize(t->bias_row, t->sums[r], min64(S2S_BLOCK, p->keys - j),
                                 weights + j * element);
    }
    for (int64_t block = t->block; block < t->end && !sees_none; block += S2S_BLOCK) {
        int from, to;
        clip(t, block, r, 1, &from, &to);
        call->out->normalize(scores_of(t, block, r) + from * size, t->sums[r], to - from,
                             weights + (block + from) * element);
    }
}

/* Results of row r: its context, and weights and statistics where the caller wants them. */
static void store_row(task *t, int r, int sees_none)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    char *const context = context_of(t, r), *const out = t->out + row_offset(t, &p->out, r);
    if (t->weights)
        store_weights(t, r, sees_none);
    if (t->statistics) {
        double *const at = (double *)(t->statistics + row_offset(t, &p->statistics, r));
        at[0] = sees_none ? -INFINITY : t->row_max[r];
        at[1] = sees_none ? 0 : t->sums[r];
    }
    if (sees_none)
        memset(out, 0, (size_t)p->value_width * call->out->element_size);
    else if (call->out->normalize(context, t->sums[r], p->value_width, out)
             && t->sums[r] == t->sums[r]) {
        /* A hidden key's value may have been NaN or infinite, and 0 * that is NaN. */
        context_of_visible(t, r);
        call->out->normalize(context, t->sums[r], p->value_width, out);
    }
}

/* ---- a row block, step by step ---- */

/* 1. Where the rows from `first` on are, up to `last`, and which keys they see. */
static void locate_rows(task *t, int64_t first, int64_t last)
{
    const s2s_attention_problem *const p = t->p;
    t->rows = (int)min64(t->call->plan.block_rows, last - first);
    t->block = t->span.keys;
    t->end = 0;
    t->same_keys = 1;
    int64_t head = t->key_head * (p->heads / p->key_heads) + first / t->span.queries;
    int64_t row = first % t->span.queries;
    for (int r = 0; r < t->rows; r++, row++) {
        if (row == t->span.queries) {
            head++;
            row = 0;
        }
        t->head[r] = head;
        t->row[r] = row;
        const int64_t position = row + t->span.offset;
        t->from[r] = max64(0, position - p->left);
        t->to[r] = min64(t->span.keys, position + p->right + 1);
        t->same_keys &= t->from[r] == t->from[0] && t->to[r] == t->to[0];
        if (t->from[r] < t->to[r]) {
            t->block = min64(t->block, t->from[r] / S2S_BLOCK * S2S_BLOCK);
            t->end = max64(t->end, t->to[r]);
        }
        t->row_max[r] = -INFINITY;
        t->sums[r] = 0;
        t->started[r] = 0;
    }
}

/* 2. The query rows, widened and in blocks, or quantised. Where their results go is prefetched, and
 * so are the rows of the next row block, which lie about as far on as this one has rows. */
static void load_rows(task *t)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const ptrdiff_t element = (ptrdiff_t)call->out->element_size;
    for (int r = 0; r < t->rows; r++) {
        const char *const from = t->q + row_offset(t, &p->query, r);
        if (call->integer)
            t->scales[r] = call->integer->quantise(p->width, (const float *)from, S2S_BLOCK, 0,
                                                   integers_of_row(t, r), t->row_sums + r);
        for (int64_t c = 0; !call->integer && c < p->width; c += S2S_BLOCK)
            call->out->widen(from + c * element, min64(S2S_BLOCK, p->width - c),
                             query_of(t, c, r));
        if (call->plan.keeps_panels) {
            prefetch_row(t->out, row_offset(t, &p->out, r), p->value_width * element);
            prefetch_row(from, call->plan.block_rows * p->query.row, p->width * element);
        }
    }
}

/* One number of the compute type as a double, exactly. */
static double number(const attention_call *call, const char *at)
{
    return call->compute->compute_type == S2S_FLOAT64 ? *(const double *)at
                                                      : (double)*(const float *)at;
}

/* 3. The greatest score of each row, its sink among them. */
static void max_scores(task *t)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    for (int64_t block = t->block; block < t->end; block += S2S_BLOCK)
        score_block(t, block, 0, t->rows);
    for (int r = 0; r < t->rows; r++) {
        t->blind[r] = t->row_max[r] == -INFINITY;
        if (call->sinks) {
            t->sinks[r] = number(call, call->sinks + offset_of(p, &p->sinks, t->lead)
                                           + t->head[r] * p->sinks.head);
            if (t->sinks[r] > t->row_max[r])
                t->row_max[r] = t->sinks[r];
        }
    }
}

/* 4. Weights, their sums, and the context. */
static void weigh_scores(task *t)
{
    for (int64_t block = t->block; block < t->end; block += S2S_BLOCK) {
        if (!keeps_scores(t, block))
            score_block(t, block, 0, t->rows);
        weigh_block(t, block);
    }
}

/* 5. Results. */
static void store_rows(task *t)
{
    const attention_call *const call = t->call;
    for (int r = 0; r < t->rows; r++) {
        const int sees_none = t->blind[r] && t->sums[r] == 0; /* NaN scores show in the sum */
        if (call->sinks && !sees_none)
            t->sums[r] = call->compute->add_sink(t->sums[r], t->sinks[r], t->row_max[r]);
        store_row(t, r, sees_none);
    }
}

/* ---- tasks ---- */

/* Which sequence (an index of the leading axes), rows and key head a task has. */
static void locate_task(task *t, int64_t number_of_task)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const int64_t index = number_of_task / call->plan.head_tasks / p->key_heads;
    t->span = (s2s_span){.queries = p->queries, .keys = p->keys, .offset = p->offset,
                         .packed = p->keys};
    if (call->spans)
        t->span = call->spans[index];
    if (!p->packed)
        t->span.packed = 0;
    int64_t rest = index;
    for (int axis = p->lead_axes - 1; axis >= 0; axis--) {
        t->lead[axis] = rest % p->lead[axis];
        rest /= p->lead[axis];
    }
    t->key_head = number_of_task / call->plan.head_tasks % p->key_heads;
}

/* Byte offset of an operand's row at the task's index of the leading axes. */
static ptrdiff_t task_offset(const task *t, const s2s_strides *strides, int64_t head, int64_t row)
{
    return offset_of(t->p, strides, t->lead) + (ptrdiff_t)(head * strides->head + row * strides->row);
}

/* Where the operands of the task are, and its buffers in scratch memory. */
static void place_operands(task *t, char *scratch)
{
    const attention_call *const call = t->call;
    const s2s_attention_problem *const p = t->p;
    const s2s_attention_plan *const plan = &call->plan;
    const int64_t query = t->span.query_start, key = t->span.key_start;
    t->q = call->query + task_offset(t, &p->query, 0, query);
    t->k = call->key + task_offset(t, &p->key, t->key_head, key);
    t->v = call->value + task_offset(t, &p->value, t->key_head, key);
    t->mask = call->mask ? call->mask + task_offset(t, &p->mask, 0, 0) : NULL;
    t->bias = call->bias ? call->bias + task_offset(t, &p->bias, 0, 0) : NULL;
    t->out = call->result + task_offset(t, &p->out, 0, query);
    t->weights = call->weights ? call->weights + task_offset(t, &p->weights, 0, 0) : NULL;
    t->statistics = NULL;
    if (call->statistics)
        t->statistics = call->statistics + task_offset(t, &p->statistics, 0, query);
    t->query = scratch + plan->query_at;
    t->scores = scratch + plan->scores_at;
    t->panels = scratch + plan->panels_at;
    t->copies = scratch + plan->copies_at;
    t->tail = scratch + plan->tail_at;
    t->context = scratch + plan->context_at;
    t->bias_row = scratch + plan->bias_at;
    t->integers = (int32_t *)(scratch + plan->integers_at);
    t->packed_blocks = t->copied_blocks = 0;
}

static void run_task(void *call_, int64_t number_of_task, void *scratch)
{
    const attention_call *const call = call_;
    const s2s_attention_plan *const plan = &call->plan;
    task state, *const t = &state;
    t->call = call;
    t->p = call->p;
    locate_task(t, number_of_task);
    place_operands(t, scratch);
    const int64_t rows = t->p->heads / t->p->key_heads * t->span.queries;
    const int64_t begin = number_of_task % plan->head_tasks * plan->task_rows;
    const int64_t end = min64(begin + plan->task_rows, rows);
    for (int64_t first = begin; first < end; first += plan->block_rows) {
        locate_rows(t, first, end);
        load_rows(t);
        max_scores(t);
        weigh_scores(t);
        store_rows(t);
    }
}

int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  double softcap, const void *query, const void *key, const void *value,
                  const void *mask, const void *bias, const void *sinks, const s2s_span *spans,
                  void *out, void *weights, double *statistics)
{
    const s2s_attention_problem *const p = problem;
    const s2s_kernels *const kernels = s2s_kernels_of(isa, p->type);
    attention_call call = {.p = p,
                           .plan = s2s_plan_attention(p, isa, threads, weights != NULL),
                           .in = s2s_kernels_of(isa, p->key_type),
                           .out = kernels,
                           .bias_in = s2s_kernels_of(isa, p->bias_type),
                           .compute = s2s_kernels_of(isa, kernels->compute_type),
                           .integer = p->integer_scores ? s2s_integer_kernels_of(isa) : NULL,
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
    if (call.plan.tasks == 0)
        return S2S_OK;
    return s2s_run(run_task, &call, call.plan.tasks, call.plan.threads, call.plan.scratch_size);
}
