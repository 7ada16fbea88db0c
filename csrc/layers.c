/* The frames of the layers: how a linear layer is cut into units and tiles, and who computes which
 * rows of the others. No intrinsics and no arithmetic here, but for addresses (see attention.c).
 *
 * A unit of a linear layer is some rows times some panels of the weights. Its scratch memory:
 *
 *   inputs   [blocks of inputs][rows][S2S_LDA]   the rows, cut into blocks of 256 inputs; none
 *                                                where they lie so already
 *            or [rows][inputs]                   quantised, where the weights are integers
 *   sums     [rows][S2S_LDA]                     up to 256 outputs
 *   integers [rows][S2S_LDA]                     the same, of integers
 *   widened  [panels][256][16]                   a block of weights, where they are half floats
 *
 * A unit of a chain is some rows on their way through several layers, one after the other: in its
 * scratch memory lie the places without an address, each in blocks as the inputs are, then what a
 * layer needs.
 */
#include "kernels.h"
#include "pool.h"

enum {
    MOST_ROWS = 96,         /* of a unit: enough to read the weights seldom */
    CACHED_INPUTS = 600000, /* bytes of inputs to aim for */
    SMALL_WORK = 131072,    /* multiply-adds that are done before another thread wakes up */
    BLOCK_PANELS = S2S_BLOCK / S2S_LANES,
    NEAR_INPUTS = 512,      /* of panels whose next ones are near enough to be asked for */
    ROW_PANELS = 8,         /* that one row takes at a time: units of weights are whole groups */
    WIDEN_ROWS = 48,        /* of a unit: from there on widening weights beforehand pays */
    SOME_ROWS = 16,         /* of the other layers, to a unit */
    CACHED_WEIGHTS = 8 << 20, /* bytes of a chain's weights that cost little to read again */
    CHAIN_ROWS = 24,        /* of a chain's unit then: what they become stays in the cache */
    CHAIN_PANELS = 4,       /* that they take at a time: their sums stay in the first-level one */
};

/* Rows of numbers in blocks: number j of row r is at[r * row + j / width * block + j % width]. What
 * kernels read is in blocks of a width of 256. */
typedef struct {
    float *at;
    ptrdiff_t row, block;
    int64_t width;
} matrix_rows;

static matrix_rows in_a_row(const float *at, int64_t stride)
{
    return (matrix_rows){(float *)(uintptr_t)at, (ptrdiff_t)stride, S2S_BLOCK, S2S_BLOCK};
}

/* Where one of a row's numbers is. */
static float *number_at(matrix_rows rows, int64_t row, int64_t number)
{
    return rows.at + row * rows.row + number / rows.width * rows.block + number % rows.width;
}

/* ---- linear ---- */

typedef struct {
    const s2s_matrix *m, *next;          /* next: read after m; may be null */
    const s2s_kernels *kernels;          /* of the weights, unless they are integers */
    const s2s_kernels *compute;          /* of what is in scratch memory */
    const s2s_layer_kernels *layer;
    const s2s_integer_kernels *integer;  /* NULL unless they are */
    int activation, multiply;
    int64_t rows;
    matrix_rows x, other, out;           /* other.at may be null */
    int64_t unit_rows, row_units, unit_panels, units;
    int64_t panels_at_once;
    ptrdiff_t panel_size; /* bytes */
    int widens;
    size_t sums_at, integers_at, widened_at, size; /* scratch, bytes */
} linear_job;

/* The panels from `panel` on; past the last one the next matrix's, NULL if that is not known. */
static const char *panels_from(const linear_job *jb, int64_t panel)
{
    if (panel < parts(jb->m->outputs, S2S_LANES))
        return (const char *)jb->m->panels + panel * jb->panel_size;
    return jb->next ? jb->next->panels : NULL;
}

/* How many bytes after the weights at `at` lie those that are read next; 0 if that is not known. */
static ptrdiff_t ahead(const char *at, const char *next)
{
    return next ? (ptrdiff_t)((uintptr_t)next - (uintptr_t)at) : 0;
}

