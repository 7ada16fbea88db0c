/* The textbook-order matrix tile, and the other ways of elements in and out. A template: kernels.c
 * includes it once per element type, with S(x) = f16_x or the like, T(x) = f32_x or f64_x for the
 * compute type, and ELEMENT for how a number lies in the caller's arrays.
 *
 *              panel b [depth][16]
 *                 | b0 b1 ... b15 |      a vector of sixteen outputs' factors
 *     a[r][k] --> | acc[r][0..15] |      acc[r] = acc[r] + a[r][k] * b[k]
 *
 * Lanes are different outputs, so that each output adds its terms from left to right at any
 * vector width. With one panel and many rows the broadcast of a[r][k] folds into the multiply;
 * with few rows, several panels give the adder enough independent sums. */

static ALWAYS_INLINE T(vec) S(load_wide)(const ELEMENT *p)
{
    T(vec) a;
    for (int i = 0; i < T(regs); i++)
        a.r[i] = S(r_load)(p + i * T(WIDTH));
    return a;
}

static void S(widen)(const void *from_, int64_t n, void *to_)
{
    const ELEMENT *from = from_;
    REAL *to = to_;
    int64_t i = 0;
    for (; i + S2S_LANES <= n; i += S2S_LANES)
        T(store)(to + i, S(load_wide)(from + i));
    for (; i < n; i++)
        to[i] = S(wide)(from[i]);
}

/* The next S(COLUMNS) features of sixteen rows, transposed. A quarter of the lines that the sixteen
 * rows from `ahead` on have there is asked for: four steps take 64 bytes of each row. Those of the
 * rows that come after the next sixteen go on into the first-level cache. */
static ALWAYS_INLINE void S(columns)(const ELEMENT *rows, ptrdiff_t stride, int64_t k,
                                     ptrdiff_t ahead, T(vec) *column)
{
    enum { STEPS = CACHE_LINE / (S(COLUMNS) * (int)sizeof(ELEMENT)) };
    if (STEPS == 4)
        for (int i = 0; i < 4; i++) {
            const ptrdiff_t row = 4 * (k / S(COLUMNS) % 4) + i;
            ask_for(rows + k, (ahead + row) * stride * (int)sizeof *rows);
            fetch(rows + k, (2 * S2S_LANES + row) * stride * (int)sizeof *rows);
        }
    for (int lane = 0; lane < S2S_LANES; lane += T(WIDTH)) {
        T(reg) part[S(COLUMNS)];
        S(r_columns)(rows + lane * stride + k, stride, part);
        for (int i = 0; i < S(COLUMNS); i++)
            column[i].r[lane / T(WIDTH)] = part[i];
    }
}

/* One feature of `count` <= 16 rows to lanes, the others zero: what no transposing load is for. A
 * function of its own, since it is rare and compilers make much of it. */
static NOINLINE void S(gather)(const ELEMENT *rows, ptrdiff_t stride, int count, REAL *lanes)
{
    for (int lane = 0; lane < S2S_LANES; lane++)
        lanes[lane] = lane < count ? S(wide)(rows[lane * stride]) : 0;
}

static void S(pack)(const void *rows, ptrdiff_t stride, int count, int64_t depth, ptrdiff_t ahead,
                    void *panel)
{
    const ELEMENT *from = rows;
    REAL *to = panel;
    int64_t k = 0;
    if (count == S2S_LANES)
        for (; k + S(COLUMNS) <= depth; k += S(COLUMNS)) {
            T(vec) column[S(COLUMNS)];
            S(columns)(from, stride, k, ahead, column);
            for (int i = 0; i < S(COLUMNS); i++)
                T(store)(to + (k + i) * S2S_LANES, column[i]);
        }
    for (; k < depth; k++)
        S(gather)(from + k, stride, count, to + k * S2S_LANES);
}

