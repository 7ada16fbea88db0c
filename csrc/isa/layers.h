/* What the layers of models do beside matrix products, in float (see lanes.h for the vectors;
 * kernels.h says what each function is for; seq2seq_fast/contract what each computes). */

/* ---- activations ---- */

/* 1 / (1 + exp(-x)), from an exponential that cannot overflow. */
static ALWAYS_INLINE void sigmoid(const int vecs, f32_group *x)
{
    const f32_vec zero = f32_set1(0), one = f32_set1(1);
    f32_group e;
    UNROLLED(i, vecs) e.v[i] = f32_copysign(x->v[i], f32_set1(-1));
    f32_exp_to_one(vecs, &e);
    UNROLLED(i, vecs) x->v[i] = f32_div(f32_if_less(x->v[i], zero, e.v[i], one), f32_add(one, e.v[i]));
}

/* |x| times the polynomial of its piece. */
static MATH_INLINE void error_function(const int vecs, f32_group *x)
{
    static const float table[][S2S_LANES] = {ERF_TABLE};
    const f32_vec most = f32_set1(ERF_MOST), magic = f32_set1(WHOLE_MAGIC);
    f32_group a, d, index, y;
    UNROLLED(i, vecs) a.v[i] = f32_min(most, f32_abs(x->v[i]));
    UNROLLED(i, vecs) d.v[i] = f32_sub(f32_mul(a.v[i], f32_set1(4)), f32_set1(0.5f));
    UNROLLED(i, vecs) index.v[i] = f32_add(d.v[i], magic);
    UNROLLED(i, vecs) d.v[i] = f32_sub(d.v[i], f32_sub(index.v[i], magic));
    UNROLLED(i, vecs) y.v[i] = f32_lookup(table[0], index.v[i]);
    UNROLL for (int c = 1; c < (int)(sizeof table / sizeof *table); c++)
        UNROLLED(i, vecs) y.v[i] = f32_add(f32_mul(y.v[i], d.v[i]), f32_lookup(table[c], index.v[i]));
    UNROLLED(i, vecs) y.v[i] = f32_mul(a.v[i], y.v[i]);
    UNROLLED(i, vecs) x->v[i] = f32_copysign(y.v[i], x->v[i]);
}

/* x * (1 + y) / 2. */
static ALWAYS_INLINE void half_of_one_plus(const int vecs, f32_group *x, const f32_group *y)
{
    UNROLLED(i, vecs) x->v[i] = f32_mul(f32_mul(x->v[i], f32_set1(0.5f)),
                               f32_add(f32_set1(1), y->v[i]));
}

static ALWAYS_INLINE void activate(const int vecs, int activation, f32_group *x)
{
    const f32_vec zero = f32_set1(0);
    f32_group y = *x;
    switch (activation) {
    case S2S_RELU: UNROLLED(i, vecs) x->v[i] = f32_if_less(x->v[i], zero, zero, x->v[i]); break;
    case S2S_GELU:
        UNROLLED(i, vecs) y.v[i] = f32_mul(x->v[i], f32_set1(GELU_ROOT));
        error_function(vecs, &y);
        half_of_one_plus(vecs, x, &y);
        break;
    case S2S_GELU_TANH:
        UNROLLED(i, vecs) y.v[i] = f32_mul(f32_mul(x->v[i], x->v[i]), x->v[i]);
        UNROLLED(i, vecs) y.v[i] = f32_add(x->v[i], f32_mul(f32_set1(GELU_CUBE), y.v[i]));
        UNROLLED(i, vecs) y.v[i] = f32_mul(f32_set1(GELU_TANH), y.v[i]);
        f32_tanh(vecs, &y);
        half_of_one_plus(vecs, x, &y);
        break;
    case S2S_GELU_SIGMOID:
        UNROLLED(i, vecs) y.v[i] = f32_mul(f32_set1(GELU_SIGMOID), x->v[i]);
        sigmoid(vecs, &y);
        UNROLLED(i, vecs) x->v[i] = f32_mul(x->v[i], y.v[i]);
        break;
    case S2S_SILU:
        sigmoid(vecs, &y);
        UNROLLED(i, vecs) x->v[i] = f32_mul(x->v[i], y.v[i]);
        break;
    case S2S_TANH: f32_tanh(vecs, x); break;
    case S2S_SIGMOID: sigmoid(vecs, x); break;
    default: break;
    }
}

