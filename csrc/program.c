/* A program: the calls that a step of a decoder consists of, recorded once and run again and again,
 * in one call from Python. Beside the layers' own functions it has two that only steps need: the
 * vectors of tokens, and a cache's next key and value. Neither is worth a kernel. */
#include <math.h>
#include <string.h>

#include "fpstate.h"
#include "kernels.h"
#include "seq2seq_fast.h"

/* The weight of `token` and one feature, and what it is divided by. */
static float weight(const s2s_matrix *m, const s2s_kernels *kernels, int64_t token, int64_t feature)
{
    const int64_t panel = token / S2S_LANES, lane = token % S2S_LANES;
    if (m->type == S2S_INT8) {
        const int64_t quads = (m->inputs + 3) / 4;
        const uint8_t *const at = (const uint8_t *)m->panels
                                  + ((panel * quads + feature / 4) * S2S_LANES + lane) * 4;
        return (float)(at[feature % 4] - 128) / m->scales[token];
    }
    float wide;
    const char *const at = (const char *)m->panels
                           + ((panel * m->inputs + feature) * S2S_LANES + lane)
                                 * (int64_t)kernels->element_size;
    kernels->widen(at, 1, &wide);
    return wide;
}

/* out [rows][inputs] = weight * scale + position; a token below 0 is the zero vector. */
static void embed(const s2s_op *op, int isa, int64_t rows)
{
    const s2s_matrix *const m = op->matrix;
    const s2s_kernels *const kernels =
        s2s_kernels_of(isa, m->type == S2S_INT8 ? S2S_FLOAT32 : m->type);
    const int64_t *const tokens = op->in[0];
    const float *const positions = op->in[1];
    const float *const position = positions ? positions + *op->step * m->inputs : NULL;
    const float scale = (float)op->number;
    for (int64_t r = 0; r < rows; r++) {
        float *const out = (float *)op->out[0] + r * m->inputs;
        for (int64_t j = 0; j < m->inputs; j++) {
            float x = tokens[r] < 0 ? 0 : weight(m, kernels, tokens[r], j);
            if (op->number != 1)
                x = x * scale;
            out[j] = position ? x + position[j] : x;
        }
    }
}

/* out [rows][n] = x + position. */
static void add_position(const s2s_op *op, int64_t rows)
{
    const float *const position = (const float *)op->in[1] + *op->step * op->n;
    const float *x = op->in[0];
    float *out = op->out[0];
    for (int64_t r = 0; r < rows; r++, x += op->n, out += op->n)
        for (int64_t j = 0; j < op->n; j++)
            out[j] = x[j] + position[j];
}

/* The panel of one key, which holds rows of keys where it is not full. */
static float *panel_of(const s2s_op *op, int64_t sequence, int64_t head, int64_t key)
{
    const s2s_strides *const strides = &op->problem->key;
    return (float *)((char *)op->out[0] + sequence * strides->lead[0] + head * strides->head
                     + key / S2S_LANES * strides->row);
}

static float *value_of(const s2s_op *op, int64_t sequence, int64_t head, int64_t key)
{
    const s2s_strides *const strides = &op->problem->value;
    return (float *)((char *)op->out[1] + sequence * strides->lead[0] + head * strides->head
                     + key * strides->row);
}

/* One key and value of each row to the end of its cache: in[0], in[1] (rows, stride in[...] apart)
 * are [heads * width]; out[3] the spans, whose keys count. Keys stay rows until there are sixteen:
 * a row is a few lines of the cache, its lane of a panel a whole panel's. */
static void append(const s2s_op *op, int isa, int64_t rows)
{
    const s2s_kernels *const kernels = s2s_kernels_of(isa, S2S_FLOAT32);
    const s2s_attention_problem *const p = op->problem;
    s2s_span *const spans = op->out[3];
    const int64_t width = p->width, value_width = p->value_width;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t at = spans[r].keys++, lane = at % S2S_LANES;
        const int fills = at >= spans[r].packed && lane == S2S_LANES - 1;
        const float *const key = (const float *)op->in[0] + r * op->stride;
        const float *const value = (const float *)op->in[1] + r * op->stride;
        for (int64_t h = 0; h < p->key_heads; h++) {
            float *const panel = panel_of(op, r, h, at);
            if (at >= spans[r].packed)
                memcpy(panel + lane * width, key + h * width, (size_t)width * sizeof *key);
            else
                for (int64_t c = 0; c < width; c++)
                    panel[c * S2S_LANES + lane] = key[h * width + c];
            if (fills) {
                kernels->pack_keys(panel, width, S2S_LANES, width, 0, op->out[2]);
                memcpy(panel, op->out[2], (size_t)(width * S2S_LANES) * sizeof *panel);
            }
            memcpy(value_of(op, r, h, at), value + h * value_width,
                   (size_t)value_width * sizeof *value);
        }
        if (fills)
            spans[r].packed += S2S_LANES;
    }
}

/* What has been appended to one sequence, from its key `start` on, becomes what another one has. */
static void copy_history(const s2s_op *op, int64_t target, int64_t source, int64_t start, int64_t stop)
{
    const s2s_attention_problem *const p = op->problem;
    const int64_t packed = ((const s2s_span *)op->out[3])[source].packed;
    /* Whole panels, then rows of those that are not full. */
    const int64_t row = start > packed ? start : packed, at = row % S2S_LANES * p->width;
    for (int64_t h = 0; h < p->key_heads; h++) {
        for (int64_t j = start / S2S_LANES * S2S_LANES; j < packed; j += S2S_LANES)
            memcpy(panel_of(op, target, h, j), panel_of(op, source, h, j),
                   (size_t)(p->width * S2S_LANES) * sizeof(float));
        if (row < stop)
            memcpy(panel_of(op, target, h, row) + at, panel_of(op, source, h, row) + at,
                   (size_t)((stop - row) * p->width) * sizeof(float));
        memcpy(value_of(op, target, h, start), value_of(op, source, h, start),
               (size_t)((stop - start) * p->value_width) * sizeof(float));
    }
}

