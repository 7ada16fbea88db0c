/* 128-bit registers of AArch64: four floats or two doubles. For fused multiply-add see math.h. */
#include <arm_neon.h>

typedef float32x4_t f32_reg;
typedef float64x2_t f64_reg;

#define NEON_TYPE(P, REAL, S, U, MANTISSA)                                                         \
    static inline P##_reg P##_r_load(const REAL *p) { return vld1q_##S(p); }                       \
    static inline void P##_r_store(REAL *p, P##_reg a) { vst1q_##S(p, a); }                        \
    static inline P##_reg P##_r_set1(REAL a) { return vdupq_n_##S(a); }                            \
    static inline P##_reg P##_r_add(P##_reg a, P##_reg b) { return vaddq_##S(a, b); }              \
    static inline P##_reg P##_r_sub(P##_reg a, P##_reg b) { return vsubq_##S(a, b); }              \
    static inline P##_reg P##_r_mul(P##_reg a, P##_reg b) { return vmulq_##S(a, b); }              \
    static inline P##_reg P##_r_div(P##_reg a, P##_reg b) { return vdivq_##S(a, b); }              \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return vmaxnmq_##S(a, b); }            \
    static inline P##_reg P##_r_min(P##_reg a, P##_reg b)                                          \
    {                                                                                              \
        return vbslq_##S(vcltq_##S(a, b), a, b);                                                   \
    }                                                                                              \
    static inline P##_reg P##_r_abs(P##_reg a) { return vabsq_##S(a); }                            \
    static inline P##_reg P##_r_copysign(P##_reg a, P##_reg sign)                                  \
    {                                                                                              \
        return vbslq_##S(vreinterpretq_##U##_##S(vdupq_n_##S(-0.0)), sign, a);                     \
    }                                                                                              \
    static inline P##_reg P##_r_sub_exact(P##_reg a, P##_reg b, P##_reg c)                         \
    {                                                                                              \
        return vfmsq_##S(a, b, c);                                                                 \
    }                                                                                              \
    static inline P##_reg P##_r_power_unless_less(P##_reg y, P##_reg n, P##_reg t, P##_reg x,      \
                                                  P##_reg least)                                   \
    {                                                                                              \
        (void)n;                                                                                   \
        y = vreinterpretq_##S##_##U(                                                               \
            vaddq_##U(vreinterpretq_##U##_##S(y),                                                  \
                      vshlq_n_##U(vshrq_n_##U(vreinterpretq_##U##_##S(t), 4), MANTISSA)));         \
        return vbslq_##S(vcltq_##S(x, least), vdupq_n_##S(0), y);                                  \
    }                                                                                              \
    static inline P##_reg P##_r_if_less(P##_reg a, P##_reg b, P##_reg x, P##_reg y)                \
    {                                                                                              \
        return vbslq_##S(vcltq_##S(a, b), x, y);                                                   \
    }                                                                                              \
    static inline P##_reg P##_r_if_equal(P##_reg a, P##_reg b, P##_reg x, P##_reg y)               \
    {                                                                                              \
        return vbslq_##S(vceqq_##S(a, b), x, y);                                                   \
    }                                                                                              \
    static inline P##_reg P##_r_low_bits_to_exponent(P##_reg a)                                    \
    {                                                                                              \
        return vreinterpretq_##S##_##U(vshlq_n_##U(vreinterpretq_##U##_##S(a), MANTISSA));         \
    }

NEON_TYPE(f32, float, f32, u32, 23)
NEON_TYPE(f64, double, f64, u64, 52)

/* table[the low four bits] in each lane: four bytes of 64. */
static inline float32x4_t f32_r_lookup(const float *table, float32x4_t index)
{
    const uint8_t *const bytes = (const uint8_t *)table;
    const uint8x16x4_t all = {
        {vld1q_u8(bytes), vld1q_u8(bytes + 16), vld1q_u8(bytes + 32), vld1q_u8(bytes + 48)}};
    const uint32x4_t number = vandq_u32(vreinterpretq_u32_f32(index), vdupq_n_u32(15));
    const uint32x4_t at =
        vmlaq_u32(vdupq_n_u32(0x03020100), number, vdupq_n_u32(0x04040404));
    return vreinterpretq_f32_u8(vqtbl4q_u8(all, vreinterpretq_u8_u32(at)));
}

