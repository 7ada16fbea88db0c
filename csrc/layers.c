/* The drivers of the layers: how a linear layer is cut into tasks, and who computes which rows of the
 * others. No intrinsics and no arithmetic here, but for addresses (see attention.c).
 *
 * A task of a linear layer is some rows times some panels of the weights. Its scratch memory:
 *
 *   inputs   [blocks of inputs][task_rows][S2S_LDA]  the rows, cut into blocks of 256 inputs; none
 *                                                    where they lie so already
 *            or [task_rows][inputs]                  quantised, where the weights are integers
 *   sums     [task_rows][S2S_LDA]                    up to 256 outputs
 *   integers [task_rows][S2S_LDA]                    the same, of integers
 *   widened  [panels][256][16]                       a block of weights, where they are half floats
 */
#include "layers.h"

#include "pool.h"
#include "tuning.h"

enum { BLOCK_PANELS = S2S_BLOCK / S2S_LANES };

/* ---- linear: the plan ---- */

/* Bytes of one row of inputs in scratch memory, and of one panel of weights. */
static int64_t input_row_size(const linear_call *call)
{
    const int64_t inputs = call->m->inputs;
    if (call->integer)
        return round_up(inputs, 4) * (int64_t)call->integer->input_size;
    return max64(1, parts(inputs, S2S_BLOCK)) * S2S_LDA * (int64_t)sizeof(float);
}

static ptrdiff_t panel_size(const linear_call *call)
{
    const int64_t inputs = call->m->inputs;
    const int64_t of_an_output = call->integer ? round_up(inputs, 4)
                                               : inputs * (int64_t)call->kernels->element_size;
    return (ptrdiff_t)(of_an_output * S2S_LANES);
}

/* Tasks of about the same size, a few to a thread: cut by rows first, then by panels. */
static linear_plan plan_linear(const linear_call *call, int64_t rows, int threads)
{
    const s2s_matrix *const m = call->m;
    const int step = call->integer ? call->integer->tile_rows : call->kernels->tile_rows;
    const int64_t panels = parts(m->outputs, S2S_LANES), row_size = input_row_size(call);
    linear_plan plan = {.panel_size = panel_size(call), .panels_at_once = BLOCK_PANELS};
    plan.threads = (int)min64(threads, 1 + rows * m->inputs * m->outputs / SMALL_WORK);

    const int64_t cached = min64(LINEAR_MAX_ROWS, LINEAR_INPUTS / max64(1, row_size));
    const int64_t max_rows = max64(1, cached / step) * step;
    plan.task_rows = min64(round_up(parts(rows, parts(rows, max_rows)), step), rows);
    plan.row_tasks = parts(rows, plan.task_rows);
    plan.task_panels = panels;
    const int64_t splits =
        plan.threads == 1 ? 1 : parts(TASKS_PER_THREAD * (int64_t)plan.threads, plan.row_tasks);
    if (splits > 1)
        plan.task_panels = min64(panels, round_up(parts(panels, splits), LINEAR_ROW_PANELS));
    plan.tasks = plan.row_tasks * parts(panels, plan.task_panels);

    const size_t block = (size_t)plan.task_rows * S2S_LDA * sizeof(float);
    plan.widens = !call->integer && call->kernels != call->compute
                  && plan.task_rows >= LINEAR_WIDEN_ROWS;
    plan.sums_at = (size_t)round_up(plan.task_rows * row_size, CACHE_LINE);
    plan.integers_at = plan.sums_at + block;
    plan.widened_at = plan.integers_at + (call->integer ? block : 0);
    plan.scratch_size =
        plan.widened_at + (plan.widens ? S2S_BLOCK * S2S_BLOCK * sizeof(float) : 0);
    return plan;
}

linear_call s2s_linear_call(const s2s_matrix *m, const s2s_matrix *next, int isa, int threads,
                            int64_t rows)
{
    const int is_integer = m->type == S2S_INT8;
    linear_call call = {.m = m,
                        .next = next,
                        .kernels = s2s_kernels_of(isa, is_integer ? S2S_FLOAT32 : m->type),
                        .compute = s2s_kernels_of(isa, S2S_FLOAT32),
                        .layer = s2s_layer_kernels_of(isa),
                        .integer = is_integer ? s2s_integer_kernels_of(isa) : NULL,
                        .rows = rows};
    call.plan = plan_linear(&call, rows, threads);
    return call;
}

