/* The frame of fused attention: cuts a call into units of a few query rows, and walks one unit
 * through pack, scores, softmax, context. No intrinsics and no arithmetic here, but for addresses:
 * numbers are touched by the kernels of one instruction set (kernels.h).
 *
 * One unit is up to `rows` query rows that share a key head (with grouped-query heads, rows of
 * several heads). Its scratch memory holds, in this order:
 *
 *   query    [blocks of width][rows][S2S_LDA]   the rows, cut into blocks of 256 features
 *   scores   [blocks of keys][rows][S2S_LDA]    dot products, then weights
 *   panels   [GROUP][width][16]                 the keys at hand, transposed
 *   tail     [256][16]                          the last, partial panel of the values, padded
 *   context  [rows][value panels * 16]          ordered sums so far
 */
#include <string.h>

#include "kernels.h"
#include "pool.h"

enum {
    GROUP = 4,            /* key panels packed at a time: they stay in the first-level cache */
    MOST_ROWS = 96,       /* more rows would not make packing any cheaper */
    SCORES_SIZE = 700000, /* bytes of scores to aim for: a part of the second-level cache */
    SMALL_WORK = 131072,  /* multiply-adds that are done before another thread wakes up */
};

typedef struct {
    const s2s_attention_problem *p;
    const s2s_kernels *kernels;
    double scale;
    const char *query, *key, *value, *mask, *bias, *key_lengths;
    char *out, *weights;
    int rows;                                                      /* of a unit */
    int64_t group_rows, tiles;                                     /* rows, units of a key head */
    size_t query_at, scores_at, panels_at, tail_at, context_at, size; /* scratch, bytes */
} job;

static int64_t blocks(int64_t n)
{
    return n > S2S_BLOCK ? (n + S2S_BLOCK - 1) / S2S_BLOCK : 1;
}

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Byte offset of row 0 of one (lead..., head) of an operand. */
static ptrdiff_t offset_of(const s2s_attention_problem *p, const int64_t *lead_strides,
                           const int64_t *lead_index)
{
    ptrdiff_t offset = 0;
    for (int axis = 0; axis < p->lead_axes; axis++)
        offset += lead_index[axis] * lead_strides[axis];
    return offset;
}

/* The keys that query row i may see are 0..visible-1, masks apart. */
static int64_t visible_keys(const s2s_attention_problem *p, int64_t length, int64_t i)
{
    if (!p->causal)
        return length;
    const int64_t last = i + p->causal_offset;
    return last < 0 ? 0 : min64(last + 1, length);
}

