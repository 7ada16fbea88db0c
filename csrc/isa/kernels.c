/* All kernels of one instruction set. The build compiles this file once per set, with that set's
 * own flags and -DS2S_ISA_<SET>. Everything is static but one table: a function that is compiled
 * for wide vectors must never be the one that the linker keeps for the baseline. */
#include <math.h>

#include "../kernels.h"
#include "half.h"

#if defined(S2S_ISA_AVX512)
#define KERNELS s2s_kernels_avx512
#define LAYER_KERNELS s2s_layer_kernels_avx512
#define INTEGER_KERNELS s2s_integer_kernels_avx512_vnni
#include "vec_avx512.h"
#elif defined(S2S_ISA_AVX2)
#define KERNELS s2s_kernels_avx2
#define LAYER_KERNELS s2s_layer_kernels_avx2
#define INTEGER_KERNELS s2s_integer_kernels_avx2
#include "vec_avx2.h"
#elif defined(S2S_ISA_NEON)
#define KERNELS s2s_kernels_neon
#define LAYER_KERNELS s2s_layer_kernels_neon
#define INTEGER_KERNELS s2s_integer_kernels_neon
#include "vec_neon.h"
#else
#define KERNELS s2s_kernels_generic
#define LAYER_KERNELS s2s_layer_kernels_generic
#define INTEGER_KERNELS s2s_integer_kernels_generic
#include "vec_generic.h"
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
/* exp, tanh and erf become part of the loops that use them; where a vector is sixteen scalars, they
 * are hundreds of instructions each, beside which a call is nothing. */
#if F32_WIDTH == 1
#define MATH_INLINE NOINLINE
#else
#define MATH_INLINE ALWAYS_INLINE
#endif
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A tile function takes as many rows at once as it has, up to MOST, over all panels from g on, with
 * its own TILE(rows, cols); `done` says how many it took. */
#define ROWS_AT_ONCE(R, MOST)                                                                      \
    if (rows >= (R) && (R) <= (MOST)) {                                                            \
        done = (R);                                                                                \
        for (; g < cols; g++)                                                                      \
            TILE((R) <= (MOST) ? (R) : 1, 1);                                                      \
    }
#define MOST_ROWS_OF(MOST)                                                                         \
    ROWS_AT_ONCE(24, MOST)                                                                         \
    else ROWS_AT_ONCE(16, MOST)                                                                    \
    else ROWS_AT_ONCE(12, MOST)                                                                    \
    else ROWS_AT_ONCE(8, MOST)                                                                     \
    else ROWS_AT_ONCE(6, MOST)                                                                     \
    else ROWS_AT_ONCE(4, MOST)                                                                     \
    else ROWS_AT_ONCE(3, MOST)                                                                     \
    else ROWS_AT_ONCE(2, MOST)                                                                     \
    else ROWS_AT_ONCE(1, MOST)

/* Tiles of that many rows ask for the lines of their panel so many steps ahead: a step has time for
 * one more instruction, and their rows of `a` leave little room in the first-level cache. */
enum { MANY_ROWS = 12, LINES_AHEAD = 24 };

/* ask_for() into the first-level cache: for what is needed next. */
static inline void fetch(const void *p, ptrdiff_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 0, 3);
}

/* ---- float, and the types that are computed in it ---- */

/* exp(x) = 2^n * root of two * (1 + (r + r^2 * poly(r))), r on [-ln2/32, ln2/32]; tanh's exponential
 * has no roots, and r on [-ln2/2, ln2/2]. The high part of ln2 has few enough bits that its product
 * with n is exact. Adding a magic number rounds: to sixteenths, whose count stands in the low bits,
 * or to whole numbers, there with the exponent's bias added. */
#define ROOTS_OF_TWO                                                                               \
    (REAL)0x1p+0, (REAL)0x1.0b5586cf9890fp+0, (REAL)0x1.172b83c7d517bp+0,                          \
        (REAL)0x1.2387a6e756238p+0, (REAL)0x1.306fe0a31b715p+0, (REAL)0x1.3dea64c123422p+0,        \
        (REAL)0x1.4bfdad5362a27p+0, (REAL)0x1.5ab07dd485429p+0, (REAL)0x1.6a09e667f3bcdp+0,        \
        (REAL)0x1.7a11473eb0187p+0, (REAL)0x1.8ace5422aa0dbp+0, (REAL)0x1.9c49182a3f090p+0,        \
        (REAL)0x1.ae89f995ad3adp+0, (REAL)0x1.c199bdd85529cp+0, (REAL)0x1.d5818dcfba487p+0,        \
        (REAL)0x1.ea4afa2a490dap+0

