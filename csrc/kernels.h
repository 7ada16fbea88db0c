/* The contract between the drivers (attention.c, layers.c, row_blocks.c) and the kernels that are compiled once
 * per instruction set (isa/kernels.c): one table of functions for each set and element type.
 *
 * An element type is how numbers lie in the caller's arrays; the compute type is what they are
 * widened to, exactly, before anything happens to them: float for the half types, else the same.
 * Matrices pass as void pointers. Strides count elements. `ahead` is a prefetch distance: how many
 * rows or elements further on lies what is needed soon. Nothing need be there.
 *
 * "Panel": sixteen rows of a matrix transposed, [depth][16], so that lane r is row r.
 * "Block": up to 256 columns of a matrix's rows, S2S_LDA elements from row to row. The 256 is the
 * contract's: ordered sums are cut there. The fixed distance lets the compiler reach every row of
 * a tile from one address register, and its odd number of cache lines spreads rows over the cache.
 */
#ifndef S2S_KERNELS_H
#define S2S_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "seq2seq_fast.h"

enum { S2S_LANES = 16, S2S_BLOCK = 256, S2S_LDA = S2S_BLOCK + S2S_LANES, S2S_DOT_ROWS = 4 };
enum { CACHE_LINE = 64 };

/* Prefetches what lies `bytes` from p, where nothing need be. Into the second-level cache, which can
 * have more requests under way than the first. */
static inline void prefetch_l2(const void *p, ptrdiff_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 0, 2);
}

typedef struct {
    size_t element_size;
    int compute_type; /* enum s2s_type */
    int tile_rows;    /* the number of rows at which `tile` is at its fastest */

    /* ---- where elements come in: widened to the compute type ---- */

    /* from [n] elements -> to [n]. */
    void (*widen)(const void *from, int64_t n, void *to);

    /* rows [count <= 16][depth] of elements, `stride` apart -> panel [depth][16]; missing rows
     * become zeros. `ahead` counts rows. */
    void (*pack_keys)(const void *rows, ptrdiff_t stride, int count, int64_t depth,
                      ptrdiff_t ahead, void *panel);

    /* rows [count <= 256][width] of elements, `stride` apart -> panels of sixteen columns, each
     * [256][16], of which `count` lines are written; missing columns become zeros. `ahead` counts
     * rows. */
    void (*pack_values)(const void *rows, ptrdiff_t stride, int count, int64_t width,
                        ptrdiff_t ahead, void *panels);

    /* What `pack_keys` of 32 rows and `tile` would give, for up to S2S_DOT_ROWS rows of `a`. */
    void (*small_dot)(int rows, const void *a, const void *keys, ptrdiff_t stride, int depth,
                      ptrdiff_t ahead, void *c, ptrdiff_t c_stride, int add, double scale);

    /* a: one block [rows][depth <= 256]; b: `cols` panels [depth][16] of elements, panel g at
     * b + g * b_panel, its lines b_stride apart; c: [rows][16 * cols], rows c_stride apart.
     * c = a * b, each number added left to right over depth from +0; with `add`, c + that; then
     * times `scale`. `ahead` counts elements of b. */
    void (*tile)(int rows, int cols, const void *a, const void *b, ptrdiff_t b_stride,
                 ptrdiff_t b_panel, ptrdiff_t ahead, int depth, void *c, ptrdiff_t c_stride,
                 int add, double scale);

    /* context[0..width) += one row's block of weights times the values of the visible keys, added
     * left to right from +0; hidden keys are those with a score of -inf. */
    void (*context_visible)(const void *scores, const void *weights, int keys, const void *value,
                            ptrdiff_t value_stride, int64_t width, void *context);

    /* ---- where elements go out: rounded from the compute type ---- */

    /* out = x / sum over n elements, NaN canonical; returns non-zero if there was a NaN. */
    int (*normalize)(const void *x, double sum, int64_t n, void *out);

    /* ---- between: one block of scores, S2S_LDA from row to row, all in the compute type ----
     * A row's visible keys are [from, to) of the block, which is empty where from >= to. */

    /* One row: cap * tanh(score / cap). */
    void (*softcap)(void *row, int from, int to, double cap);

    /* One row: plus bias, -inf where mask is zero or bias is -inf, whatever the score. bias and mask
     * point to the block's first key and may be null; their steps are 0 or one element. */
    void (*mask)(void *row, int from, int to, const void *bias, ptrdiff_t bias_step,
                 const uint8_t *mask, ptrdiff_t mask_step);

    /* Each row: hidden scores beside the visible ones become -inf, so that `exp_and_sum` need not
     * look at its borders; row_max[r] is raised to the row's greatest score. NaN is passed over,
     * since it shows in the weights. */
    void (*row_max)(int rows, void *scores, const int *from, const int *to, double *row_max);

    /* Each row: exp(score - row_max) in place, 0 for hidden keys from `begin` to `end` (multiples
     * of 16). sums[r] grows by the block's row sum. */
    void (*exp_and_sum)(int rows, void *scores, const int *from, const int *to, int begin, int end,
                        const double *row_max, double *sums);

    /* sum + exp(sink - row_max). */
    double (*add_sink)(double sum, double sink, double row_max);
} s2s_kernels;