static void S(split)(const void *rows, ptrdiff_t stride, int count, int64_t width, ptrdiff_t ahead,
                     void *panels)
{
    const ELEMENT *from = rows;
    REAL *to = panels;
    for (int i = 0; i < count; i++, from += stride, to += S2S_LANES)
        for (int64_t c = 0; c < width; c += S2S_LANES) {
            REAL *const line = to + c * S2S_BLOCK;
            ask_for(from + c, ahead * stride * (int)sizeof *from);
            if (c + S2S_LANES <= width)
                T(store)(line, S(load_wide)(from + c));
            else
                for (int lane = 0; lane < S2S_LANES; lane++)
                    line[lane] = c + lane < width ? S(wide)(from[c + lane]) : 0;
        }
}

/* Dot products of a few rows with two panels' worth of keys, transposed in registers on the way: a
 * panel that so few rows use is not worth storing. Two, since each adds in turn. */
static ALWAYS_INLINE void S(dots_of)(const int rows, const REAL *a, const ELEMENT *keys,
                                     ptrdiff_t stride, int depth, ptrdiff_t ahead, REAL *c,
                                     ptrdiff_t c_stride, int add, double scale)
{
    T(vec) acc[2][4];
    UNROLL for (int i = 0; i < 2 * rows; i++)
        acc[i / rows][i % rows] = T(set1)(0);
    int k = 0;
    for (; k + S(COLUMNS) <= depth; k += S(COLUMNS))
        UNROLL for (int g = 0; g < 2; g++) {
            T(vec) column[S(COLUMNS)];
            S(columns)(keys + g * S2S_LANES * stride, stride, k, ahead, column);
            UNROLL for (int i = 0; i < S(COLUMNS); i++)
                UNROLL for (int r = 0; r < rows; r++)
                    acc[g][r] = T(add)(acc[g][r],
                                       T(mul)(T(set1)(a[r * S2S_LDA + k + i]), column[i]));
        }
    for (; k < depth; k++)
        for (int g = 0; g < 2; g++) {
            REAL column[S2S_LANES];
            S(gather)(keys + g * S2S_LANES * stride + k, stride, S2S_LANES, column);
            UNROLL for (int r = 0; r < rows; r++)
                acc[g][r] = T(add)(acc[g][r],
                                   T(mul)(T(set1)(a[r * S2S_LDA + k]), T(load)(column)));
        }
    UNROLL for (int i = 0; i < 2 * rows; i++) {
        const int g = i / rows, r = i % rows;
        REAL *to = c + r * c_stride + g * S2S_LANES;
        const T(vec) sum = add ? T(add)(T(load)(to), acc[g][r]) : acc[g][r];
        T(store)(to, T(mul)(sum, T(set1)((REAL)scale)));
    }
}

static void S(dots)(int rows, const void *a, const void *keys, ptrdiff_t stride, int depth,
                    ptrdiff_t ahead, void *c, ptrdiff_t c_stride, int add, double scale)
{
#define DOTS(R) S(dots_of)(R, a, keys, stride, depth, ahead, c, c_stride, add, scale)
#if f32_WIDTH == 1
    for (; rows > 0; rows--, a = (const REAL *)a + S2S_LDA, c = (REAL *)c + c_stride)
        DOTS(1);
#else
    if (rows == 1)
        DOTS(1);
    else if (rows == 2)
        DOTS(2);
    else if (rows == 3)
        DOTS(3);
    else
        DOTS(4);
#endif
#undef DOTS
}

/* `rows` and `cols` are constants wherever this is called, so that acc lives in registers, and so is
 * `scaled`: nothing is multiplied by 1 where that would be felt. */