/* ---- rows whose length need not be a multiple of sixteen, and whose blocks may lie apart ---- */

/* Where the block that begins with number `at` of a row is, its blocks so far apart. */
static inline const float *block_of(const float *row, int64_t at, ptrdiff_t distance)
{
    return row + at / S2S_BLOCK * distance;
}

static inline f32_vec load_part(const float *p, int64_t n, float rest)
{
    float lanes[S2S_LANES];
    for (int i = 0; i < S2S_LANES; i++)
        lanes[i] = i < n ? p[i] : rest;
    return f32_load(lanes);
}

/* The vector at p, of which the row has n > 0 numbers left. */
static ALWAYS_INLINE f32_vec load_row(const float *p, int64_t n, float rest)
{
    return n >= S2S_LANES ? f32_load(p) : load_part(p, n, rest);
}

/* What leaves the kernel: NaN becomes the canonical one. */
static ALWAYS_INLINE void store_row(float *p, int64_t n, f32_vec x)
{
    x = f32_if_equal(x, x, x, f32_set1(NAN));
    if (n >= S2S_LANES) {
        f32_store(p, x);
        return;
    }
    float lanes[S2S_LANES];
    f32_store(lanes, x);
    memcpy(p, lanes, (size_t)n * sizeof *p);
}

/* ---- the epilogue of a linear layer ---- */

/* `left` numbers of a row, up to a vector or a group of them. */
static ALWAYS_INLINE void epilogue_step(const int vecs, const float *c, int64_t left,
                                        const float *bias, int activation, const float *operand,
                                        int is_gate, float *out)
{
    f32_group y;
    UNROLLED(i, vecs) y.v[i] = f32_load(c + i * S2S_LANES);
    if (bias)
        UNROLLED(i, vecs)
            y.v[i] = f32_add(y.v[i], load_row(bias + i * S2S_LANES, left - i * S2S_LANES, 0));
    activate(vecs, activation, &y);
    UNROLLED(i, vecs) {
        const int64_t n = left - i * S2S_LANES;
        if (operand) {
            const f32_vec o = load_row(operand + i * S2S_LANES, n, 0);
            y.v[i] = is_gate ? f32_mul(y.v[i], o) : f32_add(y.v[i], o);
        }
        store_row(out + i * S2S_LANES, n, y.v[i]);
    }
}

static void epilogue(int rows, int64_t cols, const float *c, const float *bias, int activation,
                     const float *operand, ptrdiff_t operand_stride, int is_gate, float *out,
                     ptrdiff_t out_stride)
{
    for (int r = 0; r < rows; r++) {
        int64_t j = 0;
        for (; j + f32_step <= cols; j += f32_step)
            epilogue_step(f32_GROUP_VECS, c + j, f32_step, bias ? bias + j : NULL, activation,
                          operand ? operand + j : NULL, is_gate, out + j);
        for (; j < cols; j += S2S_LANES)
            epilogue_step(1, c + j, cols - j, bias ? bias + j : NULL, activation,
                          operand ? operand + j : NULL, is_gate, out + j);
        c += S2S_LDA;
        operand = operand ? operand + operand_stride : NULL;
        out += out_stride;
    }
}

/* ---- norms ---- */

/* The row sum of (x - shift) or of its square, where `square`. */
static ALWAYS_INLINE float row_sum(const int square, const float *x, ptrdiff_t x_block, int64_t n,
                                   float shift)
{
    float total = 0;
    for (int64_t at = 0, count; count = min64(n - at, S2S_BLOCK), at < n; at += S2S_BLOCK) {
        const float *const block = block_of(x, at, x_block);
        f32_vec lanes = f32_set1(0);
        for (int64_t j = 0; j < count; j += S2S_LANES) {
            const f32_vec y = f32_sub(load_row(block + j, count - j, shift), f32_set1(shift));
            lanes = f32_add(lanes, square ? f32_mul(y, y) : y);
        }
        total = total + f32_fold_add(lanes);
    }
    return total;
}

