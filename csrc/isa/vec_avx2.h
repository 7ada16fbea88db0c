/* 256-bit registers: eight floats or four doubles. Fused multiply-add is not used: see math.h. */
#include "fold_x86.h"

typedef __m256 f32_reg;
typedef __m256d f64_reg;

#define AVX2_TYPE(P, REAL, S, I, MANTISSA)                                                         \
    static inline P##_reg P##_r_load(const REAL *p) { return _mm256_loadu_##S(p); }                \
    static inline void P##_r_store(REAL *p, P##_reg a) { _mm256_storeu_##S(p, a); }                \
    static inline P##_reg P##_r_set1(REAL a) { return _mm256_set1_##S(a); }                        \
    static inline P##_reg P##_r_add(P##_reg a, P##_reg b) { return _mm256_add_##S(a, b); }         \
    static inline P##_reg P##_r_sub(P##_reg a, P##_reg b) { return _mm256_sub_##S(a, b); }         \
    static inline P##_reg P##_r_mul(P##_reg a, P##_reg b) { return _mm256_mul_##S(a, b); }         \
    static inline P##_reg P##_r_div(P##_reg a, P##_reg b) { return _mm256_div_##S(a, b); }         \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return _mm256_max_##S(a, b); }         \
    static inline P##_reg P##_r_min(P##_reg a, P##_reg b) { return _mm256_min_##S(a, b); }         \
    static inline P##_reg P##_r_abs(P##_reg a)                                                     \
    {                                                                                              \
        return _mm256_andnot_##S(_mm256_set1_##S(-0.0), a);                                        \
    }                                                                                              \
    static inline P##_reg P##_r_copysign(P##_reg a, P##_reg sign)                                  \
    {                                                                                              \
        return _mm256_or_##S(P##_r_abs(a), _mm256_and_##S(sign, _mm256_set1_##S(-0.0)));           \
    }                                                                                              \
    static inline P##_reg P##_r_sub_exact(P##_reg a, P##_reg b, P##_reg c)                         \
    {                                                                                              \
        return P##_r_sub(a, P##_r_mul(b, c));                                                      \
    }                                                                                              \
    static inline P##_reg P##_r_power_unless_less(P##_reg y, P##_reg n, P##_reg t, P##_reg x,      \
                                                  P##_reg least)                                   \
    {                                                                                              \
        (void)n;                                                                                   \
        const __m256i power =                                                                      \
            _mm256_slli_##I(_mm256_srli_##I(_mm256_cast##S##_si256(t), 4), MANTISSA);              \
        y = _mm256_castsi256_##S(_mm256_add_##I(_mm256_cast##S##_si256(y), power));                \
        return _mm256_and_##S(_mm256_cmp_##S(x, least, _CMP_NLT_UQ), y);                           \
    }                                                                                              \
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
        return _mm256_castsi256_##S(                                                               \
            _mm256_slli_##I(_mm256_cast##S##_si256(a), MANTISSA));                                 \
    }

AVX2_TYPE(f32, float, ps, epi32, 23)
AVX2_TYPE(f64, double, pd, epi64, 52)

/* table[the low four bits] in each lane: from each half by three of them; the fourth says which. */
static inline __m256 f32_r_lookup(const float *table, __m256 index)
{
    const __m256i bits = _mm256_castps_si256(index);
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), bits),
                            _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), bits),
                            _mm256_castsi256_ps(_mm256_slli_epi32(bits, 28)));
}

static inline __m256d f64_r_lookup(const double *table, __m256d index)
{
    const __m256i bits = _mm256_and_si256(_mm256_castpd_si256(index), _mm256_set1_epi64x(15));
    return _mm256_i64gather_pd(table, bits, 8);
}

/* Four numbers of four bytes from each of eight rows, `stride` bytes apart, transposed: pieces of
 * rows are put together as they are loaded, so that two steps of shuffles are left. */