static void attend_unit(void *job_, int64_t unit, void *scratch_)
{
    const job *const jb = job_;
    const s2s_attention_problem *const p = jb->p;
    const s2s_kernels *const kernels = jb->kernels;
    const ptrdiff_t size = (ptrdiff_t)kernels->element_size;
    char *const scratch = scratch_;
    char *const query = scratch + jb->query_at, *const scores = scratch + jb->scores_at;
    char *const panels = scratch + jb->panels_at, *const tail = scratch + jb->tail_at;
    char *const context = scratch + jb->context_at;
    const ptrdiff_t block_elements = (ptrdiff_t)jb->rows * S2S_LDA; /* from block to block */

    /* 1. Which rows: unit -> (lead index, key head, first row). */
    const int64_t first = unit % jb->tiles * jb->rows;
    const int rows = (int)min64(jb->rows, jb->group_rows - first);
    const int64_t key_head = unit / jb->tiles % p->key_heads;
    int64_t lead[S2S_MAX_LEAD], rest = unit / jb->tiles / p->key_heads;
    for (int axis = p->lead_axes - 1; axis >= 0; axis--) {
        lead[axis] = rest % p->lead[axis];
        rest /= p->lead[axis];
    }
    const char *q = jb->query + offset_of(p, p->query.lead, lead);
    const char *k = jb->key + offset_of(p, p->key.lead, lead) + key_head * p->key.head;
    const char *v = jb->value + offset_of(p, p->value.lead, lead) + key_head * p->value.head;
    const ptrdiff_t out_lead = offset_of(p, p->out.lead, lead);
    const ptrdiff_t weights_lead = offset_of(p, p->weights.lead, lead);
    const ptrdiff_t mask_lead = offset_of(p, p->mask.lead, lead);
    const ptrdiff_t bias_lead = offset_of(p, p->bias.lead, lead);
    int64_t length = p->keys;
    if (jb->key_lengths)
        memcpy(&length, jb->key_lengths + offset_of(p, p->key_lengths, lead), sizeof length);

    int64_t head_of[MOST_ROWS], row_of[MOST_ROWS], visible[MOST_ROWS], keys = 0;
    for (int r = 0; r < rows; r++) {
        head_of[r] = key_head * (p->heads / p->key_heads) + (first + r) / p->queries;
        row_of[r] = (first + r) % p->queries;
        visible[r] = visible_keys(p, length, row_of[r]);
        keys = visible[r] > keys ? visible[r] : keys;
    }
    const int64_t width = round_up(jb->weights ? p->keys : keys, S2S_LANES);

    /* 2. The query rows, in blocks. */
    for (int r = 0; r < rows; r++) {
        const char *from = q + head_of[r] * p->query.head + row_of[r] * p->query.row;
        for (int64_t c = 0; c < p->width; c += S2S_BLOCK)
            memcpy(query + (c / S2S_BLOCK * block_elements + r * S2S_LDA) * size, from + c * size,
                   (size_t)(min64(S2S_BLOCK, p->width - c) * size));
    }

    /* 3. Dot products: a few panels of keys at a time, each against all rows. */
    for (int64_t j = 0; j < keys; j += GROUP * S2S_LANES) {
        const int cols = (int)(round_up(min64(GROUP * S2S_LANES, keys - j), S2S_LANES) / S2S_LANES);
        const ptrdiff_t panel = (ptrdiff_t)p->width * S2S_LANES;
        for (int g = 0; g < cols; g++) {
            const int64_t at = j + g * S2S_LANES;
            kernels->pack(k + at * p->key.row, p->key.row / size,
                          (int)min64(S2S_LANES, keys - at), p->width, panels + g * panel * size);
        }
        char *to = scores + (j / S2S_BLOCK * block_elements + j % S2S_BLOCK) * size;
        for (int64_t c = 0; c == 0 || c < p->width; c += S2S_BLOCK)
            kernels->tile(rows, cols, query + c / S2S_BLOCK * block_elements * size,
                          panels + c * S2S_LANES * size, S2S_LANES, panel,
                          (int)min64(S2S_BLOCK, p->width - c), to, S2S_LDA, c > 0,
                          c + S2S_BLOCK >= p->width ? jb->scale : 1);
    }

    /* 4. Weights, in two passes over the rows, so that no row waits for its own maximum. */
    double sum[MOST_ROWS], greatest[MOST_ROWS];
    for (int r = 0; r < rows; r++) {
        const char *bias = NULL;
        const uint8_t *mask = NULL;
        if (jb->bias)
            bias = jb->bias + bias_lead + head_of[r] * p->bias.head + row_of[r] * p->bias.row;
        if (jb->mask)
            mask = (const uint8_t *)jb->mask + mask_lead + head_of[r] * p->mask.head
                   + row_of[r] * p->mask.row;
        greatest[r] = kernels->mask_scores(scores + (ptrdiff_t)r * S2S_LDA * size, block_elements,
                                           visible[r], bias, p->bias.column / size, mask,
                                           p->mask.column);
    }
    for (int r = 0; r < rows; r++)
        sum[r] = kernels->weigh(scores + (ptrdiff_t)r * S2S_LDA * size, block_elements, visible[r],
                                width, greatest[r]);

    /* 5. Context: whole panels of values as they lie, a last partial one padded. */
    const int64_t whole = p->value_width / S2S_LANES, left = p->value_width % S2S_LANES;
    const ptrdiff_t context_stride = (ptrdiff_t)round_up(p->value_width, S2S_LANES);
    for (int64_t j = 0; j < keys; j += S2S_BLOCK) {
        const int depth = (int)min64(S2S_BLOCK, keys - j);
        const char *weights = scores + j / S2S_BLOCK * block_elements * size;
        const char *values = v + j * p->value.row;
        kernels->tile(rows, (int)whole, weights, values, p->value.row / size, S2S_LANES, depth,
                      context, context_stride, j > 0, 1);
        if (left) {
            memset(tail, 0, (size_t)(depth * S2S_LANES * size));
            for (int i = 0; i < depth; i++)
                memcpy(tail + i * S2S_LANES * size,
                       values + i * p->value.row + whole * S2S_LANES * size, (size_t)(left * size));
            kernels->tile(rows, 1, weights, tail, S2S_LANES, 0, depth,
                          context + whole * S2S_LANES * size, context_stride, j > 0, 1);
        }
    }

    /* 6. Results. */
    for (int r = 0; r < rows; r++) {
        char *const out = jb->out + out_lead + head_of[r] * p->out.head + row_of[r] * p->out.row;
        char *const row = scores + (ptrdiff_t)r * S2S_LDA * size;
        char *const sums = context + r * context_stride * size;
        if (sum[r] == 0)
            memset(out, 0, (size_t)(p->value_width * size));
        else if (kernels->divide(sums, sum[r], p->value_width, out) && sum[r] == sum[r]) {
            /* A hidden key's value may have been NaN or infinite, and 0 * that is NaN. */
            kernels->context_visible(row, block_elements, keys, v, p->value.row / size,
                                     p->value_width, sums);
            kernels->divide(sums, sum[r], p->value_width, out);
        }
        if (jb->weights) {
            char *const weights = jb->weights + weights_lead + head_of[r] * p->weights.head
                                  + row_of[r] * p->weights.row;
            for (int64_t j = 0; j < p->keys; j += S2S_BLOCK)
                kernels->divide(row + j / S2S_BLOCK * block_elements * size,
                                sum[r] == 0 ? 1 : sum[r], min64(S2S_BLOCK, p->keys - j),
                                weights + j * size);
        }
    }
}

