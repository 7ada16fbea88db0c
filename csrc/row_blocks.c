/* The schedule by row block: what rows go through between two attentions, some rows at a time, on one
 * thread, so that what they become stays in the cache.
 *
 * The scratch memory of a task holds its rows of each buffer without an address, one buffer after the
 * other, in blocks of 256 as a linear layer's inputs are: [blocks of width][task_rows][S2S_LDA]; then
 * what a layer needs. */
#include "layers.h"
#include "pool.h"
#include "tuning.h"

typedef struct {
    int64_t tasks, task_rows;
    int64_t panels_at_once; /* of a linear layer */
    size_t layer_at;        /* where a layer's scratch memory begins, after the rows */
    size_t scratch_size;
} row_block_plan;

typedef struct {
    const s2s_op *ops;
    const s2s_buffer *buffers;
    int64_t count, buffer_count, rows;
    int isa;
    row_block_plan plan;
} row_block_call;

/* The linear layer of op i for some rows, and the matrix that is read after its own: of the next
 * linear layer, or for other rows of the first. */
static linear_call linear_of(const row_block_call *call, int64_t i, int64_t rows)
{
    const s2s_op *const op = call->ops + i;
    int64_t next = i;
    do
        next = (next + 1) % call->count;
    while (call->ops[next].kind != S2S_OP_LINEAR);
    linear_call linear = s2s_linear_call(op->matrix, call->ops[next].matrix, call->isa, 1, rows);
    linear.activation = op->choice;
    linear.is_gate = op->multiply;
    linear.plan.panels_at_once = call->plan.panels_at_once;
    return linear;
}

/* How many numbers a task's rows of a buffer take in scratch memory. */
static int64_t scratch_numbers(const row_block_call *call, int64_t buffer)
{
    const s2s_buffer *const b = call->buffers + buffer;
    return b->rows ? 0 : parts(b->width, S2S_BLOCK) * call->plan.task_rows * S2S_LDA;
}

/* Where the rows from `first` on of a buffer are. */
static matrix_rows rows_of(const row_block_call *call, int64_t buffer, int64_t first,
                           void *scratch)
{
    if (buffer < 0)
        return (matrix_rows){0};
    const s2s_buffer *const b = call->buffers + buffer;
    if (b->rows && b->part < b->width)
        return (matrix_rows){b->rows + first * b->part, b->part, call->rows * b->part, b->part};
    if (b->rows)
        return in_a_row(b->rows + first * b->width, b->width);
    int64_t before = 0;
    for (int64_t i = 0; i < buffer; i++)
        before += scratch_numbers(call, i);
    return (matrix_rows){(float *)scratch + before, S2S_LDA, call->plan.task_rows * S2S_LDA,
                         S2S_BLOCK};
}

/* ---- the plan ---- */

/* Whether all weights together are small enough to be read again and again from the third-level
 * cache; half floats are widened anew by each task. */
static int rereads_weights(const row_block_call *call)
{
    int64_t bytes = 0;
    for (int64_t i = 0; i < call->count; i++) {
        const s2s_matrix *const m = call->ops[i].kind == S2S_OP_LINEAR ? call->ops[i].matrix : NULL;
        if (m && m->type != S2S_INT8 && m->type != S2S_FLOAT32)
            return 0;
        bytes += m ? m->inputs * m->outputs * (m->type == S2S_INT8 ? 1 : 4) : 0;
    }
    return bytes <= ROW_BLOCK_WEIGHTS;
}

/* The most scratch memory that a layer needs: of a task of all rows, or the last one, whose rows may
 * be fewer. */
static size_t layer_scratch(const row_block_call *call)
{
    const row_block_plan *const plan = &call->plan;
    const int64_t sizes[] = {min64(call->rows, plan->task_rows),
                             call->rows - (plan->tasks - 1) * plan->task_rows};
    size_t size = 0;
    for (int64_t i = 0; i < call->count; i++)
        for (int last = 0; call->ops[i].kind == S2S_OP_LINEAR && last < 2; last++) {
            const size_t needed = linear_of(call, i, sizes[last]).plan.scratch_size;
            size = needed > size ? needed : size;
        }
    return size;
}

