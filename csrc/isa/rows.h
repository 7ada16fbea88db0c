/* What happens to the scores of one block (template, see lanes.h; kernels.h says what each function
 * is for). The loops written in plain C are element-wise: compilers vectorise them, and cannot
 * change a bit. */

enum { T(step) = T(GROUP_VECS) * S2S_LANES }; /* numbers of a group: a divisor of S2S_BLOCK */
#define LANES_DOWN(n) ((n) / S2S_LANES * S2S_LANES)
#define LANES_UP(n) LANES_DOWN((n) + S2S_LANES - 1)

static ALWAYS_INLINE void T(softcap_step)(const int vecs, REAL *row, T(vec) cap)
{
    T(group) s;
    UNROLLED(i, vecs) s.v[i] = T(div)(T(load)(row + i * S2S_LANES), cap);
    T(tanh)(vecs, &s);
    UNROLLED(i, vecs) T(store)(row + i * S2S_LANES, T(mul)(cap, s.v[i]));
}

static void T(softcap)(void *row_, int from, int to, double cap_)
{
    REAL *row = row_;
    const T(vec) cap = T(set1)((REAL)cap_);
    int j = LANES_DOWN(from);
    for (; j + T(step) <= to; j += T(step))
        T(softcap_step)(T(GROUP_VECS), row + j, cap);
    for (; j < to; j += S2S_LANES)
        T(softcap_step)(1, row + j, cap);
}

static void T(mask)(void *row_, int from, int to, const void *bias_, ptrdiff_t bias_step,
                    const uint8_t *mask, ptrdiff_t mask_step)
{
    const REAL hidden = -(REAL)INFINITY;
    REAL *row = row_;
    const REAL *bias = bias_;
    /* A bias of -inf hides its pair whatever the score, which may be NaN. In a loop of its own: one
     * that adds and compares is not vectorised. */
    if (bias && bias_step) {
        for (int j = from; j < to; j++)
            row[j] = row[j] + bias[j];
        for (int j = from; j < to; j++)
            row[j] = bias[j] == hidden ? hidden : row[j];
    } else if (bias) {
        for (int j = from; j < to; j++)
            row[j] = *bias == hidden ? hidden : row[j] + *bias;
    }
    if (mask && mask_step)
        for (int j = from; j < to; j++)
            row[j] = mask[j] ? row[j] : hidden;
    else if (mask && !*mask)
        for (int j = from; j < to; j++)
            row[j] = hidden;
}

static void T(row_max)(int rows, void *scores, const int *from, const int *to, double *row_max)
{
    REAL *row = scores;
    for (int r = 0; r < rows; r++, row += S2S_LDA) {
        if (from[r] >= to[r])
            continue;
        const int begin = LANES_DOWN(from[r]), end = LANES_UP(to[r]);
        for (int j = begin; j < from[r]; j++)
            row[j] = -(REAL)INFINITY;
        for (int j = to[r]; j < end; j++)
            row[j] = -(REAL)INFINITY;
        const int vecs = T(GROUP_VECS);
        T(group) most;
        UNROLLED(i, vecs) most.v[i] = T(set1)((REAL)row_max[r]);
        int j = begin;
        for (; j + T(step) <= end; j += T(step))
            UNROLLED(i, vecs) most.v[i] = T(max)(T(load)(row + j + i * S2S_LANES), most.v[i]);
        for (; j < end; j += S2S_LANES)
            most.v[0] = T(max)(T(load)(row + j), most.v[0]);
        for (int i = 1; i < T(GROUP_VECS); i++)
            most.v[0] = T(max)(most.v[0], most.v[i]);
        row_max[r] = (double)T(fold_max)(most.v[0]);
    }
}

/* Scores become weights, which the lanes sum up. */
static ALWAYS_INLINE T(vec) T(exp_and_sum_step)(const int vecs, REAL *row, T(vec) most, T(vec) lanes)
{
    T(group) weights;
    UNROLLED(i, vecs) weights.v[i] = T(sub)(T(load)(row + i * S2S_LANES), most);
    T(exp_to_one)(vecs, &weights);
    UNROLLED(i, vecs) {
        lanes = T(add)(lanes, weights.v[i]);
        T(store)(row + i * S2S_LANES, weights.v[i]);
    }
    return lanes;
}

static void T(exp_and_sum)(int rows, void *scores, const int *from, const int *to, int begin, int end,
                     const double *row_max, double *sums)
{
    REAL *row = scores;
    for (int r = 0; r < rows; r++, row += S2S_LDA) {
        /* Nothing visible, or only NaN: -inf - -inf would hide which. */
        const T(vec) most = T(set1)(row_max[r] == -INFINITY ? 0 : (REAL)row_max[r]);
        const int first = from[r] < to[r] ? LANES_DOWN(from[r]) : end;
        const int last = from[r] < to[r] ? LANES_UP(to[r]) : end;
        T(vec) lanes = T(set1)(0);
        int j = begin;
        for (; j < first; j += S2S_LANES)
            T(store)(row + j, T(set1)(0));
        for (; j + T(step) <= last; j += T(step))
            lanes = T(exp_and_sum_step)(T(GROUP_VECS), row + j, most, lanes);
        for (; j < last; j += S2S_LANES)
            lanes = T(exp_and_sum_step)(1, row + j, most, lanes);
        for (; j < end; j += S2S_LANES)
            T(store)(row + j, T(set1)(0));
        sums[r] = (double)((REAL)sums[r] + T(fold_add)(lanes));
    }
}

static double T(add_sink)(double sum, double sink, double row_max)
{
    REAL weights[S2S_LANES];
    T(group) x;
    x.v[0] = T(set1)((REAL)sink - (REAL)row_max);
    T(exp_to_one)(1, &x);
    T(store)(weights, x.v[0]);
    return (double)((REAL)sum + weights[0]);
}
#undef LANES_DOWN
#undef LANES_UP
