/* The contract's exp and tanh on up to T(GROUP_VECS) vectors of sixteen lanes: the same steps and
 * coefficients as in seq2seq_fast/contract, for arguments up to zero, NaN included. A template, see
 * lanes.h.
 *
 * One exp is a chain of some thirty dependent operations. Going through several of them step by
 * step is what keeps the processor's multipliers and adders busy. `vecs` is a constant wherever
 * these are called.
 *
 * Multiply and add stay separate here and everywhere, but for products that are exact: a fused one
 * would round once where the contract rounds twice. */

typedef struct {
    T(vec) v[T(GROUP_VECS)];
} T(group);

/* x = n ln2 + r, n rounded to what the magic number's low bits count; t: these low bits. */
static ALWAYS_INLINE void T(reduce)(const int vecs, const T(vec) *x, REAL magic, T(vec) *t,
                                    T(vec) *n, T(vec) *r)
{
    UNROLLED(i, vecs) t[i] = T(add)(T(mul)(x[i], T(set1)(T(LOG2E))), T(set1)(magic));
    UNROLLED(i, vecs) n[i] = T(sub)(t[i], T(set1)(magic));
    UNROLLED(i, vecs) r[i] = T(sub_exact)(x[i], n[i], T(set1)(T(LN2_HIGH)));
    UNROLLED(i, vecs) r[i] = T(sub)(r[i], T(mul)(n[i], T(set1)(T(LN2_LOW))));
}

/* e^r - 1 from the coefficients of (e^r - 1 - r) / r^2. */
static ALWAYS_INLINE void T(expm1)(const int vecs, const T(vec) *r, const REAL *poly,
                                   const int terms, T(vec) *p)
{
    UNROLLED(i, vecs) p[i] = T(set1)(poly[0]);
    UNROLL for (int c = 1; c < terms; c++)
        UNROLLED(i, vecs) p[i] = T(add)(T(mul)(p[i], r[i]), T(set1)(poly[c]));
    UNROLLED(i, vecs) p[i] = T(add)(T(mul)(p[i], T(mul)(r[i], r[i])), r[i]);
}

static MATH_INLINE void T(exp_to_one)(const int vecs, T(group) *x)
{
    static const REAL poly[] = {T(EXP_POLY)}, roots[S2S_LANES] = {ROOTS_OF_TWO(REAL)};
    T(vec) t[T(GROUP_VECS)], n[T(GROUP_VECS)], r[T(GROUP_VECS)], p[T(GROUP_VECS)];
    T(reduce)(vecs, x->v, T(MAGIC_16), t, n, r);
    T(expm1)(vecs, r, poly, (int)(sizeof poly / sizeof *poly), p);
    UNROLLED(i, vecs) r[i] = T(lookup)(roots, t[i]);
    UNROLLED(i, vecs) p[i] = T(add)(r[i], T(mul)(r[i], p[i]));
    UNROLLED(i, vecs) x->v[i] = T(power_unless_less)(p[i], n[i], t[i], x->v[i], T(set1)(T(EXP_LEAST)));
}

/* From u = exp(-2|x|) - 1, which is never positive: tanh |x| = -u / (u + 2). */
static MATH_INLINE void T(tanh)(const int vecs, T(group) *x)
{
    static const REAL poly[] = {T(TANH_POLY)};
    T(vec) y[T(GROUP_VECS)], p[T(GROUP_VECS)], power[T(GROUP_VECS)];
    T(vec) n[T(GROUP_VECS)], r[T(GROUP_VECS)];
    UNROLLED(i, vecs) y[i] = T(min)(T(set1)(T(TANH_MOST)), T(abs)(x->v[i])); /* beyond, tanh is 1 */
    UNROLLED(i, vecs) y[i] = T(mul)(y[i], T(set1)(-2));
    T(reduce)(vecs, y, T(MAGIC), power, n, r);
    T(expm1)(vecs, r, poly, (int)(sizeof poly / sizeof *poly), p);
    UNROLLED(i, vecs) power[i] = T(low_bits_to_exponent)(power[i]);
    UNROLLED(i, vecs) y[i] = T(add)(T(sub)(power[i], T(set1)(1)), T(mul)(power[i], p[i]));
    UNROLLED(i, vecs) y[i] = T(div)(y[i], T(add)(y[i], T(set1)(2)));
    UNROLLED(i, vecs) x->v[i] = T(copysign)(y[i], x->v[i]); /* y is negative, or zero */
}