/* sums (rows, 16 * cols) of the panels from `panel` on. Narrow weights are widened for each tile of
 * rows anew, or once for all of them, into `widened`, if there is that. */
static void products(const linear_job *jb, int rows, int64_t panel, int cols, matrix_rows inputs,
                     float *widened, float *sums)
{
    const s2s_matrix *const m = jb->m;
    const s2s_kernels *const kernels = widened ? jb->compute : jb->kernels;
    const ptrdiff_t size = (ptrdiff_t)jb->kernels->element_size;
    const ptrdiff_t stride = jb->panel_size / size;
    const char *const panels = panels_from(jb, panel), *const after = panels_from(jb, panel + cols);
    for (int64_t k = 0; k == 0 || k < m->inputs; k += S2S_BLOCK) {
        const int64_t depth = min64(S2S_BLOCK, m->inputs - k);
        const char *const at = panels + k * S2S_LANES * size;
        for (int g = 0; widened && g < cols; g++)
            jb->kernels->widen(at + g * stride * size, depth * S2S_LANES,
                               widened + g * S2S_BLOCK * S2S_LANES);
        /* The next block, which is not to be shorter than this one: of the same inputs of the next
         * panels, if that is not too far away. */
        const char *next = after ? after + k * S2S_LANES * size : NULL;
        if (m->inputs > NEAR_INPUTS)
            next = k + S2S_BLOCK < m->inputs ? at + S2S_BLOCK * S2S_LANES * size : after;
        kernels->tile(rows, cols, number_at(inputs, 0, k), widened ? (const void *)widened : at,
                      S2S_LANES, widened ? S2S_BLOCK * S2S_LANES : stride,
                      widened ? 0 : ahead(at, next) / size, (int)depth, sums, S2S_LDA, k > 0, 1);
    }
}

static void integer_products(const linear_job *jb, int rows, int64_t panel, int cols,
                             const char *inputs, const float *scales, const int32_t *input_sums,
                             int32_t *integers, float *sums)
{
    const s2s_matrix *const m = jb->m;
    const int64_t quads = parts(m->inputs, 4);
    const char *const at = panels_from(jb, panel);
    jb->integer->tile(rows, cols, inputs, (ptrdiff_t)quads * 4, (const uint8_t *)at, jb->panel_size,
                      ahead(at, panels_from(jb, panel + cols)), quads, integers);
    jb->integer->dequantise(rows, cols * S2S_LANES, integers, scales, input_sums,
                            m->scales + panel * S2S_LANES, sums);
}

/* Asks for the rows' numbers of some panels, unless there are none: what is in scratch memory has
 * often left the second-level cache for the weights. */
static void ask_for_panels(matrix_rows rows, int64_t first, int count, int64_t output, int cols)
{
    for (int g = 0; g < cols && rows.at; g++)
        for (int r = 0; r < count; r++)
            prefetch_l2(number_at(rows, first + r, output + g * S2S_LANES), 0);
}

