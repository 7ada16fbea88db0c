/* Sixteen lanes of REAL out of the registers of one vec_*.h, whatever their width. A template:
 * kernels.c includes it once per element type, with T(x) = f32_x or f64_x. */

enum { T(regs) = S2S_LANES / T(WIDTH) };

typedef struct {
    T(reg) r[T(regs)];
} T(vec);

static inline T(vec) T(load)(const REAL *p)
{
    T(vec) a;
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_load)(p + i * T(WIDTH));
    return a;
}

static inline void T(store)(REAL *p, T(vec) a)
{
    for (int i = 0; i < T(regs); i++)
        T(r_store)(p + i * T(WIDTH), a.r[i]);
}

static inline T(vec) T(set1)(REAL x)
{
    T(vec) a;
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_set1)(x);
    return a;
}

#define BINARY(op)                                                                                 \
    static inline T(vec) T(op)(T(vec) a, T(vec) b)                                                 \
    {                                                                                              \
        for (int i = 0; i < T(regs); i++)                                                          \
            a.r[i] = T(r_##op)(a.r[i], b.r[i]);                                                    \
        return a;                                                                                  \
    }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(max) /* a > b ? a : b, but where either is NaN the other may come of it */
BINARY(min) /* a < b ? a : b */
BINARY(copysign)
#undef BINARY

static inline T(vec) T(abs)(T(vec) a)
{
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_abs)(a.r[i]);
    return a;
}

/* a < b ? x : y and a == b ? x : y in each lane; a comparison with NaN is false. */
static inline T(vec) T(if_less)(T(vec) a, T(vec) b, T(vec) x, T(vec) y)
{
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_if_less)(a.r[i], b.r[i], x.r[i], y.r[i]);
    return a;
}

static inline T(vec) T(if_equal)(T(vec) a, T(vec) b, T(vec) x, T(vec) y)
{
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_if_equal)(a.r[i], b.r[i], x.r[i], y.r[i]);
    return a;
}

/* a - b * c in each lane, where b * c is exact. */
static inline T(vec) T(sub_exact)(T(vec) a, T(vec) b, T(vec) c)
{
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_sub_exact)(a.r[i], b.r[i], c.r[i]);
    return a;
}

/* Of each lane the number of a table of sixteen that its low four bits say. */
static inline T(vec) T(lookup)(const REAL *table, T(vec) index)
{
    for (int i = 0; i < T(regs); i++)
        index.r[i] = T(r_lookup)(table, index.r[i]);
    return index;
}

/* x < least ? 0 : y * 2^floor(n) in each lane, a normal number as y is; t holds 16 n as an integer
 * in its low bits. */
static inline T(vec) T(power_unless_less)(T(vec) y, T(vec) n, T(vec) t, T(vec) x, T(vec) least)
{
    for (int i = 0; i < T(regs); i++)
        y.r[i] = T(r_power_unless_less)(y.r[i], n.r[i], t.r[i], x.r[i], least.r[i]);
    return y;
}

/* The integer in a lane's low bits becomes its exponent field, the rest zero. */
static inline T(vec) T(low_bits_to_exponent)(T(vec) a)
{
    for (int i = 0; i < T(regs); i++)
        a.r[i] = T(r_low_bits_to_exponent)(a.r[i]);
    return a;
}

/* Horizontal sum and maximum, in the contract's order: lanes 0..7 += 8..15, 0..3 += 4..7, 0..1 +=
 * 2..3, 0 += 1. First whole registers, then the halves of the last one. */
#define FOLD(op)                                                                                   \
    static inline REAL T(fold_##op)(T(vec) a)                                                      \
    {                                                                                              \
        for (int half = T(regs) / 2; half; half /= 2)                                              \
            for (int i = 0; i < half; i++)                                                         \
                a.r[i] = T(r_##op)(a.r[i], a.r[i + half]);                                         \
        return T(r_fold_##op)(a.r[0]);                                                             \
    }
FOLD(add)
FOLD(max)
#undef FOLD
