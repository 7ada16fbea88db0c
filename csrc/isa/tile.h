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
            prefetch_l2(rows + k, (ahead + row) * stride * (int)sizeof *rows);
            prefetch_l1(rows + k, (2 * S2S_LANES + row) * stride * (int)sizeof *rows);
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

static void S(pack_keys)(const void *rows, ptrdiff_t stride, int count, int64_t depth, ptrdiff_t ahead,
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

static void S(pack_values)(const void *rows, ptrdiff_t stride, int count, int64_t width, ptrdiff_t ahead,
                     void *panels)
{
    const ELEMENT *from = rows;
    REAL *to = panels;
    for (int i = 0; i < count; i++, from += stride, to += S2S_LANES)
        for (int64_t c = 0; c < width; c += S2S_LANES) {
            REAL *const line = to + c * S2S_BLOCK;
            prefetch_l2(from + c, ahead * stride * (int)sizeof *from);
            if (c + S2S_LANES <= width)
                T(store)(line, S(load_wide)(from + c));
            else
                for (int lane = 0; lane < S2S_LANES; lane++)
                    line[lane] = c + lane < width ? S(wide)(from[c + lane]) : 0;
        }
}

/* What a product works on: kernels.h says of small_dot and tile what each is. */
typedef struct {
    const REAL *a;
    const ELEMENT *b;
    ptrdiff_t b_stride, b_panel, ahead;
    int depth;
    REAL *c;
    ptrdiff_t c_stride;
    int add;
    double scale;
} S(product);

/* Dot products of a few rows with two panels' worth of keys, transposed in registers on the way: a
 * panel that so few rows use is not worth storing. Two, since each adds in turn. */
static ALWAYS_INLINE void S(small_dot_of)(const int rows, const S(product) *p)
{
    const ELEMENT *const keys = p->b;
    const ptrdiff_t stride = p->b_stride;
    T(vec) acc[2][4];
    UNROLLED(i, 2 * rows)
        acc[i / rows][i % rows] = T(set1)(0);
    int k = 0;
    for (; k + S(COLUMNS) <= p->depth; k += S(COLUMNS))
        UNROLLED(g, 2) {
            T(vec) column[S(COLUMNS)];
            S(columns)(keys + g * S2S_LANES * stride, stride, k, p->ahead, column);
            UNROLLED(i, S(COLUMNS))
                UNROLLED(r, rows)
                    acc[g][r] = T(add)(acc[g][r],
                                       T(mul)(T(set1)(p->a[r * S2S_LDA + k + i]), column[i]));
        }
    for (; k < p->depth; k++)
        for (int g = 0; g < 2; g++) {
            REAL column[S2S_LANES];
            S(gather)(keys + g * S2S_LANES * stride + k, stride, S2S_LANES, column);
            UNROLLED(r, rows)
                acc[g][r] = T(add)(acc[g][r],
                                   T(mul)(T(set1)(p->a[r * S2S_LDA + k]), T(load)(column)));
        }
    UNROLLED(i, 2 * rows) {
        const int g = i / rows, r = i % rows;
        REAL *to = p->c + r * p->c_stride + g * S2S_LANES;
        const T(vec) sum = p->add ? T(add)(T(load)(to), acc[g][r]) : acc[g][r];
        T(store)(to, T(mul)(sum, T(set1)((REAL)p->scale)));
    }
}

static void S(small_dot)(int rows, const void *a, const void *keys, ptrdiff_t stride, int depth,
                         ptrdiff_t ahead, void *c, ptrdiff_t c_stride, int add, double scale)
{
    S(product) p = {.a = a, .b = keys, .b_stride = stride, .ahead = ahead, .depth = depth,
                    .c = c, .c_stride = c_stride, .add = add, .scale = scale};
    if (T(WIDTH) == 1) /* a vector is sixteen scalars: several rows at once gain nothing */
        for (; rows > 0; rows--, p.a += S2S_LDA, p.c += c_stride)
            S(small_dot_of)(1, &p);
    else if (rows == 1)
        S(small_dot_of)(1, &p);
    else if (rows == 2)
        S(small_dot_of)(T(WIDTH) == 1 ? 1 : 2, &p);
    else if (rows == 3)
        S(small_dot_of)(T(WIDTH) == 1 ? 1 : 3, &p);
    else
        S(small_dot_of)(T(WIDTH) == 1 ? 1 : 4, &p);
}

/* The tile of `rows` rows and the `cols` panels from g on. Both are constants wherever this is
 * called, so that acc lives in registers, and so is `scaled`: nothing is multiplied by 1 where that
 * would be felt. */
static ALWAYS_INLINE void S(tile_of)(const int rows, const int cols, const int scaled,
                                     const S(product) *p, int g0)
{
    const ELEMENT *const b = p->b + g0 * p->b_panel;
    REAL *const c = p->c + g0 * S2S_LANES;
    T(vec) acc[32];
    UNROLLED(i, rows * cols)
        acc[i] = T(set1)(0);
    for (int k = 0; k < p->depth; k++) {
        UNROLLED(g, cols) {
            const ELEMENT *at = b + k * p->b_stride + g * p->b_panel;
            const T(vec) line = S(load_wide)(at);
            prefetch_l2(at, p->ahead * (int)sizeof *at);
            if (rows >= PREFETCH_ROWS)
                prefetch_l1(at, LINES_AHEAD * p->b_stride * (int)sizeof *at);
            UNROLLED(r, rows)
                acc[r * cols + g] =
                    T(add)(acc[r * cols + g], T(mul)(T(set1)(p->a[r * S2S_LDA + k]), line));
        }
    }
    UNROLLED(r, rows)
        UNROLLED(g, cols) {
            REAL *to = c + r * p->c_stride + g * S2S_LANES;
            const T(vec) sum = p->add ? T(add)(T(load)(to), acc[r * cols + g]) : acc[r * cols + g];
            T(store)(to, scaled ? T(mul)(sum, T(set1)((REAL)p->scale)) : sum);
        }
}

/* Tiles of `rows` rows, the same constant as in tile_of, over the panels from g on, one by one. */
static ALWAYS_INLINE int S(row_of_tiles)(const int rows, const int scaled, const S(product) *p,
                                         int g, int cols)
{
    for (; g < cols; g++)
        S(tile_of)(rows, 1, scaled, p, g);
    return rows;
}

/* One row has too few sums to keep the adder busy: as many panels at once as may be. */
static ALWAYS_INLINE int S(one_row)(const S(product) *p, int g, int cols)
{
    enum { MAX = T(MAX_COLS) };
    for (int next; g < cols; g = next) {
        next = cols - g < MAX ? cols : g + MAX;
        switch (next - g) {
        case 1: S(tile_of)(1, 1, 1, p, g); break;
        case 2: S(tile_of)(1, 2, 1, p, g); break;
        case 3: S(tile_of)(1, 3, 1, p, g); break;
        case 4: S(tile_of)(1, 4, 1, p, g); break;
        case 5: S(tile_of)(1, MAX < 5 ? 1 : 5, 1, p, g); break;
        case 6: S(tile_of)(1, MAX < 6 ? 1 : 6, 1, p, g); break;
        case 7: S(tile_of)(1, MAX < 7 ? 1 : 7, 1, p, g); break;
        default: S(tile_of)(1, MAX, 1, p, g); break;
        }
    }
    return g;
}

/* Two to T(FEW_ROWS) rows: four panels at once. Returns the first panel that is left. */
static ALWAYS_INLINE int S(few_rows)(int rows, const S(product) *p, int g, int cols)
{
    enum { FEW = T(FEW_ROWS) };
    for (; rows > 1 && rows <= FEW && g + 4 <= cols; g += 4) {
        if (FEW >= 4 && rows == 4)
            S(tile_of)(FEW >= 4 ? 4 : 1, 4, 1, p, g);
        else if (FEW >= 4 && rows == 3)
            S(tile_of)(FEW >= 4 ? 3 : 1, 4, 1, p, g);
        else
            S(tile_of)(FEW >= 2 ? 2 : 1, 4, 1, p, g);
    }
    return g;
}

static void S(tile)(int rows, int cols, const void *a, const void *b, ptrdiff_t b_stride,
                    ptrdiff_t b_panel, ptrdiff_t ahead, int depth, void *c, ptrdiff_t c_stride,
                    int add, double scale)
{
    enum { MAX = T(ROWS) };
    S(product) p = {a, b, b_stride, b_panel, ahead, depth, c, c_stride, add, scale};
    /* Rows outside: their part of `a` stays in the first-level cache for all panels. */
    for (int done; rows > 0; rows -= done, p.a += done * S2S_LDA, p.c += done * c_stride) {
        int g = 0;
        if (rows == 1)
            g = S(one_row)(&p, g, cols);
        g = S(few_rows)(rows, &p, g, cols);
        if (rows >= MAX && scale == 1)
            done = S(row_of_tiles)(MAX, 0, &p, g, cols);
        else if (takes(24, MAX, rows))
            done = S(row_of_tiles)(24 <= MAX ? 24 : 1, 1, &p, g, cols);
        else if (takes(16, MAX, rows))
            done = S(row_of_tiles)(16 <= MAX ? 16 : 1, 1, &p, g, cols);
        else if (takes(12, MAX, rows))
            done = S(row_of_tiles)(12 <= MAX ? 12 : 1, 1, &p, g, cols);
        else if (takes(8, MAX, rows))
            done = S(row_of_tiles)(8 <= MAX ? 8 : 1, 1, &p, g, cols);
        else if (takes(6, MAX, rows))
            done = S(row_of_tiles)(6 <= MAX ? 6 : 1, 1, &p, g, cols);
        else if (takes(4, MAX, rows))
            done = S(row_of_tiles)(4 <= MAX ? 4 : 1, 1, &p, g, cols);
        else if (takes(3, MAX, rows))
            done = S(row_of_tiles)(3 <= MAX ? 3 : 1, 1, &p, g, cols);
        else if (takes(2, MAX, rows))
            done = S(row_of_tiles)(2 <= MAX ? 2 : 1, 1, &p, g, cols);
        else
            done = S(row_of_tiles)(1, 1, &p, g, cols);
    }
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

static int S(normalize)(const void *x_, double sum_, int64_t n, void *out_)
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