static void norm(int64_t n, const float *x, ptrdiff_t x_block, const float *gamma,
                 const float *beta, double eps, float *out, ptrdiff_t out_block)
{
    const float number = (float)n;
    const float mean = beta ? row_sum(0, x, x_block, n, 0) / number : 0;
    const f32_vec root =
        f32_set1(sqrtf(row_sum(1, x, x_block, n, mean) / number + (float)eps));
    for (int64_t at = 0, count; count = min64(n - at, S2S_BLOCK), at < n; at += S2S_BLOCK) {
        const float *const block = block_of(x, at, x_block);
        float *const to = out + at / S2S_BLOCK * out_block;
        for (int64_t j = 0; j < count; j += S2S_LANES) {
            f32_vec y = f32_div(f32_sub(load_row(block + j, count - j, 0), f32_set1(mean)), root);
            y = f32_mul(y, load_row(gamma + at + j, count - j, 0));
            if (beta)
                y = f32_add(y, load_row(beta + at + j, count - j, 0));
            store_row(to + j, count - j, y);
        }
    }
}

/* ---- recurrence ---- */

static void ssru_step(int64_t n, const float *gates, const float *cell, const float *residual,
                      float *new_cell, float *out)
{
    for (int64_t j = 0; j < n; j += S2S_LANES) {
        const int64_t left = n - j;
        const f32_vec zero = f32_set1(0);
        f32_group f;
        f.v[0] = load_row(gates + n + j, left, 0);
        sigmoid(1, &f);
        const f32_vec kept = f32_mul(f.v[0], load_row(cell + j, left, 0));
        const f32_vec fresh = f32_mul(f32_sub(f32_set1(1), f.v[0]), load_row(gates + j, left, 0));
        const f32_vec c = f32_add(kept, fresh);
        store_row(new_cell + j, left, c);
        store_row(out + j, left,
                  f32_add(load_row(residual + j, left, 0), f32_if_less(c, zero, zero, c)));
    }
}

/* ---- the likeliest tokens ---- */

static float logarithm(float x)
{
    /* x = 2^k (1 + f); the steps and constants are the contract's, for positive normal numbers. */
    const uint32_t root = float_to_bits(LOG_ROOT);
    const int32_t exponent = (int32_t)(float_to_bits(x) - root) >> 23;
    const float f = bits_to_float(float_to_bits(x) - ((uint32_t)exponent << 23)) - 1;
    const float k = (float)exponent, s = f / (2 + f), z = s * s;
    float series = 0;
    for (int i = 5; i > 0; i--)
        series = (series + (float)(2.0 / (2 * i + 1))) * z;
    const float half = (0.5f * f) * f;
    const float low = s * (half + series) + k * f32_LN2_LOW;
    const float result = k * f32_LN2_HIGH - ((half - low) - f);
    return x > 0 && x < INFINITY ? result : x == 0 ? -INFINITY : NAN;
}

/* Whether any of n numbers, n a multiple of sixteen, is greater; NaN is not. */
static ALWAYS_INLINE int any_above(const float *x, const int n, float least)
{
    f32_vec most = f32_max(f32_load(x), f32_set1(-INFINITY));
    UNROLL for (int i = S2S_LANES; i < n; i += S2S_LANES)
        most = f32_max(f32_load(x + i), most);
    return f32_fold_max(most) > least;
}

/* The k greatest of n numbers, in order, of equal ones the first; NaN counts as -inf. Few numbers are
 * greater than those found so far: blocks, then vectors that have none are passed over. */
static ALWAYS_INLINE void top_k(int64_t n, const float *x, int k, int64_t *ids, float *values)
{
    int found = 0;
    float least = -INFINITY;
    for (int64_t j = 0, end; j < n; j = end) {
        end = n < j + S2S_BLOCK ? n : j + S2S_BLOCK;
        if (found == k && end - j == S2S_BLOCK && !any_above(x + j, S2S_BLOCK, least))
            continue;
        end = n < j + S2S_LANES ? n : j + S2S_LANES;
        if (found == k && end - j == S2S_LANES && !any_above(x + j, S2S_LANES, least))
            continue;
        for (int64_t i = j; i < end; i++) {
            const float value = x[i] == x[i] ? x[i] : -INFINITY;
            if (found == k && !(value > least))
                continue;
            int at = found < k ? found++ : k - 1;
            for (; at > 0 && values[at - 1] < value; at--) {
                values[at] = values[at - 1];
                ids[at] = ids[at - 1];
            }
            values[at] = value;
            ids[at] = i;
            least = values[found - 1];
        }
    }
}