/* ---- linear: a task ---- */

typedef struct {
    const linear_call *call;
    int64_t first; /* of its rows */
    int rows;
    matrix_rows inputs; /* in blocks, */
    char *quantised;    /* or as integers: [rows][inputs], */
    float scales[LINEAR_MAX_ROWS];
    int32_t input_sums[LINEAR_MAX_ROWS];
    float *sums;
    int32_t *integers;
    float *widened; /* null: nothing is */
} linear_task;

/* The panels from `panel` on; past the last one the next matrix's, null if that is not known. */
static const char *panels_from(const linear_call *call, int64_t panel)
{
    if (panel < parts(call->m->outputs, S2S_LANES))
        return (const char *)call->m->panels + panel * call->plan.panel_size;
    return call->next ? call->next->panels : NULL;
}

/* How many bytes after the weights at `at` lie those that are read next; 0 if that is not known. */
static ptrdiff_t ahead(const char *at, const char *next)
{
    return next ? (ptrdiff_t)((uintptr_t)next - (uintptr_t)at) : 0;
}

/* The task's rows, as integers or in blocks, unless they lie so. */
static void load_inputs(linear_task *t, void *scratch)
{
    const linear_call *const call = t->call;
    const int64_t n = call->m->inputs;
    const matrix_rows x = {number_at(call->x, t->first, 0), call->x.row, call->x.block, S2S_BLOCK};
    t->quantised = scratch;
    t->inputs = x;
    if (call->integer) {
        const ptrdiff_t size = (ptrdiff_t)input_row_size(call);
        for (int r = 0; r < t->rows; r++)
            t->scales[r] = call->integer->quantise(n, number_at(x, r, 0), x.block,
                                                   call->m->input_scale, t->quantised + r * size,
                                                   t->input_sums + r);
    } else if (x.row != S2S_LDA) {
        t->inputs = (matrix_rows){scratch, S2S_LDA, (ptrdiff_t)t->rows * S2S_LDA, S2S_BLOCK};
        for (int r = 0; r < t->rows; r++)
            for (int64_t k = 0; k < n; k += S2S_BLOCK)
                __builtin_memcpy(number_at(t->inputs, r, k), number_at(x, r, k),
                                 (size_t)min64(S2S_BLOCK, n - k) * sizeof(float));
    }
}

/* sums (rows, 16 * cols) of the panels from `panel` on. Narrow weights are widened for each tile of
 * rows anew, or once for all of them, into `widened`, if there is that. */
static void products(const linear_task *t, int64_t panel, int cols)
{
    const linear_call *const call = t->call;
    const int64_t inputs = call->m->inputs;
    float *const widened = t->widened;
    const s2s_kernels *const kernels = widened ? call->compute : call->kernels;
    const ptrdiff_t size = (ptrdiff_t)call->kernels->element_size;
    const ptrdiff_t stride = call->plan.panel_size / size;
    const char *const panels = panels_from(call, panel), *after = panels_from(call, panel + cols);
    for (int64_t k = 0; k == 0 || k < inputs; k += S2S_BLOCK) {
        const int64_t depth = min64(S2S_BLOCK, inputs - k);
        const char *const at = panels + k * S2S_LANES * size;
        for (int g = 0; widened && g < cols; g++)
            call->kernels->widen(at + g * stride * size, depth * S2S_LANES,
                                 widened + g * S2S_BLOCK * S2S_LANES);
        /* The next block, which is not to be shorter than this one: of the same inputs of the next
         * panels, if that is not too far away. */
        const char *next = after ? after + k * S2S_LANES * size : NULL;
        if (inputs > LINEAR_NEAR_INPUTS)
            next = k + S2S_BLOCK < inputs ? at + S2S_BLOCK * S2S_LANES * size : after;
        kernels->tile(t->rows, cols, number_at(t->inputs, 0, k),
                      widened ? (const void *)widened : at, S2S_LANES,
                      widened ? S2S_BLOCK * S2S_LANES : stride,
                      widened ? 0 : ahead(at, next) / size, (int)depth, t->sums, S2S_LDA, k > 0,
                      1);
    }
}