/* The layers of models, in float. Rows need not be padded, but for `c` and weight_scales. */
typedef struct {
    /* The epilogue of a linear layer: out [rows][cols] = activation(c + bias), plus the operand, a
     * residual, or times it, a gate. c is a block. bias and operand may be null. */
    void (*epilogue)(int rows, int64_t cols, const float *c, const float *bias, int activation,
                     const float *operand, ptrdiff_t operand_stride, int is_gate, float *out,
                     ptrdiff_t out_stride);

    /* One row [n], its blocks of 256 so far apart: layer norm; without beta, RMS norm. */
    void (*norm)(int64_t n, const float *x, ptrdiff_t x_block, const float *gamma,
                 const float *beta, double eps, float *out, ptrdiff_t out_block);

    /* One row of an SSRU: gates [2 n] are the candidate and the forget gate's argument. */
    void (*ssru_step)(int64_t n, const float *gates, const float *cell, const float *residual,
                      float *new_cell, float *out);

    /* One row of logits [n]: the k <= n greatest, in order, with their log-probabilities;
     * statistics: what is subtracted from a logit, and then again, to give its own. `ahead` counts
     * bytes. */
    void (*topk_log_softmax)(int64_t n, const float *x, ptrdiff_t ahead, int k, int64_t *ids,
                             float *log_probabilities, float *statistics);
} s2s_layer_kernels;

/* Products of eight-bit integers, exact in 32 bits. Weights lie in panels [inputs / 4][16][4], plus
 * 128; inputs as `quantise` leaves them. In attention the keys are the weights, and behind each
 * panel lie the sixteen keys' factors: 1 / a key's scale. */
typedef struct {
    size_t input_size; /* bytes of one input */
    int tile_rows;     /* the number of rows at which `tile` is at its fastest */

    /* to [n rounded up to 4] = x * scale, rounded to -127 .. 127; a scale of 0 stands for the
     * row's own. Returns the scale, NaN if the row is not finite; sum: of the integers. The blocks of x
     * are x_block apart. */
    float (*quantise)(int64_t n, const float *x, ptrdiff_t x_block, float scale, void *to,
                      int32_t *sum);

    /* c: block of sums; a: rows a_stride inputs apart; `ahead` counts bytes of b. */
    void (*tile)(int rows, int cols, const void *a, ptrdiff_t a_stride, const uint8_t *b,
                 ptrdiff_t b_panel, ptrdiff_t ahead, int64_t quads, int32_t *c);

    /* Blocks of sums to blocks of numbers, cols <= 256. */
    void (*dequantise)(int rows, int cols, const int32_t *c, const float *scales,
                       const int32_t *sums, const float *weight_scales, float *out);

    /* rows [count <= 16][width], `stride` apart, each with its own scale -> panel and factors;
     * missing rows become zeros. `ahead` counts rows. */
    void (*pack_keys)(const float *rows, ptrdiff_t stride, int count, int64_t width,
                      ptrdiff_t ahead, uint8_t *panel);

    /* Blocks of sums of `cols` panels to scores: a sum times (scale / the row's * the key's
     * factor). factors: of the first panel, those of the others b_panel bytes apart. */
    void (*score)(int rows, int cols, const int32_t *c, const float *scales, const int32_t *sums,
                  double scale, const uint8_t *factors, ptrdiff_t b_panel, float *out);
} s2s_integer_kernels;

/* By enum s2s_type. A set that was not compiled has no table: see dispatch.c. */
extern const s2s_kernels s2s_kernels_generic[S2S_FLOAT_TYPES];
extern const s2s_kernels s2s_kernels_avx2[S2S_FLOAT_TYPES];
extern const s2s_kernels s2s_kernels_avx512[S2S_FLOAT_TYPES];
extern const s2s_kernels s2s_kernels_neon[S2S_FLOAT_TYPES];

extern const s2s_layer_kernels s2s_layer_kernels_generic, s2s_layer_kernels_avx2;
extern const s2s_layer_kernels s2s_layer_kernels_avx512, s2s_layer_kernels_neon;
extern const s2s_integer_kernels s2s_integer_kernels_generic, s2s_integer_kernels_avx2;
extern const s2s_integer_kernels s2s_integer_kernels_avx512_vnni, s2s_integer_kernels_neon;

static inline int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* How many parts of at most `size` make n. */
static inline int64_t parts(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

static inline int64_t round_up(int64_t n, int64_t step)
{
    return parts(n, step) * step;
}

const s2s_kernels *s2s_kernels_of(int isa, int type);
const s2s_layer_kernels *s2s_layer_kernels_of(int isa);
const s2s_integer_kernels *s2s_integer_kernels_of(int isa);

#endif
