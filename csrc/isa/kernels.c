/* All kernels of one instruction set. The build compiles this file once per set, with that set's
 * own flags and -DS2S_ISA_<SET>. Everything is static but one table: a function that is compiled
 * for wide vectors must never be the one that the linker keeps for the baseline. */
#include <math.h>

#include "../kernels.h"
#include "../tuning.h"
#include "coefficients.h"
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
#if f32_WIDTH == 1
#define MATH_INLINE NOINLINE
#else
#define MATH_INLINE ALWAYS_INLINE
#endif
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* A loop of constant length n over i, unrolled, so that what it indexes lives in registers. */
#define UNROLLED(i, n) UNROLL for (int i = 0; i < (n); i++)

/* Whether a tile takes `count` rows at once of those that are left, where a set's tiles have up to
 * `max`: all but `rows` are constants. */
static ALWAYS_INLINE int takes(const int count, const int max, int rows)
{
    return count <= max && rows >= count;
}

/* prefetch_l2() into the first-level cache: for what is needed next. */
static inline void prefetch_l1(const void *p, ptrdiff_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 0, 3);
}

/* ---- float, and the types that are computed in it ---- */

#define REAL float
#define T(name) f32_##name
#include "lanes.h"
#include "math.h"
#include "rows.h"
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

/* ---- double ---- */

#define REAL double
#define T(name) f64_##name
#include "lanes.h"
#include "math.h"
#include "rows.h"

#define ELEMENT double
#define S(name) f64_##name
#include "tile.h"

/* Compute type C, element type E. */
#define TABLE(E, ELEMENT, C, COMPUTE)                                                              \
    {                                                                                              \
        .element_size = sizeof(ELEMENT), .compute_type = COMPUTE, .tile_rows = C##_ROWS,           \
        .widen = E##_widen, .pack_keys = E##_pack_keys, .pack_values = E##_pack_values,            \
        .small_dot = E##_small_dot, .tile = E##_tile, .context_visible = E##_context_visible,      \
        .normalize = E##_normalize, .softcap = C##_softcap, .mask = C##_mask,                      \
        .row_max = C##_row_max, .exp_and_sum = C##_exp_and_sum, .add_sink = C##_add_sink           \
    }
const s2s_kernels KERNELS[S2S_FLOAT_TYPES] = {
    [S2S_FLOAT32] = TABLE(f32, float, f32, S2S_FLOAT32),
    [S2S_FLOAT64] = TABLE(f64, double, f64, S2S_FLOAT64),
    [S2S_FLOAT16] = TABLE(f16, uint16_t, f32, S2S_FLOAT32),
    [S2S_BFLOAT16] = TABLE(bf16, uint16_t, f32, S2S_FLOAT32),
};

const s2s_layer_kernels LAYER_KERNELS = {.epilogue = epilogue, .norm = norm, .ssru_step = ssru_step,
                                         .topk_log_softmax = topk_log_softmax};
const s2s_integer_kernels INTEGER_KERNELS = {
    .input_size = sizeof(i8_input), .tile_rows = I8_ROWS,
    .quantise = quantise, .tile = integer_tile, .dequantise = dequantise,
    .pack_keys = pack_integer_keys, .score = score_integers};