static void multiply(void *job, int64_t unit, void *scratch)
{
    const linear_job *const jb = job;
    const s2s_matrix *const m = jb->m;
    char *const quantised = scratch;
    float *const sums = (float *)((char *)scratch + jb->sums_at);
    int32_t *const integers = (int32_t *)((char *)scratch + jb->integers_at);
    float *const widened = jb->widens ? (float *)((char *)scratch + jb->widened_at) : NULL;
    float scales[MOST_ROWS];
    int32_t input_sums[MOST_ROWS];

    /* 1. Which rows and panels. Rows change faster: what they share is in the cache. */
    const int64_t first = unit % jb->row_units * jb->unit_rows;
    const int rows = (int)min64(jb->unit_rows, jb->rows - first);
    const int64_t begin = unit / jb->row_units * jb->unit_panels;
    const int64_t end = min64(begin + jb->unit_panels, parts(m->outputs, S2S_LANES));

    /* 2. The rows, as integers or in blocks, unless they lie so. */
    const matrix_rows x = {number_at(jb->x, first, 0), jb->x.row, jb->x.block, S2S_BLOCK};
    matrix_rows inputs = x;
    if (jb->integer) {
        const ptrdiff_t size = parts(m->inputs, 4) * 4 * (ptrdiff_t)jb->integer->input_size;
        for (int r = 0; r < rows; r++)
            scales[r] = jb->integer->quantise(m->inputs, number_at(x, r, 0), x.block,
                                              m->input_scale, quantised + r * size,
                                              input_sums + r);
    } else if (x.row != S2S_LDA) {
        inputs = (matrix_rows){scratch, S2S_LDA, (ptrdiff_t)rows * S2S_LDA, S2S_BLOCK};
        for (int r = 0; r < rows; r++)
            for (int64_t k = 0; k < m->inputs; k += S2S_BLOCK)
                __builtin_memcpy(number_at(inputs, r, k), number_at(x, r, k),
                                 (size_t)min64(S2S_BLOCK, m->inputs - k) * sizeof(float));
    }

    /* 3. Up to 256 outputs at a time. */
    for (int64_t panel = begin; panel < end; panel += jb->panels_at_once) {
        const int cols = (int)min64(jb->panels_at_once, end - panel);
        const int64_t output = panel * S2S_LANES;
        ask_for_panels(jb->out, first, rows, output, cols); /* what `finish` touches */
        ask_for_panels(jb->other, first, rows, output, cols);
        if (jb->integer)
            integer_products(jb, rows, panel, cols, quantised, scales, input_sums, integers, sums);
        else
            products(jb, rows, panel, cols, inputs, widened, sums);
        const int64_t outputs = min64(cols * S2S_LANES, m->outputs - output);
        for (int64_t j = 0, next; j < outputs; j = next) {
            next = min64(outputs, j + jb->out.width - (output + j) % jb->out.width);
            jb->layer->epilogue(rows, next - j, sums + j, m->bias ? m->bias + output + j : NULL,
                              jb->activation,
                              jb->other.at ? number_at(jb->other, first, output + j) : NULL,
                              jb->other.row, jb->multiply,
                              number_at(jb->out, first, output + j), jb->out.row);
        }
    }
}

/* What a call is, but for the addresses of x, other and out, and how it is cut into units. */
static linear_job prepared(const s2s_matrix *m, const s2s_matrix *next, int isa, int *threads,
                           int activation, int multiply_, int64_t rows)
{
    const int is_integer = m->type == S2S_INT8;
    linear_job jb = {.m = m,
                     .next = next,
                     .kernels = s2s_kernels_of(isa, is_integer ? S2S_FLOAT32 : m->type),
                     .compute = s2s_kernels_of(isa, S2S_FLOAT32),
                     .layer = s2s_layer_kernels_of(isa),
                     .integer = is_integer ? s2s_integer_kernels_of(isa) : NULL,
                     .activation = activation,
                     .multiply = multiply_,
                     .rows = rows,
                     .panels_at_once = BLOCK_PANELS};
    const int64_t row_size =
        is_integer ? parts(m->inputs, 4) * 4 * (int64_t)jb.integer->input_size
                   : max64(1, parts(m->inputs, S2S_BLOCK)) * S2S_LDA * (int64_t)sizeof(float);
    const int step = is_integer ? jb.integer->tile_rows : jb.kernels->tile_rows;
    const int64_t panels = parts(m->outputs, S2S_LANES);
    jb.panel_size = (is_integer ? (ptrdiff_t)parts(m->inputs, 4) * 4
                                : (ptrdiff_t)m->inputs * (ptrdiff_t)jb.kernels->element_size)
                    * S2S_LANES;
    *threads = (int)min64(*threads, 1 + rows * m->inputs * m->outputs / SMALL_WORK);

    /* Units of about the same size, a few to a thread: first by rows, then by panels. */
    int64_t most = max64(1, min64(MOST_ROWS, CACHED_INPUTS / max64(1, row_size)) / step) * step;
    jb.row_units = parts(rows, most);
    jb.unit_rows = min64(parts(parts(rows, jb.row_units), step) * step, rows);
    jb.row_units = parts(rows, jb.unit_rows);
    const int64_t splits = *threads == 1 ? 1 : parts(4 * (int64_t)*threads, jb.row_units);
    jb.unit_panels = panels;
    if (splits > 1)
        jb.unit_panels = min64(panels, parts(parts(panels, splits), ROW_PANELS) * ROW_PANELS);
    jb.units = jb.row_units * parts(panels, jb.unit_panels);

    const size_t block = (size_t)jb.unit_rows * S2S_LDA * sizeof(float);
    jb.sums_at = ((size_t)(jb.unit_rows * row_size) + 63) / 64 * 64;
    jb.integers_at = jb.sums_at + block;
    jb.widened_at = jb.integers_at + (is_integer ? block : 0);
    jb.widens = !is_integer && jb.kernels != jb.compute && jb.unit_rows >= WIDEN_ROWS;
    jb.size = jb.widened_at + (jb.widens ? S2S_BLOCK * S2S_BLOCK * sizeof(float) : 0);
    return jb;
}

