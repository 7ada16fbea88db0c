/* 512-bit registers: sixteen floats or eight doubles. No fused multiply-add: see math.h. */
#include "fold_x86.h"

typedef __m512 f32_reg;
typedef __m512d f64_reg;

#define AVX512_TYPE(P, REAL, S, MASK, SHIFT)                                                       \
    static inline P##_reg P##_r_load(const REAL *p) { return _mm512_loadu_##S(p); }                \
    static inline void P##_r_store(REAL *p, P##_reg a) { _mm512_storeu_##S(p, a); }                \
    static inline P##_reg P##_r_set1(REAL a) { return _mm512_set1_##S(a); }                        \
    static inline P##_reg P##_r_add(P##_reg a, P##_reg b) { return _mm512_add_##S(a, b); }         \
    static inline P##_reg P##_r_sub(P##_reg a, P##_reg b) { return _mm512_sub_##S(a, b); }         \
    static inline P##_reg P##_r_mul(P##_reg a, P##_reg b) { return _mm512_mul_##S(a, b); }         \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return _mm512_max_##S(a, b); }         \
    static inline P##_reg P##_r_if_less(P##_reg a, P##_reg b, P##_reg x, P##_reg y)                \
    {                                                                                              \
        MASK m = _mm512_cmp_##S##_mask(a, b, _CMP_LT_OQ);                                          \
        return _mm512_mask_blend_##S(m, y, x);                                                     \
    }                                                                                              \
    static inline P##_reg P##_r_if_equal(P##_reg a, P##_reg b, P##_reg x, P##_reg y)               \
    {                                                                                              \
        MASK m = _mm512_cmp_##S##_mask(a, b, _CMP_EQ_OQ);                                          \
        return _mm512_mask_blend_##S(m, y, x);                                                     \
    }                                                                                              \
    static inline P##_reg P##_r_low_bits_to_exponent(P##_reg a)                                    \
    {                                                                                              \
        return _mm512_castsi512_##S(SHIFT);                                                        \
    }

AVX512_TYPE(f32, float, ps, __mmask16, _mm512_slli_epi32(_mm512_castps_si512(a), 23))
AVX512_TYPE(f64, double, pd, __mmask8, _mm512_slli_epi64(_mm512_castpd_si512(a), 52))

/* A 16 x 16 block: pairs, then fours (four[4h + j] holds in quarter q the column 4q + j of the rows
 * 4h..4h+3), then the 128-bit quarters trade places. */
static inline void f32_r_transpose(__m512 *r)
{
    __m512 pair[16], four[16];
    for (int i = 0; i < 8; i++) {
        pair[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        pair[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int h = 0; h < 4; h++)
        for (int i = 0; i < 2; i++) {
            four[4 * h + 2 * i] = _mm512_shuffle_ps(pair[4 * h + i], pair[4 * h + 2 + i], 0x44);
            four[4 * h + 2 * i + 1] = _mm512_shuffle_ps(pair[4 * h + i], pair[4 * h + 2 + i], 0xee);
        }
    for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(four[j], four[4 + j], 0x88);
        __m512 b = _mm512_shuffle_f32x4(four[8 + j], four[12 + j], 0x88);
        __m512 c = _mm512_shuffle_f32x4(four[j], four[4 + j], 0xdd);
        __m512 d = _mm512_shuffle_f32x4(four[8 + j], four[12 + j], 0xdd);
        r[j] = _mm512_shuffle_f32x4(a, b, 0x88);
        r[8 + j] = _mm512_shuffle_f32x4(a, b, 0xdd);
        r[4 + j] = _mm512_shuffle_f32x4(c, d, 0x88);
        r[12 + j] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}

static inline void f64_r_transpose(__m512d *r)
{
    for (int i = 0; i < 4; i++) {
        __m512d low = _mm512_unpacklo_pd(r[2 * i], r[2 * i + 1]);
        r[2 * i + 1] = _mm512_unpackhi_pd(r[2 * i], r[2 * i + 1]);
        r[2 * i] = low;
    }
    for (int j = 0; j < 2; j++) {
        __m512d a = _mm512_shuffle_f64x2(r[j], r[2 + j], 0x88);
        __m512d b = _mm512_shuffle_f64x2(r[4 + j], r[6 + j], 0x88);
        __m512d c = _mm512_shuffle_f64x2(r[j], r[2 + j], 0xdd);
        __m512d d = _mm512_shuffle_f64x2(r[4 + j], r[6 + j], 0xdd);
        r[j] = _mm512_shuffle_f64x2(a, b, 0x88);
        r[4 + j] = _mm512_shuffle_f64x2(a, b, 0xdd);
        r[2 + j] = _mm512_shuffle_f64x2(c, d, 0x88);
        r[6 + j] = _mm512_shuffle_f64x2(c, d, 0xdd);
    }
}

/* Folds of one register: its halves, their halves, and so on. */
#define FOLD_512(op)                                                                               \
    static inline float f32_r_fold_##op(__m512 a)                                                  \
    {                                                                                              \
        return f32_fold_256_##op(                                                                  \
            _mm256_##op##_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)));            \
    }                                                                                              \
    static inline double f64_r_fold_##op(__m512d a)                                                \
    {                                                                                              \
        return f64_fold_256_##op(                                                                  \
            _mm256_##op##_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1)));            \
    }
FOLD_512(add)
FOLD_512(max)

#define F32_WIDTH 16
#define F32_ROWS 24
#define F32_FEW_ROWS 4
#define F32_FEW_COLS 4
#define F32_GROUP_VECS 4
#define F64_WIDTH 8
#define F64_ROWS 12
#define F64_FEW_ROWS 2
#define F64_FEW_COLS 4
#define F64_GROUP_VECS 2