/* lanes += exp(x - shift) of up to `vecs` vectors, of which the block has `left` numbers. */
static ALWAYS_INLINE f32_vec sum_exp_step(const int vecs, const float *x, int64_t left,
                                          float shift, ptrdiff_t ahead, f32_vec lanes)
{
    f32_group e;
    for (int i = 0; i < vecs; i++) {
        prefetch_l2(x + i * S2S_LANES, ahead);
        e.v[i] = f32_sub(load_row(x + i * S2S_LANES, left - i * S2S_LANES, -INFINITY),
                         f32_set1(shift));
    }
    f32_exp_to_one(vecs, &e);
    for (int i = 0; i < vecs; i++)
        lanes = f32_add(lanes, e.v[i]);
    return lanes;
}

static ALWAYS_INLINE float sum_exp(int64_t n, const float *x, float shift, ptrdiff_t ahead)
{
    float total = 0;
    for (int64_t block = 0; block < n; block += S2S_BLOCK) {
        const int64_t end = n < block + S2S_BLOCK ? n : block + S2S_BLOCK;
        f32_vec lanes = f32_set1(0);
        int64_t j = block;
        for (; j + f32_step <= end; j += f32_step)
            lanes = sum_exp_step(f32_GROUP_VECS, x + j, end - j, shift, ahead, lanes);
        for (; j < end; j += S2S_LANES)
            lanes = sum_exp_step(1, x + j, end - j, shift, ahead, lanes);
        total = total + f32_fold_add(lanes);
    }
    return total;
}

static void topk_log_softmax(int64_t n, const float *x, ptrdiff_t ahead, int k, int64_t *ids,
                             float *log_probabilities, float *statistics)
{
    top_k(n, x, k, ids, log_probabilities);
    const float shift = log_probabilities[0] == -INFINITY ? 0 : log_probabilities[0];
    statistics[0] = shift;
    statistics[1] = logarithm(sum_exp(n, x, shift, ahead));
    for (int i = 0; i < k; i++) {
        const float y = (log_probabilities[i] - shift) - statistics[1];
        if (log_probabilities[i] != -INFINITY) /* where nothing is possible, neither is this */
            log_probabilities[i] = y == y ? y : NAN;
    }
}

/* ---- eight-bit integers ---- */

/* The integers next to x * scale, from -127 to 127, which a row's own scale does not leave. */
static ALWAYS_INLINE f32_vec rounded(f32_vec x, float scale, const int is_own)
{
    const f32_vec least = f32_set1(-127), most = f32_set1(127), magic = f32_set1(WHOLE_MAGIC);
    x = f32_mul(x, f32_set1(scale));
    if (!is_own) {
        x = f32_if_less(x, least, least, x);
        x = f32_if_less(most, x, most, x);
    }
    return f32_sub(f32_add(x, magic), magic);
}

/* A row's own scale, NaN if it is not finite. */
static float scale_of(int64_t n, const float *x, ptrdiff_t x_block)
{
    const f32_vec zero = f32_set1(0);
    f32_vec most = zero, broken = zero; /* broken: NaN if any number is not finite, else 0 */
    for (int64_t at = 0, count; count = min64(n - at, S2S_BLOCK), at < n; at += S2S_BLOCK) {
        for (int64_t i = 0; i < count; i += S2S_LANES) {
            const f32_vec y = load_row(block_of(x, at, x_block) + i, count - i, 0);
            most = f32_max(f32_abs(y), most);
            broken = f32_add(broken, f32_mul(y, zero));
        }
    }
    const float greatest =
        f32_fold_max(f32_if_equal(broken, broken, most, f32_set1(INFINITY))); /* in one fold */
    return greatest < INFINITY ? 127 / (greatest > I8_LEAST ? greatest : I8_LEAST) : NAN;
}

