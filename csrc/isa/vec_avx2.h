/* 256-bit registers: eight floats or four doubles. Fused multiply-add is not used: see math.h. */
#include "fold_x86.h"

typedef __m256 f32_reg;
typedef __m256d f64_reg;

#define AVX2_TYPE(P, REAL, S, SHIFT)                                                               \
    static inline P##_reg P##_r_load(const REAL *p) { return _mm256_loadu_##S(p); }                \
    static inline void P##_r_store(REAL *p, P##_reg a) { _mm256_storeu_##S(p, a); }                \
    static inline P##_reg P##_r_set1(REAL a) { return _mm256_set1_##S(a); }                        \
    static inline P##_reg P##_r_add(P##_reg a, P##_reg b) { return _mm256_add_##S(a, b); }         \
    static inline P##_reg P##_r_sub(P##_reg a, P##_reg b) { return _mm256_sub_##S(a, b); }         \
    static inline P##_reg P##_r_mul(P##_reg a, P##_reg b) { return _mm256_mul_##S(a, b); }         \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return _mm256_max_##S(a, b); }         \
    static inline P##_reg P##_r_if_less(P##_reg a, P##_reg b, P##_reg x, P##_reg y)                \
    {                                                                                              \
        return _mm256_blendv_##S(y, x, _mm256_cmp_##S(a, b, _CMP_LT_OQ));                          \
    }                                                                                              \
    static inline P##_reg P##_r_if_equal(P##_reg a, P##_reg b, P##_reg x, P##_reg y)               \
    {                                                                                              \
        return _mm256_blendv_##S(y, x, _mm256_cmp_##S(a, b, _CMP_EQ_OQ));                          \
    }                                                                                              \
    static inline P##_reg P##_r_low_bits_to_exponent(P##_reg a)                                    \
    {                                                                                              \
        return _mm256_castsi256_##S(SHIFT);                                                        \
    }

AVX2_TYPE(f32, float, ps, _mm256_slli_epi32(_mm256_castps_si256(a), 23))
AVX2_TYPE(f64, double, pd, _mm256_slli_epi64(_mm256_castpd_si256(a), 52))

/* An 8 x 8 block: pairs, then fours, then the two 128-bit halves. */
static inline void f32_r_transpose(__m256 *r)
{
    __m256 pair[8], four[8];
    for (int i = 0; i < 4; i++) {
        pair[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pair[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 2; i++) {
            four[4 * h + 2 * i] = _mm256_shuffle_ps(pair[4 * h + i], pair[4 * h + 2 + i], 0x44);
            four[4 * h + 2 * i + 1] = _mm256_shuffle_ps(pair[4 * h + i], pair[4 * h + 2 + i], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(four[i], four[4 + i], 0x20);
        r[4 + i] = _mm256_permute2f128_ps(four[i], four[4 + i], 0x31);
    }
}

static inline void f64_r_transpose(__m256d *r)
{
    __m256d a = _mm256_unpacklo_pd(r[0], r[1]), b = _mm256_unpackhi_pd(r[0], r[1]);
    __m256d c = _mm256_unpacklo_pd(r[2], r[3]), d = _mm256_unpackhi_pd(r[2], r[3]);
    r[0] = _mm256_permute2f128_pd(a, c, 0x20);
    r[1] = _mm256_permute2f128_pd(b, d, 0x20);
    r[2] = _mm256_permute2f128_pd(a, c, 0x31);
    r[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

static inline float f32_r_fold_add(__m256 a) { return f32_fold_256_add(a); }
static inline float f32_r_fold_max(__m256 a) { return f32_fold_256_max(a); }
static inline double f64_r_fold_add(__m256d a) { return f64_fold_256_add(a); }
static inline double f64_r_fold_max(__m256d a) { return f64_fold_256_max(a); }

#define F32_WIDTH 8
#define F32_ROWS 6
#define F32_FEW_ROWS 1
#define F32_FEW_COLS 4
#define F32_GROUP_VECS 1
#define F64_WIDTH 4
#define F64_ROWS 2
#define F64_FEW_ROWS 1
#define F64_FEW_COLS 2
#define F64_GROUP_VECS 1