static ALWAYS_INLINE void S(tile_of)(const int rows, const int cols, const REAL *a,
                                     const ELEMENT *b, ptrdiff_t b_stride, ptrdiff_t b_panel,
                                     ptrdiff_t ahead, int depth, REAL *c, ptrdiff_t c_stride,
                                     int add, const int scaled, double scale)
{
    T(vec) acc[32];
    UNROLL for (int i = 0; i < rows * cols; i++)
        acc[i] = T(set1)(0);
    for (int k = 0; k < depth; k++) {
        UNROLL for (int g = 0; g < cols; g++) {
            const ELEMENT *at = b + k * b_stride + g * b_panel;
            const T(vec) line = S(load_wide)(at);
            ask_for(at, ahead * (int)sizeof *at);
            if (rows >= MANY_ROWS)
                fetch(at, LINES_AHEAD * b_stride * (int)sizeof *at);
            UNROLL for (int r = 0; r < rows; r++)
                acc[r * cols + g] =
                    T(add)(acc[r * cols + g], T(mul)(T(set1)(a[r * S2S_LDA + k]), line));
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int g = 0; g < cols; g++) {
            REAL *to = c + r * c_stride + g * S2S_LANES;
            const T(vec) sum = add ? T(add)(T(load)(to), acc[r * cols + g]) : acc[r * cols + g];
            T(store)(to, scaled ? T(mul)(sum, T(set1)((REAL)scale)) : sum);
        }
}

static void S(tile)(int rows, int cols, const void *a_, const void *b_, ptrdiff_t b_stride,
                    ptrdiff_t b_panel, ptrdiff_t ahead, int depth, void *c_, ptrdiff_t c_stride,
                    int add, double scale)
{
    const REAL *a = a_;
    const ELEMENT *b = b_;
    REAL *c = c_;
#define TILE_OF(R, C, SCALED)                                                                      \
    S(tile_of)(R, C, a, b + g * b_panel, b_stride, b_panel, ahead, depth, c + g * S2S_LANES,       \
               c_stride, add, SCALED, scale)
#define TILE(R, C) TILE_OF(R, C, 1)
    /* Rows outside: their part of `a` stays in the first-level cache for all panels. */
    for (int done; rows > 0; rows -= done, a += done * S2S_LDA, c += done * c_stride) {
        int g = 0;
        /* One row has too few sums to keep the adder busy: as many panels at once as may be. */
        for (int next; rows == 1 && g < cols; g = next) {
            next = cols - g < T(MOST_COLS) ? cols : g + T(MOST_COLS);
            switch (next - g) {
            case 1: TILE(1, 1); break;
            case 2: TILE(1, 2); break;
            case 3: TILE(1, 3); break;
            case 4: TILE(1, 4); break;
            case 5: TILE(1, T(MOST_COLS) < 5 ? 1 : 5); break;
            case 6: TILE(1, T(MOST_COLS) < 6 ? 1 : 6); break;
            case 7: TILE(1, T(MOST_COLS) < 7 ? 1 : 7); break;
            default: TILE(1, T(MOST_COLS)); break;
            }
        }
        for (; rows > 1 && rows <= T(FEW_ROWS) && g + 4 <= cols; g += 4) {
            if (T(FEW_ROWS) >= 4 && rows == 4)
                TILE(T(FEW_ROWS) >= 4 ? 4 : 1, 4);
            else if (T(FEW_ROWS) >= 4 && rows == 3)
                TILE(T(FEW_ROWS) >= 4 ? 3 : 1, 4);
            else
                TILE(T(FEW_ROWS) >= 2 ? 2 : 1, 4);
        }
        if (rows >= T(ROWS) && scale == 1) {
            done = T(ROWS);
            for (; g < cols; g++)
                TILE_OF(T(ROWS), 1, 0);
        } else
            MOST_ROWS_OF(T(ROWS))
    }
#undef TILE
#undef TILE_OF
}

static void S(context_visible)(const void *scores_, const void *weights_, int keys,
                               const void *value_, ptrdiff_t value_stride, int64_t width,
                               void *context_)
{
    const REAL *scores = scores_, *weights = weights_;
    const ELEMENT *value = value_;
    REAL *context = context_;
    for (int64_t c = 0; c < width; c++) {
        REAL sum = 0;
        for (int j = 0; j < keys; j++)
            if (scores[j] != -(REAL)INFINITY)
                sum = sum + weights[j] * S(wide)(value[j * value_stride + c]);
        context[c] = context[c] + sum;
    }
}

static int S(divide)(const void *x_, double sum_, int64_t n, void *out_)
{
    const REAL *x = x_;
    const REAL sum = (REAL)sum_;
    ELEMENT *out = out_;
    int nan = 0;
    for (int64_t i = 0; i < n; i++) {
        const REAL y = x[i] / sum;
        nan |= y != y;
        out[i] = S(narrow)(y != y ? (REAL)NAN : y);
    }
    return nan;
}
