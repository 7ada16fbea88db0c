/* The textbook-order matrix tile and the packing that feeds it (template, see lanes.h).
 *
 *              panel b [depth][16]
 *                 | b0 b1 ... b15 |      a vector of sixteen outputs' factors
 *     a[r][k] --> | acc[r][0..15] |      acc[r] = acc[r] + a[r][k] * b[k]
 *
 * Lanes are different outputs, so that each output adds its terms from left to right at any
 * vector width. With one panel and many rows the broadcast of a[r][k] folds into the multiply;
 * with few rows, several panels give the adder enough independent sums. */

static void T(pack)(const void *rows, ptrdiff_t stride, int count, int64_t depth, void *panel)
{
    const REAL *from = rows;
    REAL *to = panel;
    int64_t k = 0;
    if (count == S2S_LANES)
        for (; k + WIDTH <= depth; k += WIDTH)
            for (int lane = 0; lane < S2S_LANES; lane += WIDTH) {
                T(reg) block[WIDTH];
                for (int i = 0; i < WIDTH; i++)
                    block[i] = T(r_load)(from + (lane + i) * stride + k);
                T(r_transpose)(block);
                for (int i = 0; i < WIDTH; i++)
                    T(r_store)(to + (k + i) * S2S_LANES + lane, block[i]);
            }
    for (; k < depth; k++)
        for (int lane = 0; lane < S2S_LANES; lane++)
            to[k * S2S_LANES + lane] = lane < count ? from[lane * stride + k] : 0;
}

/* `rows` and `cols` are constants wherever this is called, so that acc lives in registers. */
static ALWAYS_INLINE void T(tile_of)(const int rows, const int cols, const REAL *a, const REAL *b,
                                     ptrdiff_t b_stride, ptrdiff_t b_panel, int depth, REAL *c,
                                     ptrdiff_t c_stride, int add, double scale)
{
    T(vec) acc[32];
    UNROLL for (int i = 0; i < rows * cols; i++)
        acc[i] = T(set1)(0);
    for (int k = 0; k < depth; k++) {
        UNROLL for (int g = 0; g < cols; g++) {
            const T(vec) line = T(load)(b + k * b_stride + g * b_panel);
            UNROLL for (int r = 0; r < rows; r++)
                acc[r * cols + g] =
                    T(add)(acc[r * cols + g], T(mul)(T(set1)(a[r * S2S_LDA + k]), line));
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int g = 0; g < cols; g++) {
            REAL *to = c + r * c_stride + g * S2S_LANES;
            const T(vec) sum = add ? T(add)(T(load)(to), acc[r * cols + g]) : acc[r * cols + g];
            T(store)(to, T(mul)(sum, T(set1)((REAL)scale)));
        }
}

static void T(tile)(int rows, int cols, const void *a_, const void *b_, ptrdiff_t b_stride,
                    ptrdiff_t b_panel, int depth, void *c_, ptrdiff_t c_stride, int add,
                    double scale)
{
    const REAL *a = a_, *b = b_;
    REAL *c = c_;
#define TILE(R, C)                                                                                 \
    case R:                                                                                        \
        T(tile_of)(R, C, a, b + g * b_panel, b_stride, b_panel, depth, c + g * S2S_LANES,          \
                   c_stride, add, scale);                                                          \
        break;
    int g = 0;
    if (rows <= FEW_ROWS)
        for (; g + FEW_COLS <= cols; g += FEW_COLS)
            switch (rows) {
                TILE(1, FEW_COLS)
#if FEW_ROWS >= 2
                TILE(2, FEW_COLS)
#endif
#if FEW_ROWS >= 4
                TILE(3, FEW_COLS)
                TILE(4, FEW_COLS)
#endif
            }
    /* Rows outside: their part of `a` stays in the first-level cache for all panels. */
    for (const int first = g; rows > 0; rows -= ROWS, a += ROWS * S2S_LDA, c += ROWS * c_stride)
        for (g = first; g < cols; g++)
            switch (rows) {
                TILE(1, 1)
#if ROWS > 2
                TILE(2, 1)
                TILE(3, 1)
#endif
#if ROWS > 4
                TILE(4, 1)
                TILE(5, 1)
#endif
#if ROWS > 6
                TILE(6, 1)
                TILE(7, 1)
                TILE(8, 1)
                TILE(9, 1)
                TILE(10, 1)
                TILE(11, 1)
#endif
#if ROWS > 12
                TILE(12, 1)
                TILE(13, 1)
                TILE(14, 1)
                TILE(15, 1)
                TILE(16, 1)
                TILE(17, 1)
                TILE(18, 1)
                TILE(19, 1)
                TILE(20, 1)
                TILE(21, 1)
                TILE(22, 1)
                TILE(23, 1)
#endif
            default:
                T(tile_of)(ROWS, 1, a, b + g * b_panel, b_stride, b_panel, depth,
                           c + g * S2S_LANES, c_stride, add, scale);
            }
#undef TILE
}
