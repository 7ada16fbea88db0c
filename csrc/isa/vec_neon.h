/* 128-bit registers of AArch64: four floats or two doubles. Fused multiply-add is not used. */
#include <arm_neon.h>

typedef float32x4_t f32_reg;
typedef float64x2_t f64_reg;

#define NEON_TYPE(P, REAL, S, U, SHIFT)                                                            \
    static inline P##_reg P##_r_load(const REAL *p) { return vld1q_##S(p); }                       \
    static inline void P##_r_store(REAL *p, P##_reg a) { vst1q_##S(p, a); }                        \
    static inline P##_reg P##_r_set1(REAL a) { return vdupq_n_##S(a); }                            \
    static inline P##_reg P##_r_add(P##_reg a, P##_reg b) { return vaddq_##S(a, b); }              \
    static inline P##_reg P##_r_sub(P##_reg a, P##_reg b) { return vsubq_##S(a, b); }              \
    static inline P##_reg P##_r_mul(P##_reg a, P##_reg b) { return vmulq_##S(a, b); }              \
    static inline P##_reg P##_r_max(P##_reg a, P##_reg b) { return vmaxnmq_##S(a, b); }            \
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
        return vreinterpretq_##S##_##U(SHIFT(vreinterpretq_##U##_##S(a)));                         \
    }

#define NEON_SHIFT_32(x) vshlq_n_u32(x, 23)
#define NEON_SHIFT_64(x) vshlq_n_u64(x, 52)
NEON_TYPE(f32, float, f32, u32, NEON_SHIFT_32)
NEON_TYPE(f64, double, f64, u64, NEON_SHIFT_64)

static inline void f64_r_transpose(float64x2_t *r)
{
    float64x2_t low = vtrn1q_f64(r[0], r[1]);
    r[1] = vtrn2q_f64(r[0], r[1]);
    r[0] = low;
}

static inline void f32_r_transpose(float32x4_t *r)
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1]));
    float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3]));
    float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
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

#define F32_WIDTH 4
#define F32_ROWS 6
#define F32_FEW_ROWS 1
#define F32_FEW_COLS 4
#define F32_GROUP_VECS 1
#define F64_WIDTH 2
#define F64_ROWS 2
#define F64_FEW_ROWS 1
#define F64_FEW_COLS 2
#define F64_GROUP_VECS 1