/* Up to 256 finite numbers to integers, whose sum is returned, in loops that vectorise. */
static ALWAYS_INLINE int32_t integers_of(int count, const float *x, float scale, const int is_own,
                                         i8_input *to)
{
    float whole[S2S_BLOCK];
    int32_t total = 0;
    for (int i = 0; i < count; i += S2S_LANES)
        f32_store(whole + i, rounded(load_row(x + i, count - i, 0), scale, is_own));
    for (int i = 0; i < count; i++) {
        const int32_t q = (int32_t)whole[i];
        to[i] = (i8_input)q;
        total += q;
    }
    return total;
}

static float quantise(int64_t n, const float *x, ptrdiff_t x_block, float scale, void *to_,
                      int32_t *sum)
{
    i8_input *const to = to_;
    const float own = scale_of(n, x, x_block);
    const int64_t finite = own == own ? n : 0;
    const int is_own = scale == 0;
    if (is_own || own != own)
        scale = own;
    *sum = 0;
    for (int64_t at = 0, count; count = min64(finite - at, S2S_BLOCK), at < finite; at += S2S_BLOCK) {
        const float *const block = block_of(x, at, x_block);
        *sum += is_own ? integers_of((int)count, block, scale, 1, to + at)
                       : integers_of((int)count, block, scale, 0, to + at);
    }
    for (int64_t i = finite; i < (n + 3) / 4 * 4; i++)
        to[i] = 0;
    return scale;
}

static void pack_integer_keys(const float *rows, ptrdiff_t stride, int count, int64_t width,
                              ptrdiff_t ahead, uint8_t *panel)
{
    const int64_t quads = (width + 3) / 4;
    float *const factors = (float *)(panel + quads * 4 * S2S_LANES);
    memset(panel, 128, (size_t)(quads * 4 * S2S_LANES));
    for (int lane = 0; lane < S2S_LANES; lane++) {
        const float *const row = lane < count ? rows + lane * stride : NULL;
        const float scale = row ? scale_of(width, row, S2S_BLOCK) : 1;
        factors[lane] = 1 / scale;
        for (int64_t i = 0; row && scale == scale && i < width; i += S2S_BLOCK) {
            const int n = (int)(width - i < S2S_BLOCK ? width - i : S2S_BLOCK);
            i8_input whole[S2S_BLOCK];
            uint8_t bytes[S2S_BLOCK];
            integers_of(n, row + i, scale, 1, whole);
            for (int j = 0; j < n; j++)
                bytes[j] = (uint8_t)(whole[j] + 128);
            for (int j = n; j % 4; j++)
                bytes[j] = 128;
            for (int j = 0; j < n; j += 4)
                memcpy(panel + ((i + j) / 4 * S2S_LANES + lane) * 4, bytes + j, 4);
            for (int j = 0; j < n; j += S2S_LANES)
                prefetch_l2(row + i + j, ahead * stride * (int)sizeof *row);
        }
    }
}

/* What a product of integers works on: see s2s_integer_kernels.tile. */
typedef struct {
    const i8_input *a;
    ptrdiff_t a_stride;
    const uint8_t *b;
    ptrdiff_t b_panel, ahead;
    int64_t quads;
    int32_t *c;
} integer_product;

/* As tile.h's tile_of: `rows` rows and the `cols` panels from g0 on. */
I8_TARGET static ALWAYS_INLINE void integer_tile_of(const int rows, const int cols,
                                                    const integer_product *p, int g0)
{
    const uint8_t *const b = p->b + g0 * p->b_panel;
    int32_t *const c = p->c + g0 * S2S_LANES;
    i8_sums acc[I8_ROWS > I8_COLS ? I8_ROWS : I8_COLS];
    UNROLLED(i, rows * cols)
        acc[i] = i8_zero();
    for (int64_t k = 0; k < p->quads; k++) {
        i8_line line[I8_COLS];
        UNROLLED(g, cols) {
            const uint8_t *at = b + g * p->b_panel + k * 4 * S2S_LANES;
            line[g] = i8_load(at);
            prefetch_l2(at, p->ahead);
        }
        UNROLLED(r, rows)
            UNROLLED(g, cols)
                acc[r * cols + g] =
                    i8_step(acc[r * cols + g], line[g], p->a + r * p->a_stride + 4 * k);
    }
    UNROLLED(r, rows)
        UNROLLED(g, cols)
            i8_store(c + r * S2S_LDA + g * S2S_LANES, acc[r * cols + g]);
}