int s2s_linear(const s2s_matrix *matrix, const s2s_matrix *next, int isa, int threads,
               int activation, int64_t rows, const float *x, int64_t x_stride, const float *other,
               int64_t other_stride, int multiply_, float *out, int64_t out_stride)
{
    if (rows == 0 || matrix->outputs == 0)
        return S2S_OK;
    linear_job jb = prepared(matrix, next, isa, &threads, activation, multiply_, rows);
    jb.x = in_a_row(x, x_stride);
    jb.other = in_a_row(other, other_stride);
    jb.out = in_a_row(out, out_stride);
    return s2s_run(multiply, &jb, jb.units, threads, jb.size);
}

/* ---- some outputs of a matrix ---- */

void s2s_select(const s2s_matrix *matrix, int64_t count, const int64_t *ids, void *panels)
{
    const s2s_matrix *const m = matrix;
    const int is_integer = m->type == S2S_INT8;
    /* What lies together of one output: a quad of integers, or a float. */
    const int64_t depth = is_integer ? parts(m->inputs, 4) : m->inputs;
    const ptrdiff_t size = is_integer || m->type == S2S_FLOAT32 ? 4 : 2;
    const ptrdiff_t line = S2S_LANES * size;
    const uint32_t zeros = is_integer ? 0x80808080 : 0;
    for (int64_t i = 0; i < parts(count, S2S_LANES) * S2S_LANES; i++) {
        char *const to = (char *)panels + i / S2S_LANES * depth * line + i % S2S_LANES * size;
        const char *const from = i < count ? (const char *)m->panels
                                                 + ids[i] / S2S_LANES * depth * line
                                                 + ids[i] % S2S_LANES * size
                                           : NULL;
        for (int64_t k = 0; k < depth; k++)
            if (size == 4) /* a copy of known size is one instruction */
                __builtin_memcpy(to + k * line, from ? from + k * line : (const char *)&zeros, 4);
            else
                __builtin_memcpy(to + k * line, from ? from + k * line : (const char *)&zeros, 2);
    }
}

/* ---- layers of rows that stand alone ---- */

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n;
    matrix_rows x, out;
    const float *gamma, *beta;
    double eps;
} norm_job;

static void norm_rows(void *job, int64_t unit, void *scratch)
{
    const norm_job *const jb = job;
    (void)scratch;
    for (int64_t r = unit * SOME_ROWS; r < min64(jb->rows, (unit + 1) * SOME_ROWS); r++)
        jb->layer->norm(jb->n, number_at(jb->x, r, 0), jb->x.block, jb->gamma, jb->beta, jb->eps,
                        number_at(jb->out, r, 0), jb->out.block);
}