#define REAL float
#define T(name) f32_##name
#define WIDTH F32_WIDTH
#define ROWS F32_ROWS
#define FEW_ROWS F32_FEW_ROWS
#define MOST_COLS F32_MOST_COLS
#define GROUP_VECS F32_GROUP_VECS
#define EXP_LEAST -87.0f
#define TANH_MOST 20.0f
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_MAGIC 0x1.8000fep+23f
#define EXP_MAGIC_16 0x1.8p+19f
#define EXP_LN2_HIGH 0x1.62ep-1f
#define EXP_LN2_LOW 0x1.0bfbe8p-15f
#define EXP_POLY 0x1.555734p-3f, 0x1.00022p-1f
#define TANH_POLY                                                                                  \
    0x1.6a23cep-10f, 0x1.123a20p-7f, 0x1.5558fap-5f, 0x1.555492p-3f, 0x1.fffffcp-2f
#include "lanes.h"
#include "math.h"
#include "rows.h"

/* erf(a) = a * poly(d) in sixteen pieces, each a quarter wide, d from the middle of its piece: the
 * coefficients of each power, highest first. From ERF_MOST on it is 1. */
#define ERF_MOST 3.921875f
#define ERF_TABLE                                                                                  \
    {-0x1.3ef6a2p-16f, -0x1.7b01a8p-15f, -0x1.7d051cp-15f, -0x1.a30542p-16f, -0x1.62d6c8p-21f,     \
     0x1.d7de22p-17f, 0x1.15582p-16f, 0x1.8b4a56p-17f, 0x1.83f0ccp-18f, 0x1.b7ce18p-20f,           \
     -0x1.42934ep-22f, -0x1.c5956ap-21f, -0x1.ab84aap-21f, -0x1.41755p-21f, -0x1.c03928p-22f,      \
     -0x1.336eaep-22f},                                                                            \
    {0x1.b26736p-12f, 0x1.00cfecp-12f, 0x1.039aep-17f, -0x1.6bb6cp-13f, -0x1.ee48b6p-13f,          \
     -0x1.9d3456p-13f, -0x1.e80ae8p-14f, -0x1.7157fap-15f, -0x1.0b2998p-21f, 0x1.1ec966p-16f,      \
     0x1.4a6202p-16f, 0x1.141936p-16f, 0x1.9a712ep-17f, 0x1.25015cp-17f, 0x1.a0c85ep-18f,          \
     0x1.2c04fp-18f},                                                                              \
    {0x1.c5a77p-11f, 0x1.24d5f4p-9f, 0x1.671dbp-9f, 0x1.367b2cp-9f, 0x1.8a2976p-10f,               \
     0x1.3fc1cep-11f, -0x1.6844dp-16f, -0x1.5d2c2cp-12f, -0x1.ae6c76p-12f, -0x1.834a48p-12f,       \
     -0x1.3244d2p-12f, -0x1.cac5p-13f, -0x1.52a6bp-13f, -0x1.f709a2p-14f, -0x1.7b265ap-14f,        \
     -0x1.229a5cp-14f},                                                                            \
    {-0x1.766ac6p-6f, -0x1.276b5p-6f, -0x1.527662p-7f, -0x1.457a8ep-9f, 0x1.bbf076p-9f,            \
     0x1.ab144ep-8f, 0x1.df8a4cp-8f, 0x1.b7e9a8p-8f, 0x1.6bfbecp-8f, 0x1.1e31ep-8f,                \
     0x1.ba09b4p-9f, 0x1.560c04p-9f, 0x1.0bd8e2p-9f, 0x1.a9f472p-10f, 0x1.57e982p-10f,             \
     0x1.1993dcp-10f},                                                                             \
    {-0x1.7d8ff6p-6f, -0x1.09ac2ep-4f, -0x1.7edefep-4f, -0x1.b29328p-4f, -0x1.ad1538p-4f,          \
     -0x1.82ad18p-4f, -0x1.48b7c4p-4f, -0x1.0e9e1ap-4f, -0x1.b87062p-5f, -0x1.67575ap-5f,          \
     -0x1.284246p-5f, -0x1.ef1beep-6f, -0x1.a35764p-6f, -0x1.6793eep-6f, -0x1.37b3d6p-6f,          \
     -0x1.10c82ep-6f},                                                                             \
    {0x1.1f5e1ap+0f, 0x1.13e08cp+0f, 0x1.fe8f16p-1f, 0x1.cacbc2p-1f, 0x1.9450bcp-1f,               \
     0x1.611066p-1f, 0x1.3448f8p-1f, 0x1.0ee122p-1f, 0x1.e09a7ap-2f, 0x1.aed2p-2f,                 \
     0x1.8603ep-2f, 0x1.642828p-2f, 0x1.47ad4p-2f, 0x1.2f6828p-2f, 0x1.1a7b9p-2f,                  \
     0x1.08421p-2f}
