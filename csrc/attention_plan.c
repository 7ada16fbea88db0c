/* The plan of attention: how a call is cut into tasks for the threads, a task into row blocks, and a
 * thread's scratch memory into buffers. Pure functions: of shapes, threads and tuning constants. No
 * result depends on a plan.
 *
 * A task is query rows that share a key head (with grouped-query heads, rows of several heads). A
 * row block is up to `block_rows` of them, and walks its keys in blocks of 256, twice. The scratch
 * memory holds, in this order:
 *
 *   query    [blocks of width][block_rows][S2S_LDA]  the rows, cut into blocks of 256 features
 *            or [block_rows][width]                  quantised, where scores are of integers
 *   scores   [slots][block_rows][S2S_LDA]            dot products, then weights, of a block a slot
 *   panels   [panel_keys / 16][width][16]            keys, transposed
 *   copies   [value panels][panel_keys][16]          values, in panels of sixteen features
 *   tail     [256][16]                               the last, partial panel of the values, padded
 *   context  [block_rows][value panels * 16]         ordered sums so far
 *   bias     [256]                                   a row's, widened
 *   integers [tile_rows][S2S_LDA]                    a block's dot products, where of integers
 *
 * Where they are small enough, panels and copies hold all blocks, and are kept for all row blocks of
 * a task: so a row block may be of few rows, whose scores stay in the cache. Else there is room for
 * one block of keys, and a task is one row block.
 *
 * Where there are more blocks of keys than slots (very long rows), those left over share the last
 * slot, and their scores are computed again in the second walk: memory stays bounded, and the bits
 * the same. */
#include "kernels.h"
#include "tuning.h"

/* Blocks of n columns; there is always one. */
static int64_t blocks(int64_t n)
{
    return max64(1, parts(n, S2S_BLOCK));
}

/* Blocks of keys of which a row block needs scores. A window touches few of them, unless its rows go
 * on with another head; but weights are read from the slots at the end, and every block needs one. */
static int64_t scored_blocks(const s2s_attention_problem *p, int weights)
{
    const int64_t all = blocks(p->keys);
    if (weights || p->left >= p->keys || p->right >= p->keys)
        return all;
    return min64(all, blocks(p->left + p->right + min64(p->queries, ATTENTION_MAX_ROWS)) + 1);
}

/* Rows of a task for every thread to have its share of tasks: those of one head where there is one
 * thread, and whole tiles else. */
static int64_t rows_to_share(int64_t groups, int64_t group_rows, int threads, int tile_rows)
{
    if (threads == 1)
        return group_rows;
    const int64_t even = parts(groups * group_rows, TASKS_PER_THREAD * (int64_t)threads);
    return min64(min64(group_rows, ATTENTION_MAX_ROWS), round_up(even, tile_rows));
}

/* Whether the panels of all keys and values are few enough, and their users many enough, to keep. */
static int panels_are_kept(const s2s_attention_problem *p, int64_t share, int64_t key_size,
                           int64_t size)
{
    const int64_t all = blocks(p->keys);
    const int64_t bytes =
        all * S2S_BLOCK * (key_size + round_up(p->value_width, S2S_LANES) * size);
    return share >= ATTENTION_COPY_ROWS && all <= ATTENTION_KEPT_BLOCKS
           && bytes <= ATTENTION_KEPT_PANELS;
}

/* Rows of a row block: enough to make packing cheap, few enough for their scores (row_size bytes of
 * each row) to stay in the cache. */
static int64_t rows_to_cache(int64_t share, int64_t row_size, int keeps, int weights, int tile_rows)
{
    const int64_t scores = keeps ? ATTENTION_KEPT_SCORES : ATTENTION_SCORES;
    int64_t rows = min64(min64(ATTENTION_MAX_ROWS, scores / row_size), round_up(share, tile_rows));
    rows = max64(tile_rows, rows / tile_rows * tile_rows);
    if (row_size * tile_rows > ATTENTION_MAX_SCORES) /* scores computed twice: fewer walks */
        rows = max64(rows, 2 * tile_rows);
    if (weights)
        rows = max64(1, min64(rows, ATTENTION_MAX_SCORES / row_size));
    return rows;
}