/* The same from eight-bit integers. */
static void integer_products(const linear_task *t, int64_t panel, int cols)
{
    const linear_call *const call = t->call;
    const int64_t quads = parts(call->m->inputs, 4);
    const char *const at = panels_from(call, panel);
    call->integer->tile(t->rows, cols, t->quantised, (ptrdiff_t)quads * 4, (const uint8_t *)at,
                        call->plan.panel_size, ahead(at, panels_from(call, panel + cols)), quads,
                        t->integers);
    call->integer->dequantise(t->rows, cols * S2S_LANES, t->integers, t->scales, t->input_sums,
                              call->m->scales + panel * S2S_LANES, t->sums);
}

/* Prefetches the task's numbers of some panels, unless there are none: what is in scratch memory has
 * often left the second-level cache for the weights. */
static void prefetch_panels(const linear_task *t, matrix_rows rows, int64_t output, int cols)
{
    for (int g = 0; g < cols && rows.at; g++)
        for (int r = 0; r < t->rows; r++)
            prefetch_l2(number_at(rows, t->first + r, output + g * S2S_LANES), 0);
}

/* The sums to where they go: in the parts that the result lies in. */
static void finish_outputs(const linear_task *t, int64_t output, int cols)
{
    const linear_call *const call = t->call;
    const s2s_matrix *const m = call->m;
    const matrix_rows operand = call->operand, out = call->out;
    const int64_t outputs = min64(cols * S2S_LANES, m->outputs - output);
    for (int64_t j = 0, next; j < outputs; j = next) {
        next = min64(outputs, j + out.width - (output + j) % out.width);
        call->layer->epilogue(t->rows, next - j, t->sums + j, m->bias ? m->bias + output + j : NULL,
                              call->activation,
                              operand.at ? number_at(operand, t->first, output + j) : NULL,
                              operand.row, call->is_gate, number_at(out, t->first, output + j),
                              out.row);
    }
}

void s2s_linear_task(void *call_, int64_t task, void *scratch)
{
    const linear_call *const call = call_;
    const linear_plan *const plan = &call->plan;
    /* Rows change faster from task to task: the panels that they share are in the cache. */
    linear_task state, *const t = &state;
    t->call = call;
    t->first = task % plan->row_tasks * plan->task_rows;
    t->rows = (int)min64(plan->task_rows, call->rows - t->first);
    t->sums = (float *)((char *)scratch + plan->sums_at);
    t->integers = (int32_t *)((char *)scratch + plan->integers_at);
    t->widened = plan->widens ? (float *)((char *)scratch + plan->widened_at) : NULL;
    load_inputs(t, scratch);

    const int64_t begin = task / plan->row_tasks * plan->task_panels;
    const int64_t end = min64(begin + plan->task_panels, parts(call->m->outputs, S2S_LANES));
    for (int64_t panel = begin; panel < end; panel += plan->panels_at_once) {
        const int cols = (int)min64(plan->panels_at_once, end - panel);
        prefetch_panels(t, call->out, panel * S2S_LANES, cols);
        prefetch_panels(t, call->operand, panel * S2S_LANES, cols);
        if (call->integer)
            integer_products(t, panel, cols);
        else
            products(t, panel, cols);
        finish_outputs(t, panel * S2S_LANES, cols);
    }
}

int s2s_linear(const s2s_matrix *matrix, const s2s_matrix *next, int isa, int threads,
               int activation, int64_t rows, const float *x, int64_t x_stride,
               const float *operand, int64_t operand_stride, int is_gate, float *out,
               int64_t out_stride)
{
    if (rows == 0 || matrix->outputs == 0)
        return S2S_OK;
    linear_call call = s2s_linear_call(matrix, next, isa, threads, rows);
    call.activation = activation;
    call.is_gate = is_gate;
    call.x = in_a_row(x, x_stride);
    call.operand = in_a_row(operand, operand_stride);
    call.out = in_a_row(out, out_stride);
    return s2s_run(s2s_linear_task, &call, call.plan.tasks, call.plan.threads,
                   call.plan.scratch_size);
}

/* ---- linear: some outputs of a matrix ---- */

/* Where the numbers of one output begin: one of them in each line of its panel. */
static ptrdiff_t output_at(int64_t output, int64_t depth, ptrdiff_t size)
{
    return (output / S2S_LANES * depth * S2S_LANES + output % S2S_LANES) * size;
}