I8_TARGET static ALWAYS_INLINE int row_of_integer_tiles(const int rows, const int cols,
                                                        const integer_product *p, int *g, int end)
{
    for (; *g + cols <= end; *g += cols)
        integer_tile_of(rows, cols, p, *g);
    return rows;
}

I8_TARGET static void integer_tile(int rows, int cols, const void *a, ptrdiff_t a_stride,
                                   const uint8_t *b, ptrdiff_t b_panel, ptrdiff_t ahead,
                                   int64_t quads, int32_t *c)
{
    enum { MAX = I8_ROWS, PAIR = I8_PAIR_ROWS > 0 ? I8_PAIR_ROWS : 1 };
    integer_product p = {a, a_stride, b, b_panel, ahead, quads, c};
    for (int done; rows > 0; rows -= done, p.a += done * a_stride, p.c += done * S2S_LDA) {
        int g = 0;
        if (rows == 1)
            row_of_integer_tiles(1, I8_COLS, &p, &g, cols);
        if (I8_PAIR_ROWS > 0 && rows >= PAIR) {
            row_of_integer_tiles(PAIR, I8_PAIR_ROWS > 0 ? 2 : 1, &p, &g, cols);
            done = row_of_integer_tiles(PAIR, 1, &p, &g, cols);
        } else if (takes(8, MAX, rows))
            done = row_of_integer_tiles(8 <= MAX ? 8 : 1, 1, &p, &g, cols);
        else if (takes(6, MAX, rows))
            done = row_of_integer_tiles(6 <= MAX ? 6 : 1, 1, &p, &g, cols);
        else if (takes(4, MAX, rows))
            done = row_of_integer_tiles(4 <= MAX ? 4 : 1, 1, &p, &g, cols);
        else if (takes(3, MAX, rows))
            done = row_of_integer_tiles(3 <= MAX ? 3 : 1, 1, &p, &g, cols);
        else if (takes(2, MAX, rows))
            done = row_of_integer_tiles(2 <= MAX ? 2 : 1, 1, &p, &g, cols);
        else
            done = row_of_integer_tiles(1, 1, &p, &g, cols);
    }
}

static void dequantise(int rows, int cols, const int32_t *c, const float *scales,
                       const int32_t *sums, const float *weight_scales, float *out)
{
    float factor[S2S_BLOCK];
    for (int r = 0; r < rows; r++, c += S2S_LDA, out += S2S_LDA) {
        /* Rows of one scale (a published model's own) share their factors. */
        if (r == 0 || memcmp(scales + r, scales + r - 1, sizeof *scales) != 0)
            for (int j = 0; j < cols; j++)
                factor[j] = 1 / (scales[r] * weight_scales[j]);
        const int32_t offset = 128 * sums[r]; /* weights are stored plus 128 */
        for (int j = 0; j < cols; j++)
            out[j] = (float)(c[j] - offset) * factor[j];
    }
}

static void score_integers(int rows, int cols, const int32_t *c, const float *scales,
                           const int32_t *sums, double scale, const uint8_t *factors,
                           ptrdiff_t b_panel, float *out)
{
    float of_keys[S2S_BLOCK];
    for (int g = 0; g < cols; g++)
        memcpy(of_keys + g * S2S_LANES, factors + g * b_panel, S2S_LANES * sizeof *of_keys);
    for (int r = 0; r < rows; r++, c += S2S_LDA, out += S2S_LDA) {
        const float factor = (float)scale / scales[r];
        const int32_t offset = 128 * sums[r]; /* keys are stored plus 128 */
        for (int j = 0; j < cols * S2S_LANES; j++)
            out[j] = (float)(c[j] - offset) * (factor * of_keys[j]);
    }
}