/* n rows in as many parts as `rows` of them make, all of about the same size: rows of each. */
static int64_t evenly(int64_t n, int64_t rows, int tile_rows)
{
    return round_up(parts(n, parts(n, rows)), tile_rows);
}

/* Where the buffers are in scratch memory, one after the other, on lines of the cache. */
static void lay_out(s2s_attention_plan *plan, const s2s_attention_problem *p,
                    const s2s_kernels *compute)
{
    const size_t size = compute->element_size, rows = (size_t)plan->block_rows;
    const size_t value_width = (size_t)round_up(p->value_width, S2S_LANES);
    const size_t keys = (size_t)plan->panel_keys;
    const size_t integers = (size_t)compute->tile_rows * S2S_LDA * sizeof(int32_t);
    const struct {
        size_t *at, size;
    } buffers[] = {
        {&plan->query_at, rows * S2S_LDA * (size_t)blocks(p->width) * size},
        {&plan->scores_at, rows * S2S_LDA * (size_t)plan->slots * size},
        {&plan->panels_at, keys * (size_t)plan->key_size},
        {&plan->copies_at, plan->copies_values ? keys * value_width * size : 0},
        {&plan->tail_at, S2S_BLOCK * S2S_LANES * size},
        {&plan->context_at, rows * value_width * size},
        {&plan->bias_at, S2S_BLOCK * size},
        {&plan->integers_at, p->integer_scores ? integers : 0},
    };
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        *buffers[i].at = plan->scratch_size;
        plan->scratch_size += (buffers[i].size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    }
}

s2s_attention_plan s2s_plan_attention(const s2s_attention_problem *problem, int isa, int threads,
                                      int weights)
{
    const s2s_attention_problem *const p = problem;
    const s2s_kernels *const compute =
        s2s_kernels_of(isa, s2s_kernels_of(isa, p->type)->compute_type);
    const int step = compute->tile_rows;
    const int64_t size = (int64_t)compute->element_size;
    s2s_attention_plan plan = {.threads = 1};
    int64_t groups = p->key_heads; /* of query rows that share a key head */
    for (int axis = 0; axis < p->lead_axes; axis++)
        groups *= p->lead[axis];
    if (groups == 0 || p->heads == 0 || p->queries == 0)
        return plan;
    const int64_t group_rows = p->heads / p->key_heads * p->queries;
    const int64_t work = groups * group_rows * p->keys * (p->width + p->value_width);
    plan.threads = (int)min64(threads, 1 + work / SMALL_WORK);
    plan.key_size = p->integer_scores ? round_up(p->width, 4) + (int64_t)sizeof(float)
                                      : p->width * size;

    const int64_t scored = scored_blocks(p, weights);
    const int64_t block_size = S2S_LDA * size; /* of one row's block of scores */
    const int64_t share = rows_to_share(groups, group_rows, plan.threads, step);
    const int keeps = panels_are_kept(p, share, plan.key_size, size);
    int64_t rows = rows_to_cache(share, scored * block_size, keeps, weights, step);

    /* As many tasks, and row blocks of them, as that takes, all of about the same size. */
    plan.task_rows = keeps ? share : rows;
    plan.head_tasks = parts(group_rows, plan.task_rows);
    plan.tasks = groups * plan.head_tasks;
    plan.task_rows = min64(group_rows, evenly(group_rows, plan.task_rows, step));
    rows = min64(rows, plan.task_rows);
    plan.block_rows = (int)min64(rows, evenly(plan.task_rows, rows, step));
    plan.keeps_panels = keeps && plan.task_rows > rows;
    plan.copies_values = plan.keeps_panels || plan.block_rows >= ATTENTION_COPY_ROWS;
    plan.slots = scored;
    if (!weights)
        plan.slots = max64(1, min64(scored, ATTENTION_MAX_SCORES / (plan.block_rows * block_size)));
    plan.panel_keys = plan.keeps_panels ? round_up(p->keys, S2S_BLOCK) + S2S_LANES : S2S_BLOCK;
    lay_out(&plan, p, compute);
    return plan;
}
