/* The contract between the frames (attention.c) and the kernels that are compiled once per
 * instruction set (isa/kernels.c): one table of functions for each set and element type.
 *
 * Matrices pass as void pointers to elements of the table's type. Strides count elements.
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

enum { S2S_LANES = 16, S2S_BLOCK = 256, S2S_LDA = S2S_BLOCK + S2S_LANES };

typedef struct {
    size_t element_size;
    int tile_rows; /* the number of rows at which `tile` is at its fastest */

    /* rows [count <= 16][depth], `stride` apart -> panel [depth][16]; missing rows become zeros. */
    void (*pack)(const void *rows, ptrdiff_t stride, int count, int64_t depth, void *panel);

    /* a: one block [rows][depth <= 256]; b: `cols` panels of [depth][16], panel g at
     * b + g * b_panel, its lines b_stride apart; c: [rows][16 * cols], rows c_stride apart.
     * c = a * b, each element added left to right over depth from +0; with `add`, c + that; then
     * times `scale`. */
    void (*tile)(int rows, int cols, const void *a, const void *b, ptrdiff_t b_stride,
                 ptrdiff_t b_panel, int depth, void *c, ptrdiff_t c_stride, int add,
                 double scale);

    /* One row of scores, in blocks `block_stride` apart: plus bias, -inf where mask is zero.
     * Returns the greatest; NaN is passed over, since it shows in the weights. bias and mask may be
     * null; their steps are 0 or one element. */
    double (*mask_scores)(void *row, ptrdiff_t block_stride, int64_t visible, const void *bias,
                          ptrdiff_t bias_step, const uint8_t *mask, ptrdiff_t mask_step);

    /* The same row becomes weights, exp(score - greatest). The keys whose score is -inf, and those
     * from `visible` to `width` (a multiple of 16), are hidden: their weight is -0, while a visible
     * one's that underflowed is +0, so that the two can be told apart. Returns the row sum of the
     * weights, 0 if the row sees no key. */
    double (*weigh)(void *row, ptrdiff_t block_stride, int64_t visible, int64_t width,
                    double greatest);

    /* out = x / sum over n elements, NaN canonical; returns non-zero if there was a NaN. */
    int (*divide)(const void *x, double sum, int64_t n, void *out);

    /* The context of one row again, without touching the values of hidden keys:
     * context[0..value_width) = ordered sum of weight * value over the visible keys. */
    void (*context_visible)(const void *row, ptrdiff_t block_stride, int64_t keys,
                            const void *value, ptrdiff_t value_stride, int64_t value_width,
                            void *context);
} s2s_kernels;

/* By enum s2s_type. A set that was not compiled has no table: see dispatch.c. */
extern const s2s_kernels s2s_kernels_generic[2];
extern const s2s_kernels s2s_kernels_avx2[2];
extern const s2s_kernels s2s_kernels_avx512[2];
extern const s2s_kernels s2s_kernels_neon[2];

const s2s_kernels *s2s_kernels_of(int isa, int type);

#endif
