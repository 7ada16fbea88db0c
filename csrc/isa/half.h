/* The half types' numbers as integers of 16 bits: widened exactly, rounded to nearest-even. Plain C
 * without branches, which compilers vectorise. NaN becomes the canonical one when it is rounded. */
#include <string.h>

static inline float bits_to_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t float_to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float f16_wide(uint16_t half)
{
    /* The exponent's bias is 112 less; subnormals become normal in the same multiplication. */
    const uint32_t magnitude = half & 0x7fffu, sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t bits = float_to_bits(bits_to_float(magnitude << 13) * 0x1p112f);
    return bits_to_float(bits | sign | (magnitude >= 0x7c00u ? 0x7f800000u : 0));
}

static inline uint16_t f16_narrow(float x)
{
    const uint32_t bits = float_to_bits(x), magnitude = bits & 0x7fffffffu;
    /* Adding 0.5 rounds a small number to a multiple of 2^-24: it then stands in the low bits. */
    const uint32_t small = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000u;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1)) >> 13;
    uint32_t half = magnitude < 0x38800000u ? small : normal;
    half = magnitude >= 0x477ff000u ? 0x7c00u : half; /* 65520 and more: infinity */
    half |= bits >> 16 & 0x8000u;
    return (uint16_t)(magnitude > 0x7f800000u ? 0x7e00u : half);
}

static inline float bf16_wide(uint16_t half)
{
    return bits_to_float((uint32_t)half << 16);
}

static inline uint16_t bf16_narrow(float x)
{
    const uint32_t bits = float_to_bits(x);
    const uint32_t half = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : half);
}

static inline float f32_wide(float x) { return x; }
static inline float f32_narrow(float x) { return x; }
static inline double f64_wide(double x) { return x; }
static inline double f64_narrow(double x) { return x; }