static inline void quads_of_32(const char *rows, ptrdiff_t stride, __m256 *column)
{
    __m256 row[4], pair[4];
    for (int i = 0; i < 4; i++)
        row[i] = _mm256_insertf128_ps(
            _mm256_castps128_ps256(_mm_loadu_ps((const void *)(rows + i * stride))),
            _mm_loadu_ps((const void *)(rows + (4 + i) * stride)), 1);
    for (int i = 0; i < 2; i++) {
        pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        column[2 * i] = _mm256_shuffle_ps(pair[i], pair[2 + i], 0x44);
        column[2 * i + 1] = _mm256_shuffle_ps(pair[i], pair[2 + i], 0xee);
    }
}

static inline void f32_r_columns(const float *rows, ptrdiff_t stride, __m256 *column)
{
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, column);
}

static inline void f64_r_columns(const double *rows, ptrdiff_t stride, __m256d *column)
{
    __m256d row[2];
    for (int i = 0; i < 2; i++)
        row[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(rows + i * stride)),
                                      _mm_loadu_pd(rows + (2 + i) * stride), 1);
    column[0] = _mm256_unpacklo_pd(row[0], row[1]);
    column[1] = _mm256_unpackhi_pd(row[0], row[1]);
}

/* Half floats: pairs of them are transposed as numbers of four bytes, then taken apart. */
static inline __m256 f16_r_load(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

static inline __m256 low_halves_wide(__m256i bits)
{
    bits = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff));
    return _mm256_cvtph_ps(
        _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1)));
}

static inline void f16_r_columns(const uint16_t *rows, ptrdiff_t stride, __m256 *column)
{
    __m256 pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        const __m256i bits = _mm256_castps_si256(pair[i]);
        column[2 * i] = low_halves_wide(bits);
        column[2 * i + 1] = low_halves_wide(_mm256_srli_epi32(bits, 16));
    }
}

static inline __m256 bf16_r_load(const uint16_t *p)
{
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

static inline void bf16_r_columns(const uint16_t *rows, ptrdiff_t stride, __m256 *column)
{
    __m256 pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        const __m256i bits = _mm256_castps_si256(pair[i]);
        column[2 * i] = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
        column[2 * i + 1] = _mm256_castsi256_ps(
            _mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000u)));
    }
}

static inline float f32_r_fold_add(__m256 a) { return f32_fold_256_add(a); }
static inline float f32_r_fold_max(__m256 a) { return f32_fold_256_max(a); }
static inline double f64_r_fold_add(__m256d a) { return f64_fold_256_add(a); }
static inline double f64_r_fold_max(__m256d a) { return f64_fold_256_max(a); }

#define f32_COLUMNS 4
#define f64_COLUMNS 2
#define f16_COLUMNS 8
#define bf16_COLUMNS 8

#define f32_WIDTH 8
#define f64_WIDTH 4

/* Products of eight-bit integers, as integers of sixteen bits: pairs of products are added exactly.
 * A register holds four columns' two pairs. */
#define I8_TARGET
typedef int16_t i8_input;
typedef struct {
    __m256i r[4];
} i8_line, i8_sums;

static inline i8_line i8_load(const uint8_t *p)
{
    i8_line a;
    for (int i = 0; i < 4; i++)
        a.r[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(p + 16 * i)));
    return a;
}

static inline i8_sums i8_zero(void)
{
    i8_sums a;
    for (int i = 0; i < 4; i++)
        a.r[i] = _mm256_setzero_si256();
    return a;
}

static inline i8_sums i8_step(i8_sums acc, i8_line line, const i8_input *x)
{
    int64_t quad;
    memcpy(&quad, x, sizeof quad);
    const __m256i inputs = _mm256_set1_epi64x(quad);
    for (int i = 0; i < 4; i++)
        acc.r[i] = _mm256_add_epi32(acc.r[i], _mm256_madd_epi16(line.r[i], inputs));
    return acc;
}

static inline void i8_store(int32_t *p, i8_sums a)
{
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256(
            (void *)(p + 8 * i),
            _mm256_permute4x64_epi64(_mm256_hadd_epi32(a.r[2 * i], a.r[2 * i + 1]), 0xd8));
}