/* A few tasks to a thread, all of about the same size: of few rows, unless it takes many to be worth
 * the reading, or widening, of the weights. */
static void plan_row_blocks(row_block_call *call, int threads)
{
    row_block_plan *const plan = &call->plan;
    const int64_t rows = call->rows;
    const int step = s2s_kernels_of(call->isa, S2S_FLOAT32)->tile_rows;
    const int rereads = rereads_weights(call);
    plan->panels_at_once = rereads ? ROW_BLOCK_PANELS : S2S_BLOCK / S2S_LANES;
    const int64_t max_rows =
        min64(rereads ? ROW_BLOCK_ROWS : LINEAR_MAX_ROWS,
              threads == 1 ? rows : parts(rows, TASKS_PER_THREAD * (int64_t)threads));
    plan->task_rows = round_up(parts(rows, parts(rows, max_rows)), step);
    plan->tasks = parts(rows, plan->task_rows);
    for (int64_t i = 0; i < call->buffer_count; i++)
        plan->layer_at += (size_t)scratch_numbers(call, i) * sizeof(float);
    plan->scratch_size = plan->layer_at + layer_scratch(call);
}

/* ---- a task ---- */

static void run_linear(const row_block_call *call, int64_t i, int64_t first, int64_t rows,
                       char *scratch)
{
    const s2s_op *const op = call->ops + i;
    linear_call linear = linear_of(call, i, rows);
    linear.x = rows_of(call, op->buffers[0], first, scratch);
    linear.operand = rows_of(call, op->buffers[2], first, scratch);
    linear.out = rows_of(call, op->buffers[1], first, scratch);
    for (int64_t task = 0; task < linear.plan.tasks; task++)
        s2s_linear_task(&linear, task, scratch + call->plan.layer_at);
}

static void run_norm(const row_block_call *call, int64_t i, int64_t first, int64_t rows,
                     char *scratch)
{
    const s2s_op *const op = call->ops + i;
    norm_call norm = {s2s_layer_kernels_of(call->isa), rows, call->buffers[op->buffers[0]].width,
                      rows_of(call, op->buffers[0], first, scratch),
                      rows_of(call, op->buffers[1], first, scratch),
                      op->in[1], op->in[2], op->number};
    for (int64_t task = 0; task < s2s_norm_tasks(rows); task++)
        s2s_norm_task(&norm, task, NULL);
}

static void run_row_block(void *call_, int64_t task, void *scratch)
{
    const row_block_call *const call = call_;
    const int64_t first = task * call->plan.task_rows;
    const int64_t rows = min64(call->plan.task_rows, call->rows - first);
    for (int64_t i = 0; i < call->count; i++)
        if (call->ops[i].kind == S2S_OP_LINEAR)
            run_linear(call, i, first, rows, scratch);
        else
            run_norm(call, i, first, rows, scratch);
}

int s2s_run_row_blocks(const s2s_op *ops, int64_t count, const s2s_buffer *buffers,
                       int64_t buffer_count, int isa, int threads, int64_t rows)
{
    for (int64_t i = 0; i < count; i++)
        if (ops[i].kind != S2S_OP_LINEAR && ops[i].kind != S2S_OP_NORM)
            return S2S_NO_SUCH_OP;
    if (rows == 0)
        return S2S_OK;
    row_block_call call = {.ops = ops, .buffers = buffers, .count = count,
                           .buffer_count = buffer_count, .rows = rows, .isa = isa};
    plan_row_blocks(&call, threads);
    return s2s_run(run_row_block, &call, call.plan.tasks, threads, call.plan.scratch_size);
}