#define GELU_ROOT 0x1.6a09e6p-1f     /* sqrt(1/2) */
#define GELU_CUBE 0.044715f
#define GELU_TANH 0x1.988454p-1f     /* sqrt(2 / pi) */
#define GELU_SIGMOID 1.702f
#define LOG_ROOT 0x1.6a09e6p-1f      /* sqrt(1/2) */
#define I8_LEAST 0x1p-100f           /* a row of less is quantised as if it held this */
#define WHOLE_MAGIC 0x1.8p+23f       /* adding it rounds to an integer, in the low bits */
#include "layers.h"

#define ELEMENT float
#define S(name) f32_##name
#include "tile.h"
#undef ELEMENT
#undef S

#define ELEMENT uint16_t
#define S(name) f16_##name
#include "tile.h"
#undef S
#define S(name) bf16_##name
#include "tile.h"
#undef ELEMENT
#undef S

#undef REAL
#undef T
#undef WIDTH
#undef ROWS
#undef FEW_ROWS
#undef MOST_COLS
#undef GROUP_VECS
#undef EXP_LEAST
#undef TANH_MOST
#undef EXP_LOG2E
#undef EXP_MAGIC
#undef EXP_MAGIC_16
#undef EXP_LN2_HIGH
#undef EXP_LN2_LOW
#undef EXP_POLY
#undef TANH_POLY

/* ---- double ---- */

#define REAL double
#define T(name) f64_##name
#define WIDTH F64_WIDTH
#define ROWS F64_ROWS
#define FEW_ROWS F64_FEW_ROWS
#define MOST_COLS F64_MOST_COLS
#define GROUP_VECS F64_GROUP_VECS
#define EXP_LEAST -708.0
#define TANH_MOST 40.0
#define EXP_LOG2E 0x1.71547652b82fep+0
#define EXP_MAGIC 0x1.80000000003ffp+52
#define EXP_MAGIC_16 0x1.8p+48
#define EXP_LN2_HIGH 0x1.62e42fefa4p-1
#define EXP_LN2_LOW -0x1.8432a1b0e2634p-43
#define EXP_POLY                                                                                   \
    0x1.a01b86a249999p-13, 0x1.6c184177b39f4p-10, 0x1.111111108fbb7p-7, 0x1.555555547f64p-5,       \
        0x1.5555555555559p-3, 0x1.0000000000004p-1
#define TANH_POLY                                                                                  \
    0x1.ad7e6d051aaaap-26, 0x1.28ada1d7e48acp-22, 0x1.71df261b6b0e2p-19, 0x1.a01999d9c338cp-16,    \
        0x1.a01a0129f663ap-13, 0x1.6c16c1843cc95p-10, 0x1.1111111127ce6p-7, 0x1.5555555550825p-5,  \
        0x1.55555555554fap-3, 0x1.000000000000ap-1
#include "lanes.h"
#include "math.h"
#include "rows.h"

#define ELEMENT double
#define S(name) f64_##name
#include "tile.h"

/* Compute type C, element type E. */
#define TABLE(E, ELEMENT, C, COMPUTE, ROWS)                                                        \
    {                                                                                              \
        .element_size = sizeof(ELEMENT), .compute_type = COMPUTE, .tile_rows = ROWS,               \
        .widen = E##_widen, .pack = E##_pack, .split = E##_split, .dots = E##_dots,                \
        .tile = E##_tile,                                                                          \
        .context_visible = E##_context_visible, .divide = E##_divide, .softcap = C##_softcap,      \
        .mask = C##_mask, .greatest = C##_greatest, .weigh = C##_weigh, .add_sink = C##_add_sink   \
    }
const s2s_kernels KERNELS[S2S_FLOAT_TYPES] = {
    [S2S_FLOAT32] = TABLE(f32, float, f32, S2S_FLOAT32, F32_ROWS),
    [S2S_FLOAT64] = TABLE(f64, double, f64, S2S_FLOAT64, F64_ROWS),
    [S2S_FLOAT16] = TABLE(f16, uint16_t, f32, S2S_FLOAT32, F32_ROWS),
    [S2S_BFLOAT16] = TABLE(bf16, uint16_t, f32, S2S_FLOAT32, F32_ROWS),
};

const s2s_layer_kernels LAYER_KERNELS = {
    .finish = finish, .norm = norm, .recur = recur, .best = best};
const s2s_integer_kernels INTEGER_KERNELS = {
    .input_size = sizeof(i8_input), .tile_rows = I8_ROWS,
    .quantise = quantise, .tile = integer_tile, .dequantise = dequantise,
    .pack = pack_integers, .score = score_integers};