int s2s_norm(int isa, int threads, int64_t rows, int64_t n, const float *x, const float *gamma,
             const float *beta, double eps, float *out)
{
    norm_job jb = {s2s_layer_kernels_of(isa), rows, n, in_a_row(x, n), in_a_row(out, n),
                   gamma, beta, eps};
    threads = (int)min64(threads, 1 + rows * n * 16 / SMALL_WORK);
    return s2s_run(norm_rows, &jb, parts(rows, SOME_ROWS), threads, 0);
}

/* ---- chains ---- */

typedef struct {
    const s2s_link *links;
    const s2s_place *places;
    int64_t count, rows, unit_rows, panels_at_once;
    int isa;
    size_t links_at; /* in scratch, bytes: after the rows of places without an address */
} chain_job;

/* The linear layer of link i, and the matrix that is read after its own: of the next linear layer,
 * or for other rows of the first. */
static linear_job linear_of(const chain_job *jb, int64_t i, int64_t rows)
{
    const s2s_link *const link = jb->links + i;
    int64_t next = i;
    int threads = 1;
    do
        next = (next + 1) % jb->count;
    while (!jb->links[next].matrix);
    linear_job linear = prepared(link->matrix, jb->links[next].matrix, jb->isa, &threads,
                                 link->activation, link->multiply, rows);
    linear.panels_at_once = jb->panels_at_once;
    return linear;
}

/* How many numbers a unit's rows of a place without an address take. */
static int64_t size_of(const chain_job *jb, int64_t place)
{
    const int64_t blocks = parts(jb->places[place].width, S2S_BLOCK);
    return jb->places[place].rows ? 0 : blocks * jb->unit_rows * S2S_LDA;
}

/* Where the unit's rows of a place are. */
static matrix_rows rows_of(const chain_job *jb, int64_t place, int64_t first, void *scratch)
{
    if (place < 0)
        return (matrix_rows){0};
    const s2s_place *const p = jb->places + place;
    if (p->rows && p->part < p->width)
        return (matrix_rows){p->rows + first * p->part, p->part, jb->rows * p->part, p->part};
    if (p->rows)
        return in_a_row(p->rows + first * p->width, p->width);
    int64_t before = 0;
    for (int64_t i = 0; i < place; i++)
        before += size_of(jb, i);
    return (matrix_rows){(float *)scratch + before, S2S_LDA, jb->unit_rows * S2S_LDA, S2S_BLOCK};
}

static void follow_links(void *job, int64_t unit, void *scratch)
{
    const chain_job *const jb = job;
    const int64_t first = unit * jb->unit_rows, rows = min64(jb->unit_rows, jb->rows - first);
    for (int64_t i = 0; i < jb->count; i++) {
        const s2s_link *const link = jb->links + i;
        const matrix_rows x = rows_of(jb, link->x, first, scratch);
        const matrix_rows out = rows_of(jb, link->out, first, scratch);
        if (link->matrix) {
            linear_job linear = linear_of(jb, i, rows);
            linear.x = x;
            linear.other = rows_of(jb, link->other, first, scratch);
            linear.out = out;
            for (int64_t u = 0; u < linear.units; u++)
                multiply(&linear, u, (char *)scratch + jb->links_at);
        } else {
            norm_job norm = {s2s_layer_kernels_of(jb->isa), rows, jb->places[link->x].width, x,
                             out, link->gamma, link->beta, link->eps};
            for (int64_t u = 0; u < parts(rows, SOME_ROWS); u++)
                norm_rows(&norm, u, NULL);
        }
    }
}