static inline float64x2_t f64_r_lookup(const double *table, float64x2_t index)
{
    const uint64x2_t at = vandq_u64(vreinterpretq_u64_f64(index), vdupq_n_u64(15));
    return vld1q_lane_f64(table + vgetq_lane_u64(at, 1),
                          vld1q_dup_f64(table + vgetq_lane_u64(at, 0)), 1);
}

static inline void f64_r_columns(const double *rows, ptrdiff_t stride, float64x2_t *column)
{
    const float64x2_t a = vld1q_f64(rows), b = vld1q_f64(rows + stride);
    column[0] = vtrn1q_f64(a, b);
    column[1] = vtrn2q_f64(a, b);
}

/* Four numbers of four bytes from each of four rows, in bytes `stride` apart, transposed. */
static inline void quads_of_32(const char *rows, ptrdiff_t stride, uint32x4_t *column)
{
    uint32x4_t row[4];
    for (int i = 0; i < 4; i++)
        row[i] = vreinterpretq_u32_u8(vld1q_u8((const uint8_t *)(rows + i * stride)));
    const uint64x2_t a = vreinterpretq_u64_u32(vtrn1q_u32(row[0], row[1]));
    const uint64x2_t b = vreinterpretq_u64_u32(vtrn2q_u32(row[0], row[1]));
    const uint64x2_t c = vreinterpretq_u64_u32(vtrn1q_u32(row[2], row[3]));
    const uint64x2_t d = vreinterpretq_u64_u32(vtrn2q_u32(row[2], row[3]));
    column[0] = vreinterpretq_u32_u64(vtrn1q_u64(a, c));
    column[1] = vreinterpretq_u32_u64(vtrn1q_u64(b, d));
    column[2] = vreinterpretq_u32_u64(vtrn2q_u64(a, c));
    column[3] = vreinterpretq_u32_u64(vtrn2q_u64(b, d));
}

static inline void f32_r_columns(const float *rows, ptrdiff_t stride, float32x4_t *column)
{
    uint32x4_t bits[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, bits);
    for (int i = 0; i < 4; i++)
        column[i] = vreinterpretq_f32_u32(bits[i]);
}

/* Half floats: pairs of them are transposed as numbers of four bytes, then taken apart. */
static inline float32x4_t f16_r_load(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline void f16_r_columns(const uint16_t *rows, ptrdiff_t stride, float32x4_t *column)
{
    uint32x4_t pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        column[2 * i] = vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(pair[i])));
        column[2 * i + 1] = vcvt_f32_f16(vreinterpret_f16_u16(vshrn_n_u32(pair[i], 16)));
    }
}

static inline float32x4_t bf16_r_load(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline void bf16_r_columns(const uint16_t *rows, ptrdiff_t stride, float32x4_t *column)
{
    uint32x4_t pair[4];
    quads_of_32((const char *)rows, stride * (ptrdiff_t)sizeof *rows, pair);
    for (int i = 0; i < 4; i++) {
        column[2 * i] = vreinterpretq_f32_u32(vshlq_n_u32(pair[i], 16));
        column[2 * i + 1] = vreinterpretq_f32_u32(vandq_u32(pair[i], vdupq_n_u32(0xffff0000u)));
    }
}

/* Folds of one register: its halves, then lane 0 with lane 1. */
#define NEON_FOLD(op, f)                                                                           \
    static inline float f32_r_fold_##op(float32x4_t a)                                             \
    {                                                                                              \
        const float32x2_t half = f##_f32(vget_low_f32(a), vget_high_f32(a));                       \
        return vget_lane_f32(f##_f32(half, vrev64_f32(half)), 0);                                  \
    }                                                                                              \
    static inline double f64_r_fold_##op(float64x2_t a)                                            \
    {                                                                                              \
        return vget_lane_f64(f##_f64(vget_low_f64(a), vget_high_f64(a)), 0);                       \
    }
NEON_FOLD(add, vadd)
NEON_FOLD(max, vmaxnm)

#define f32_COLUMNS 4
#define f64_COLUMNS 2
#define f16_COLUMNS 8
#define bf16_COLUMNS 8

#define f32_WIDTH 4
#define f64_WIDTH 2

/* Products of eight-bit integers, in plain C. */
#include "integers.h"
