/* 512-bit registers: sixteen floats or eight doubles. For fused multiply-add see math.h. */
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
    static inline P##_reg P##_r_div(P##_reg a, P##_reg b) { return _mm512_div_##S(a, b); }         \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return _mm512_max_##S(a, b); }         \
    static inline P##_reg P##_r_min(P##_reg a, P##_reg b) { return _mm512_min_##S(a, b); }         \
    static inline P##_reg P##_r_abs(P##_reg a) { return _mm512_abs_##S(a); }                       \
    static inline P##_reg P##_r_copysign(P##_reg a, P##_reg sign)                                  \
    {                                                                                              \
        return _mm512_or_##S(_mm512_abs_##S(a), _mm512_and_##S(sign, _mm512_set1_##S(-0.0)));      \
    }                                                                                              \
    static inline P##_reg P##_r_sub_exact(P##_reg a, P##_reg b, P##_reg c)                         \
    {                                                                                              \
        return _mm512_fnmadd_##S(b, c, a);                                                         \
    }                                                                                              \
    static inline P##_reg P##_r_power_unless_less(P##_reg y, P##_reg n, P##_reg t, P##_reg x,      \
                                                  P##_reg least)                                   \
    {                                                                                              \
        (void)t;                                                                                   \
        return _mm512_maskz_scalef_##S(_mm512_cmp_##S##_mask(x, least, _CMP_NLT_UQ), y, n);        \
    }                                                                                              \
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

/* table[the low four bits] in each lane. */
static inline __m512 f32_r_lookup(const float *table, __m512 index)
{
    return _mm512_permutexvar_ps(_mm512_castps_si512(index), _mm512_loadu_ps(table));
}

static inline __m512d f64_r_lookup(const double *table, __m512d index)
{
    return _mm512_permutex2var_pd(_mm512_loadu_pd(table), _mm512_castpd_si512(index),
                                  _mm512_loadu_pd(table + 8));
}

/* 128 bits from each of two rows. */
static inline __m256 half_of_32(const char *rows, ptrdiff_t stride)
{
    return _mm256_insertf128_ps(
        _mm256_castps128_ps256(_mm_loadu_ps((const void *)rows)),
        _mm_loadu_ps((const void *)(rows + stride)), 1);
}

/* Four numbers of four bytes from each of sixteen rows, `stride` bytes apart, transposed: pieces of
 * rows are put together as they are loaded, so that two steps of shuffles are left. */
static inline void quads_of_32(const char *rows, ptrdiff_t stride, __m512 *column)
{
    __m512 row[4], pair[4];
    for (int i = 0; i < 4; i++)
        row[i] = _mm512_insertf32x8(
            _mm512_castps256_ps512(half_of_32(rows + i * stride, 4 * stride)),
            half_of_32(rows + (8 + i) * stride, 4 * stride), 1);
    for (int i = 0; i < 2; i++) {
        pair[2 * i] = _mm512_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        pair[2 * i + 1] = _mm512_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        column[2 * i] = _mm512_shuffle_ps(pair[i], pair[2 + i], 0x44);
        column[2 * i + 1] = _mm512_shuffle_ps(pair[i], pair[2 + i], 0xee);
    }
}

static inline void f32_r_columns(const float *rows, ptrdiff_t stride, __m512 *column)
{
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, column);
}

static inline __m256d half_of_64(const double *rows, ptrdiff_t stride)
{
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(rows)),
                                _mm_loadu_pd(rows + stride), 1);
}

static inline void f64_r_columns(const double *rows, ptrdiff_t stride, __m512d *column)
{
    __m512d row[2];
    for (int i = 0; i < 2; i++) {
        const __m256d low = half_of_64(rows + i * stride, 2 * stride);
        const __m256d high = half_of_64(rows + (4 + i) * stride, 2 * stride);
        row[i] = _mm512_insertf64x4(_mm512_castpd256_pd512(low), high, 1);
    }
    column[0] = _mm512_unpacklo_pd(row[0], row[1]);
    column[1] = _mm512_unpackhi_pd(row[0], row[1]);
}

/* Half floats: pairs of them are transposed as numbers of four bytes, then taken apart. */
static inline __m512 f16_r_load(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

static inline void f16_r_columns(const uint16_t *rows, ptrdiff_t stride, __m512 *column)
{
    __m512 pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        const __m512i bits = _mm512_castps_si512(pair[i]);
        column[2 * i] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(bits));
        column[2 * i + 1] = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    }
}

static inline __m512 bf16_r_load(const uint16_t *p)
{
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

static inline void bf16_r_columns(const uint16_t *rows, ptrdiff_t stride, __m512 *column)
{
    __m512 pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        const __m512i bits = _mm512_castps_si512(pair[i]);
        column[2 * i] = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
        column[2 * i + 1] = _mm512_castsi512_ps(
            _mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000u)));
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

#define f32_COLUMNS 4
#define f64_COLUMNS 2
#define f16_COLUMNS 8
#define bf16_COLUMNS 8

#define f32_WIDTH 16
#define f64_WIDTH 8

/* Products of eight-bit integers by VNNI, of which a processor with AVX-512 may have none: only these
 * functions may be compiled for it. Its first factor is the unsigned one: the weights,
 * so that the inputs are what is broadcast from memory. */
#define I8_TARGET __attribute__((target("avx512vnni")))
typedef int8_t i8_input;
typedef __m512i i8_line;
typedef __m512i i8_sums;

static inline i8_line i8_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline i8_sums i8_zero(void) { return _mm512_setzero_si512(); }
static inline void i8_store(int32_t *p, i8_sums a) { _mm512_storeu_si512(p, a); }
I8_TARGET static inline i8_sums i8_step(i8_sums acc, i8_line line, const i8_input *x)
{
    int32_t quad;
    memcpy(&quad, x, sizeof quad);
    return _mm512_dpbusd_epi32(acc, line, _mm512_set1_epi32(quad));
}