/* How many query rows make a unit: enough to make packing cheap, few enough for the cache and for
 * every thread to have a share. No result depends on it. */
static int choose_rows(const job *jb, int64_t groups, int threads)
{
    const int step = jb->kernels->tile_rows;
    const int64_t row_size =
        blocks(jb->p->keys) * S2S_LDA * (int64_t)jb->kernels->element_size;
    int64_t rows = min64(MOST_ROWS, SCORES_SIZE / row_size);
    if (threads > 1)
        rows = min64(rows, round_up(groups * jb->group_rows, 4 * threads) / (4 * threads));
    rows = rows / step * step;
    rows = rows < step ? step : rows;
    return (int)min64(rows, jb->group_rows);
}

int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  const void *query, const void *key, const void *value, const void *mask,
                  const void *bias, const void *key_lengths, void *out, void *weights)
{
    const s2s_attention_problem *const p = problem;
    int64_t groups = p->key_heads; /* of query rows that share a key head */
    for (int axis = 0; axis < p->lead_axes; axis++)
        groups *= p->lead[axis];
    if (groups == 0 || p->heads == 0 || p->queries == 0)
        return S2S_OK;

    job jb = {.p = p,
              .kernels = s2s_kernels_of(isa, p->type),
              .scale = scale,
              .query = query,
              .key = key,
              .value = value,
              .mask = mask,
              .bias = bias,
              .key_lengths = key_lengths,
              .out = out,
              .weights = weights};
    jb.group_rows = p->heads / p->key_heads * p->queries;
    const int64_t work = groups * jb.group_rows * p->keys * (p->width + p->value_width);
    threads = (int)min64(threads, 1 + work / SMALL_WORK);
    jb.rows = choose_rows(&jb, groups, threads);
    jb.tiles = (jb.group_rows + jb.rows - 1) / jb.rows;

    const size_t size = jb.kernels->element_size, rows = (size_t)jb.rows;
    const size_t sizes[] = {rows * S2S_LDA * (size_t)blocks(p->width) * size,
                            rows * S2S_LDA * (size_t)blocks(p->keys) * size,
                            GROUP * S2S_LANES * (size_t)p->width * size,
                            S2S_BLOCK * S2S_LANES * size,
                            rows * (size_t)round_up(p->value_width, S2S_LANES) * size};
    size_t *const at[] = {&jb.query_at, &jb.scores_at, &jb.panels_at, &jb.tail_at, &jb.context_at};
    for (int i = 0; i < 5; i++) {
        *at[i] = jb.size;
        jb.size += (sizes[i] + 63) / 64 * 64;
    }
    return s2s_run(attend_unit, &jb, groups * jb.tiles, threads, jb.size);
}
