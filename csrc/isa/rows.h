/* What happens to one row of scores and one row of context (template, see lanes.h). The loops
 * written in plain C are element-wise: compilers vectorise them, and cannot change a bit. */

#ifndef STEP
#define STEP (GROUP_VECS * S2S_LANES) /* a divisor of S2S_BLOCK */
#endif

static double T(mask_scores)(void *row_, ptrdiff_t block_stride, int64_t visible, const void *bias_,
                             ptrdiff_t bias_step, const uint8_t *mask, ptrdiff_t mask_step)
{
    REAL *row = row_;
    const REAL *bias = bias_;
    const T(vec) hidden = T(set1)(-INFINITY);
    T(group) greatest;
    EACH_VEC greatest.v[i] = hidden;
    for (int64_t start = 0; start < visible; start += S2S_BLOCK) {
        REAL *s = row + start / S2S_BLOCK * block_stride;
        const int n = visible - start < S2S_BLOCK ? (int)(visible - start) : S2S_BLOCK;
        if (bias && bias_step)
            for (int j = 0; j < n; j++)
                s[j] = s[j] + bias[start + j];
        else if (bias)
            for (int j = 0; j < n; j++)
                s[j] = s[j] + *bias;
        if (mask && mask_step)
            for (int j = 0; j < n; j++)
                s[j] = mask[start + j] ? s[j] : -INFINITY;
        else if (mask && !*mask)
            for (int j = 0; j < n; j++)
                s[j] = -INFINITY;
        int past = n;
        for (; past % S2S_LANES; past++)
            s[past] = -INFINITY;
        for (; past % STEP; past += S2S_LANES)
            T(store)(s + past, hidden);
        for (int j = 0; j < n; j += STEP)
            EACH_VEC greatest.v[i] = T(max)(T(load)(s + j + i * S2S_LANES), greatest.v[i]);
    }
    for (int i = 1; i < GROUP_VECS; i++)
        greatest.v[0] = T(max)(greatest.v[0], greatest.v[i]);
    return (double)T(fold_max)(greatest.v[0]);
}

static double T(weigh)(void *row_, ptrdiff_t block_stride, int64_t visible, int64_t width,
                       double greatest)
{
    REAL *row = row_;
    /* Nothing visible, or only NaN: -inf - -inf would hide which. */
    const T(vec) most = T(set1)(greatest == -INFINITY ? 0 : (REAL)greatest);
    const T(vec) hidden = T(set1)(-INFINITY), mark = T(set1)((REAL)-0.0);
    REAL total = 0;
    for (int64_t start = 0; start < width; start += S2S_BLOCK) {
        REAL *s = row + start / S2S_BLOCK * block_stride;
        const int n = width - start < S2S_BLOCK ? (int)(width - start) : S2S_BLOCK;
        T(vec) lanes = T(set1)(0);
        int j = 0;
        for (; j < n && start + j < visible; j += STEP) {
            T(group) weights;
            EACH_VEC weights.v[i] = T(sub)(T(load)(s + j + i * S2S_LANES), most);
            T(exp_to_one)(&weights);
            EACH_VEC {
                REAL *const at = s + j + i * S2S_LANES;
                const T(vec) weight = T(if_equal)(T(load)(at), hidden, mark, weights.v[i]);
                lanes = T(add)(lanes, weight); /* past the last key: -0 */
                T(store)(at, weight);
            }
        }
        for (; j < n; j += S2S_LANES)
            T(store)(s + j, mark);
        total = total + T(fold_add)(lanes);
    }
    return (double)total;
}

static int T(divide)(const void *x_, double sum_, int64_t n, void *out_)
{
    const REAL *x = x_;
    const REAL sum = (REAL)sum_;
    REAL *out = out_;
    int nan = 0;
    for (int64_t i = 0; i < n; i++) {
        const REAL y = (x[i] + 0) / sum; /* + 0: the mark of a hidden key is -0 */
        nan |= y != y;
        out[i] = y != y ? (REAL)NAN : y;
    }
    return nan;
}

static void T(context_visible)(const void *row_, ptrdiff_t block_stride, int64_t keys,
                               const void *value_, ptrdiff_t value_stride, int64_t value_width,
                               void *context_)
{
    const REAL *row = row_, *value = value_;
    REAL *context = context_;
    for (int64_t c = 0; c < value_width; c++) {
        REAL total = 0;
        for (int64_t start = 0; start < keys; start += S2S_BLOCK) {
            const REAL *weight = row + start / S2S_BLOCK * block_stride;
            REAL sum = 0;
            for (int64_t j = start; j < keys && j < start + S2S_BLOCK; j++)
                if (!signbit(weight[j - start]))
                    sum = sum + weight[j - start] * value[j * value_stride + c];
            total = total + sum;
        }
        context[c] = total;
    }
}
