/* The contract's exp on GROUP_VECS vectors of sixteen lanes (template, see lanes.h): the same steps
 * and constants as `exp` in seq2seq_fast/reference.py, for arguments up to zero, NaN included.
 *
 * One exp is a chain of some thirty dependent operations. Going through several of them step by
 * step is what keeps the processor's multipliers and adders busy.
 *
 * Multiply and add stay separate here and everywhere: a fused one would round once where the
 * contract rounds twice. */

typedef struct {
    T(vec) v[GROUP_VECS];
} T(group);

#define EACH_VEC UNROLL for (int i = 0; i < GROUP_VECS; i++)

static ALWAYS_INLINE void T(exp_to_one)(T(group) *group)
{
    static const REAL poly[] = {EXP_POLY};
    T(vec) *const x = group->v, t[GROUP_VECS], r[GROUP_VECS], q[GROUP_VECS];
    /* t's low bits hold the biased exponent of 2^n: the magic number has the bias in it. */
    EACH_VEC t[i] = T(add)(T(mul)(x[i], T(set1)(EXP_LOG2E)), T(set1)(EXP_MAGIC));
    EACH_VEC q[i] = T(sub)(t[i], T(set1)(EXP_MAGIC));
    EACH_VEC r[i] = T(sub)(x[i], T(mul)(q[i], T(set1)(EXP_LN2_HIGH)));
    EACH_VEC r[i] = T(sub)(r[i], T(mul)(q[i], T(set1)(EXP_LN2_LOW)));
    EACH_VEC q[i] = T(set1)(poly[0]);
    UNROLL for (int c = 1; c < (int)(sizeof poly / sizeof *poly); c++)
        EACH_VEC q[i] = T(add)(T(mul)(q[i], r[i]), T(set1)(poly[c]));
    EACH_VEC q[i] = T(add)(T(mul)(q[i], T(mul)(r[i], r[i])), r[i]);
    EACH_VEC q[i] = T(add)(q[i], T(set1)(1));
    /* Exact: q is near one and the result is a normal number. NaN stays NaN. */
    EACH_VEC q[i] = T(mul)(q[i], T(low_bits_to_exponent)(t[i]));
    EACH_VEC x[i] = T(if_less)(x[i], T(set1)(EXP_LEAST), T(set1)(0), q[i]);
}