void s2s_copy_history(const s2s_op *ops, int64_t ops_count, int64_t count, const int64_t *targets,
                const int64_t *sources, const int64_t *starts, int64_t stop)
{
    for (const s2s_op *op = ops; op < ops + ops_count; op++) {
        if (op->kind != S2S_OP_APPEND)
            continue;
        for (int64_t i = 0; i < count; i++)
            copy_history(op, targets[i], sources[i], starts[i], stop);
    }
}

/* The bias of the query at the step's position is that of the one at 0, moved by as many keys: it
 * depends on their distance alone. */
static int attend(const s2s_op *op, int isa, int threads, int64_t rows)
{
    s2s_attention_problem *const p = op->problem;
    const char *bias = op->in[4];
    if (bias && op->step)
        bias -= *op->step * p->bias.column;
    p->lead[0] = rows;
    return s2s_attention(p, isa, threads, op->number, 0, op->in[0], op->in[1], op->in[2], NULL,
                         bias, NULL, op->in[3], op->out[0], NULL, NULL);
}

/* `next` is the matrix that will be read after a linear layer's own. */
static int run(const s2s_op *op, const s2s_matrix *next, int isa, int threads, int64_t sequences)
{
    const int64_t rows = op->rows * sequences, n = op->n;
    s2s_fpstate state;
    switch (op->kind) {
    case S2S_OP_LINEAR:
        return s2s_linear(op->matrix, next, isa, threads, op->choice, rows, op->in[0],
                          op->matrix->inputs, op->in[1], op->matrix->outputs, op->multiply,
                          op->out[0], op->matrix->outputs);
    case S2S_OP_NORM:
        return s2s_norm(isa, threads, rows, n, op->in[0], op->in[1], op->in[2], op->number,
                        op->out[0]);
    case S2S_OP_SSRU_STEP:
        return s2s_ssru_step(isa, rows, n, op->in[0], op->in[1], op->in[2], op->out[1], op->out[0]);
    case S2S_OP_ATTEND:
        return attend(op, isa, threads, rows);
    case S2S_OP_EMBED:
        state = s2s_fp_enter();
        embed(op, isa, rows);
        s2s_fp_leave(state);
        return S2S_OK;
    case S2S_OP_ADD_POSITION:
        state = s2s_fp_enter();
        add_position(op, rows);
        s2s_fp_leave(state);
        return S2S_OK;
    case S2S_OP_APPEND:
        append(op, isa, rows);
        return S2S_OK;
    default:
        return S2S_NO_SUCH_OP;
    }
}

/* The matrix of the linear layer after call i: after the last one the first, of another run. */
static const s2s_matrix *matrix_after(const s2s_op *ops, int64_t count, int64_t i)
{
    for (int64_t n = 1; n <= count; n++) {
        const s2s_op *const op = ops + (i + n) % count;
        if (op->kind == S2S_OP_LINEAR)
            return op->matrix;
    }
    return NULL;
}

int s2s_run_program(const s2s_op *ops, int64_t count, int isa, int threads, int64_t sequences)
{
    for (int64_t i = 0; i < count; i++) {
        const s2s_matrix *const next =
            ops[i].kind == S2S_OP_LINEAR ? matrix_after(ops, count, i) : NULL;
        const int status = run(ops + i, next, isa, threads, sequences);
        if (status != S2S_OK)
            return status;
    }
    return S2S_OK;
}

/* Of each row the logits of its source's own columns, then -inf. */
static void gather_own(const s2s_greedy *g, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        const int64_t *const places = g->places + g->sources[r] * g->longest;
        const int64_t length = g->lengths[g->sources[r]];
        float *const own = g->own + r * g->longest;
        for (int64_t i = 0; i < g->longest; i++)
            own[i] = i < length ? g->logits[r * g->columns + places[i]] : -INFINITY;
    }
}

int s2s_run_greedy(const s2s_op *ops, int64_t count, int isa, int threads, int64_t rows,
                   const s2s_greedy *greedy, int64_t most, int64_t *found, float *scores,
                   float *statistics, int64_t *taken)
{
    const s2s_greedy *const g = greedy;
    int ended = 0;
    for (*taken = 0; *taken < most && !ended; found += rows, scores += rows) {
        int status = s2s_run_program(ops, count, isa, threads, rows);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < g->never_count; i++)
                g->logits[r * g->columns + g->never[i]] = -INFINITY;
        if (g->places)
            gather_own(g, rows);
        const int64_t columns = g->places ? g->longest : g->columns;
        if (status == S2S_OK)
            status = s2s_topk_log_softmax(isa, threads, rows, columns, g->places ? g->own : g->logits, columns,
                              1, found, scores, statistics);
        if (status != S2S_OK)
            return status;
        for (int64_t r = 0; r < rows; r++) {
            const int64_t column =
                g->places ? g->places[g->sources[r] * g->longest + found[r]] : found[r];
            const int64_t token = g->ids ? g->ids[column] : column;
            found[r] = g->tokens[r] = scores[r] == -INFINITY ? g->end : token;
            ended |= found[r] == g->end;
        }
        ++*g->step;
        ++*taken;
    }
    return S2S_OK;
}
