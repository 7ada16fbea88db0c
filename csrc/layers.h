/* The layers' calls, as layers.c plans and runs them: shared with the schedule by row block, which
 * runs their tasks itself. */
#ifndef S2S_LAYERS_H
#define S2S_LAYERS_H

#include "kernels.h"

/* Rows of numbers in blocks: number j of row r is at[r * row + j / width * block + j % width]. What
 * kernels read is in blocks of a width of 256. */
typedef struct {
    float *at;
    ptrdiff_t row, block;
    int64_t width;
} matrix_rows;

static inline matrix_rows in_a_row(const float *at, int64_t stride)
{
    return (matrix_rows){(float *)(uintptr_t)at, (ptrdiff_t)stride, S2S_BLOCK, S2S_BLOCK};
}

/* Where one of a row's numbers is. */
static inline float *number_at(matrix_rows rows, int64_t row, int64_t number)
{
    return rows.at + row * rows.row + number / rows.width * rows.block + number % rows.width;
}

/* How a linear layer's call is cut: no result depends on it. */
typedef struct {
    int threads;                /* that the work is worth */
    int64_t tasks, row_tasks;   /* all; of the same panels */
    int64_t task_rows, task_panels;
    int64_t panels_at_once;     /* whose sums a task has at a time */
    ptrdiff_t panel_size;       /* bytes */
    int widens;                 /* weights, once for all rows of a task */
    size_t sums_at, integers_at, widened_at, scratch_size; /* bytes */
} linear_plan;

typedef struct {
    const s2s_matrix *m, *next;         /* next: read after m; may be null */
    const s2s_kernels *kernels;         /* of the weights, unless they are integers */
    const s2s_kernels *compute;         /* of what is in scratch memory */
    const s2s_layer_kernels *layer;
    const s2s_integer_kernels *integer; /* null unless they are */
    int64_t rows;
    linear_plan plan;
    int activation, is_gate;
    matrix_rows x, operand, out;        /* operand: a residual or a gate; at may be null */
} linear_call;

/* A call with its plan; its activation, and where x, operand and out are, remain to be said. */
linear_call s2s_linear_call(const s2s_matrix *m, const s2s_matrix *next, int isa, int threads,
                            int64_t rows);
void s2s_linear_task(void *call, int64_t task, void *scratch);

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n;
    matrix_rows x, out;
    const float *gamma, *beta; /* beta may be null */
    double eps;
} norm_call;

int64_t s2s_norm_tasks(int64_t rows);
void s2s_norm_task(void *call, int64_t task, void *scratch);

#endif
