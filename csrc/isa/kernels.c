/* All kernels of one instruction set. The build compiles this file once per set, with that set's
 * own flags and -DS2S_ISA_<SET>. Everything is static but one table: a function that is compiled
 * for wide vectors must never be the one that the linker keeps for the baseline. */
#include <math.h>

#include "../kernels.h"
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
        .widen = E##_widen, .pack = E##_pack, .split = E##_split, .dots = E##_dots,                \
        .tile = E##_tile,                                                                          \
        .context_visible = E##_context_visible, .divide = E##_divide, .softcap = C##_softcap,      \
        .mask = C##_mask, .greatest = C##_greatest, .weigh = C##_weigh, .add_sink = C##_add_sink   \
    }
const s2s_kernels KERNELS[S2S_FLOAT_TYPES] = {
    [S2S_FLOAT32] = TABLE(f32, float, f32, S2S_FLOAT32),
    [S2S_FLOAT64] = TABLE(f64, double, f64, S2S_FLOAT64),
    [S2S_FLOAT16] = TABLE(f16, uint16_t, f32, S2S_FLOAT32),
    [S2S_BFLOAT16] = TABLE(bf16, uint16_t, f32, S2S_FLOAT32),
};

const s2s_layer_kernels LAYER_KERNELS = {
    .finish = finish, .norm = norm, .recur = recur, .best = best};
const s2s_integer_kernels INTEGER_KERNELS = {
    .input_size = sizeof(i8_input), .tile_rows = I8_ROWS,
    .quantise = quantise, .tile = integer_tile, .dequantise = dequantise,
    .pack = pack_integers, .score = score_integers};