void s2s_select(const s2s_matrix *matrix, int64_t count, const int64_t *ids, void *panels)
{
    const s2s_matrix *const m = matrix;
    const int is_integer = m->type == S2S_INT8;
    /* What lies together of one output: a quad of integers, or a float. */
    const int64_t depth = is_integer ? parts(m->inputs, 4) : m->inputs;
    const ptrdiff_t size = is_integer || m->type == S2S_FLOAT32 ? 4 : 2;
    const ptrdiff_t line = S2S_LANES * size;
    const uint32_t zeros = is_integer ? 0x80808080 : 0;
    for (int64_t i = 0; i < round_up(count, S2S_LANES); i++) {
        char *const to = (char *)panels + output_at(i, depth, size);
        const char *const from =
            i < count ? (const char *)m->panels + output_at(ids[i], depth, size) : NULL;
        for (int64_t k = 0; k < depth; k++)
            if (size == 4) /* a copy of known size is one instruction */
                __builtin_memcpy(to + k * line, from ? from + k * line : (const char *)&zeros, 4);
            else
                __builtin_memcpy(to + k * line, from ? from + k * line : (const char *)&zeros, 2);
    }
}

/* ---- norms, SSRUs, and the likeliest tokens ---- */

void s2s_norm_task(void *call_, int64_t task, void *scratch)
{
    const norm_call *const call = call_;
    (void)scratch;
    for (int64_t r = task * NORM_ROWS; r < min64(call->rows, (task + 1) * NORM_ROWS); r++)
        call->layer->norm(call->n, number_at(call->x, r, 0), call->x.block, call->gamma,
                          call->beta, call->eps, number_at(call->out, r, 0), call->out.block);
}

int64_t s2s_norm_tasks(int64_t rows)
{
    return parts(rows, NORM_ROWS);
}

int s2s_norm(int isa, int threads, int64_t rows, int64_t n, const float *x, const float *gamma,
             const float *beta, double eps, float *out)
{
    norm_call call = {s2s_layer_kernels_of(isa), rows, n, in_a_row(x, n), in_a_row(out, n),
                      gamma, beta, eps};
    threads = (int)min64(threads, 1 + rows * n * 16 / SMALL_WORK);
    return s2s_run(s2s_norm_task, &call, s2s_norm_tasks(rows), threads, 0);
}

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n;
    const float *gates, *cell, *residual;
    float *new_cell, *out;
} ssru_call;

static void ssru_task(void *call_, int64_t task, void *scratch)
{
    const ssru_call *const call = call_;
    (void)task;
    (void)scratch;
    for (int64_t r = 0, n = call->n; r < call->rows; r++)
        call->layer->ssru_step(n, call->gates + 2 * r * n, call->cell + r * n,
                               call->residual + r * n, call->new_cell + r * n, call->out + r * n);
}

int s2s_ssru_step(int isa, int64_t rows, int64_t n, const float *gates, const float *cell,
                  const float *residual, float *new_cell, float *out)
{
    ssru_call call = {s2s_layer_kernels_of(isa), rows, n, gates, cell, residual, new_cell, out};
    return s2s_run(ssru_task, &call, 1, 1, 0);
}

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n, stride;
    const float *logits;
    int k;
    int64_t *ids;
    float *log_probabilities, *statistics;
} topk_call;

/* One row. The next one is prefetched while this one's exponentials are computed. */
static void topk_task(void *call_, int64_t r, void *scratch)
{
    const topk_call *const call = call_;
    (void)scratch;
    const ptrdiff_t next = r + 1 < call->rows ? call->stride * (ptrdiff_t)sizeof(float) : 0;
    call->layer->topk_log_softmax(call->n, call->logits + r * call->stride, next, call->k,
                                  call->ids + r * call->k, call->log_probabilities + r * call->k,
                                  call->statistics + 2 * r);
}

int s2s_topk_log_softmax(int isa, int threads, int64_t rows, int64_t n, const float *logits,
                         int64_t stride, int k, int64_t *ids, float *log_probabilities,
                         float *statistics)
{
    topk_call call = {s2s_layer_kernels_of(isa), rows, n, stride, logits, k, ids,
                      log_probabilities, statistics};
    threads = (int)min64(threads, 1 + rows * n * 8 / SMALL_WORK);
    return s2s_run(topk_task, &call, rows, threads, 0);
}