int s2s_chain(const s2s_link *links, int64_t count, const s2s_place *places, int64_t place_count,
              int isa, int threads, int64_t rows)
{
    if (rows == 0)
        return S2S_OK;
    chain_job jb = {.links = links, .places = places, .count = count, .rows = rows, .isa = isa,
                    .panels_at_once = CHAIN_PANELS};
    /* A few units to a thread, all of about the same size: of few rows, unless it takes many to be
     * worth the reading, or widening, of the weights. */
    const int step = s2s_kernels_of(isa, S2S_FLOAT32)->tile_rows;
    int64_t most = CHAIN_ROWS, bytes = 0;
    for (int64_t i = 0; i < count; i++) {
        const s2s_matrix *const m = links[i].matrix;
        bytes += m ? m->inputs * m->outputs * (m->type == S2S_INT8 ? 1 : 4) : 0;
        if (bytes > CACHED_WEIGHTS || (m && m->type != S2S_INT8 && m->type != S2S_FLOAT32)) {
            most = MOST_ROWS;
            jb.panels_at_once = BLOCK_PANELS;
        }
    }
    most = min64(most, threads == 1 ? rows : parts(rows, 4 * threads));
    jb.unit_rows = parts(parts(rows, parts(rows, most)), step) * step;
    for (int64_t i = 0; i < place_count; i++)
        jb.links_at += (size_t)size_of(&jb, i) * sizeof(float);
    const int64_t units = parts(rows, jb.unit_rows);
    const int64_t sizes[] = {min64(rows, jb.unit_rows), rows - (units - 1) * jb.unit_rows};
    size_t size = 0;
    for (int64_t i = 0; i < count; i++)
        for (int last = 0; links[i].matrix && last < 2; last++) { /* which may have fewer rows */
            const size_t needed = linear_of(&jb, i, sizes[last]).size;
            size = needed > size ? needed : size;
        }
    return s2s_run(follow_links, &jb, units, threads, jb.links_at + size);
}

/* ---- units that remember, and the likeliest tokens ---- */

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n;
    const float *gates, *cell, *other;
    float *new_cell, *out;
} recur_job;

static void recur_rows(void *job, int64_t unit, void *scratch)
{
    const recur_job *const jb = job;
    (void)unit;
    (void)scratch;
    for (int64_t r = 0; r < jb->rows; r++)
        jb->layer->ssru_step(jb->n, jb->gates + 2 * r * jb->n, jb->cell + r * jb->n,
                         jb->other + r * jb->n, jb->new_cell + r * jb->n, jb->out + r * jb->n);
}

int s2s_recur(int isa, int64_t rows, int64_t n, const float *gates, const float *cell,
              const float *other, float *new_cell, float *out)
{
    recur_job jb = {s2s_layer_kernels_of(isa), rows, n, gates, cell, other, new_cell, out};
    return s2s_run(recur_rows, &jb, 1, 1, 0);
}

typedef struct {
    const s2s_layer_kernels *layer;
    int64_t rows, n, stride;
    const float *logits;
    int k;
    int64_t *ids;
    float *log_probabilities, *statistics;
} best_job;

static void best_of_row(void *job, int64_t r, void *scratch)
{
    const best_job *const jb = job;
    (void)scratch;
    /* The next row is asked for while this one's exponentials are computed. */
    const ptrdiff_t next = r + 1 < jb->rows ? jb->stride * (ptrdiff_t)sizeof(float) : 0;
    jb->layer->topk_log_softmax(jb->n, jb->logits + r * jb->stride, next, jb->k, jb->ids + r * jb->k,
                    jb->log_probabilities + r * jb->k, jb->statistics + 2 * r);
}

int s2s_best(int isa, int threads, int64_t rows, int64_t n, const float *logits, int64_t stride,
             int k, int64_t *ids, float *log_probabilities, float *statistics)
{
    best_job jb = {s2s_layer_kernels_of(isa), rows, n, stride, logits, k, ids, log_probabilities,
                   statistics};
    threads = (int)min64(threads, 1 + rows * n * 8 / SMALL_WORK);
    return s2s_run(best_of_row, &jb, rows, threads, 0);
}
