/* One "register" is one number: plain C for any compiler and processor. */
#include <string.h>

#if defined(__AVX__) || defined(__ARM_FEATURE_SVE)
#error "the generic kernels must be built for the baseline: remove -march and -mavx flags"
#endif
#include <float.h>
#if FLT_EVAL_METHOD != 0
#error "the contract needs float and double arithmetic without excess precision"
#endif

#define GENERIC_TYPE(P, REAL, UINT, MANTISSA)                                                      \
    typedef REAL P##_reg;                                                                          \
    static inline REAL P##_r_load(const REAL *p) { return *p; }                                    \
    static inline void P##_r_store(REAL *p, REAL a) { *p = a; }                                    \
    static inline REAL P##_r_set1(REAL a) { return a; }                                            \
    static inline REAL P##_r_add(REAL a, REAL b) { return a + b; }                                 \
    static inline REAL P##_r_sub(REAL a, REAL b) { return a - b; }                                 \
    static inline REAL P##_r_mul(REAL a, REAL b) { return a * b; }                                 \
    static inline REAL P##_r_div(REAL a, REAL b) { return a / b; }                                 \
    static inline REAL P##_r_max(REAL a, REAL b) { return a > b ? a : b; }                         \
    static inline REAL P##_r_min(REAL a, REAL b) { return a < b ? a : b; }                         \
    static inline REAL P##_r_abs(REAL a) { return (REAL)fabs(a); }                                 \
    static inline REAL P##_r_copysign(REAL a, REAL sign) { return (REAL)copysign(a, sign); }       \
    static inline REAL P##_r_sub_exact(REAL a, REAL b, REAL c) { return a - b * c; }               \
    static inline REAL P##_r_power_unless_less(REAL y, REAL n, REAL t, REAL x, REAL least)         \
    {                                                                                              \
        (void)n;                                                                                   \
        UINT bits, power;                                                                          \
        memcpy(&bits, &y, sizeof bits);                                                            \
        memcpy(&power, &t, sizeof power);                                                          \
        bits += power >> 4 << MANTISSA;                                                            \
        memcpy(&y, &bits, sizeof y);                                                               \
        return x < least ? 0 : y;                                                                  \
    }                                                                                              \
    static inline REAL P##_r_if_less(REAL a, REAL b, REAL x, REAL y) { return a < b ? x : y; }     \
    static inline REAL P##_r_if_equal(REAL a, REAL b, REAL x, REAL y) { return a == b ? x : y; }   \
    static inline REAL P##_r_low_bits_to_exponent(REAL a)                                          \
    {                                                                                              \
        UINT bits;                                                                                 \
        memcpy(&bits, &a, sizeof bits);                                                            \
        bits <<= MANTISSA;                                                                         \
        memcpy(&a, &bits, sizeof bits);                                                            \
        return a;                                                                                  \
    }                                                                                              \
    static inline REAL P##_r_fold_add(REAL a) { return a; }                                        \
    static inline REAL P##_r_fold_max(REAL a) { return a; }                                        \
    static inline void P##_r_columns(const REAL *rows, ptrdiff_t stride, REAL *column)             \
    {                                                                                              \
        (void)stride; /* a register holds one row's number */                                      \
        *column = *rows;                                                                           \
    }                                                                                              \
    static inline REAL P##_r_lookup(const REAL *table, REAL index) /* the low four bits */         \
    {                                                                                              \
        UINT bits;                                                                                 \
        memcpy(&bits, &index, sizeof bits);                                                        \
        return table[bits & 15];                                                                   \
    }

GENERIC_TYPE(f32, float, uint32_t, 23)
GENERIC_TYPE(f64, double, uint64_t, 52)

#define GENERIC_HALF(P)                                                                            \
    static inline float P##_r_load(const uint16_t *p) { return P##_wide(*p); }                     \
    static inline void P##_r_columns(const uint16_t *rows, ptrdiff_t stride, float *column)        \
    {                                                                                              \
        (void)stride;                                                                              \
        *column = P##_wide(*rows);                                                                 \
    }

GENERIC_HALF(f16)
GENERIC_HALF(bf16)

#define f32_COLUMNS 1
#define f64_COLUMNS 1
#define f16_COLUMNS 1
#define bf16_COLUMNS 1

#define f32_WIDTH 1
#define f64_WIDTH 1

/* Products of eight-bit integers, in plain C. */
#include "integers.h"
