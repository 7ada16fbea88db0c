/* The contract's exp on sixteen lanes (template, see lanes.h): the same steps and constants as
 * `exp` in seq2seq_fast/reference.py, for arguments up to zero, NaN included.
 *
 * Multiply and add stay separate here and everywhere: a fused one would round once where the
 * contract rounds twice. */

static inline T(vec) T(exp_to_one)(T(vec) x)
{
    static const REAL poly[] = {EXP_POLY};
    /* t's low bits hold the biased exponent of 2^n: the magic number has the bias in it. */
    T(vec) t = T(add)(T(mul)(x, T(set1)(EXP_LOG2E)), T(set1)(EXP_MAGIC));
    T(vec) n = T(sub)(t, T(set1)(EXP_MAGIC));
    T(vec) r = T(sub)(x, T(mul)(n, T(set1)(EXP_LN2_HIGH)));
    r = T(sub)(r, T(mul)(n, T(set1)(EXP_LN2_LOW)));
    T(vec) q = T(set1)(poly[0]);
    UNROLL for (int i = 1; i < (int)(sizeof poly / sizeof *poly); i++)
        q = T(add)(T(mul)(q, r), T(set1)(poly[i]));
    T(vec) p = T(add)(T(add)(T(mul)(q, T(mul)(r, r)), r), T(set1)(1));
    /* Exact: p is near one and the result is a normal number. NaN stays NaN. */
    p = T(mul)(p, T(low_bits_to_exponent)(t));
    return T(if_less)(x, T(set1)(EXP_LEAST), T(set1)(0), p);
}
