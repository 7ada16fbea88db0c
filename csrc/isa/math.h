/* The contract's exp and tanh on up to GROUP_VECS vectors of sixteen lanes (template, see lanes.h):
 * the same steps and constants as in seq2seq_fast/reference.py, for arguments up to zero, NaN
 * included.
 *
 * One exp is a chain of some thirty dependent operations. Going through several of them step by
 * step is what keeps the processor's multipliers and adders busy. `vecs` is a constant wherever
 * these are called.
 *
 * Multiply and add stay separate here and everywhere: a fused one would round once where the
 * contract rounds twice. */

typedef struct {
    T(vec) v[GROUP_VECS];
} T(group);

#define EACH_VEC UNROLL for (int i = 0; i < vecs; i++)

/* x = n ln2 + r: p = exp(r) - 1 and power = 2^n. */
static ALWAYS_INLINE void T(exp_parts)(const int vecs, const T(vec) *x, T(vec) *p,
                                       T(vec) *power)
{
    static const REAL poly[] = {EXP_POLY};
    T(vec) r[GROUP_VECS];
    /* The low bits hold the biased exponent of 2^n: the magic number has the bias in it. */
    EACH_VEC power[i] = T(add)(T(mul)(x[i], T(set1)(EXP_LOG2E)), T(set1)(EXP_MAGIC));
    EACH_VEC p[i] = T(sub)(power[i], T(set1)(EXP_MAGIC));
    EACH_VEC r[i] = T(sub)(x[i], T(mul)(p[i], T(set1)(EXP_LN2_HIGH)));
    EACH_VEC r[i] = T(sub)(r[i], T(mul)(p[i], T(set1)(EXP_LN2_LOW)));
    EACH_VEC p[i] = T(set1)(poly[0]);
    UNROLL for (int c = 1; c < (int)(sizeof poly / sizeof *poly); c++)
        EACH_VEC p[i] = T(add)(T(mul)(p[i], r[i]), T(set1)(poly[c]));
    EACH_VEC p[i] = T(add)(T(mul)(p[i], T(mul)(r[i], r[i])), r[i]);
    EACH_VEC power[i] = T(low_bits_to_exponent)(power[i]);
}

static ALWAYS_INLINE void T(exp_to_one)(const int vecs, T(group) *x)
{
    T(vec) p[GROUP_VECS], power[GROUP_VECS];
    T(exp_parts)(vecs, x->v, p, power);
    EACH_VEC p[i] = T(add)(p[i], T(set1)(1));
    /* Exact: p is near one and the result is a normal number. NaN stays NaN. */
    EACH_VEC x->v[i] = T(mul_unless_less)(p[i], power[i], x->v[i], T(set1)(EXP_LEAST));
}

/* From u = exp(-2|x|) - 1, which is never positive: tanh |x| = -u / (u + 2). */
static ALWAYS_INLINE void T(tanh)(const int vecs, T(group) *x)
{
    const T(vec) zero = T(set1)(0), least = T(set1)(TANH_LEAST);
    T(vec) y[GROUP_VECS], p[GROUP_VECS], power[GROUP_VECS];
    EACH_VEC y[i] = T(if_less)(x->v[i], zero, x->v[i], T(sub)(zero, x->v[i]));
    EACH_VEC y[i] = T(add)(y[i], y[i]);
    EACH_VEC y[i] = T(if_less)(y[i], least, least, y[i]); /* beyond, tanh is 1 */
    T(exp_parts)(vecs, y, p, power);
    EACH_VEC y[i] = T(add)(T(sub)(power[i], T(set1)(1)), T(mul)(power[i], p[i]));
    EACH_VEC y[i] = T(div)(T(sub)(zero, y[i]), T(add)(y[i], T(set1)(2)));
    EACH_VEC y[i] = T(if_less)(x->v[i], zero, T(sub)(zero, y[i]), y[i]);
    EACH_VEC x->v[i] = T(if_equal)(x->v[i], zero, x->v[i], y[i]); /* -0 stays -0 */
}
