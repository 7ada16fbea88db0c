/* All kernels of one instruction set. The build compiles this file once per set, with that set's
 * own flags and -DS2S_ISA_<SET>. Everything is static but one table: a function that is compiled
 * for wide vectors must never be the one that the linker keeps for the baseline. */
#include <math.h>

#include "../kernels.h"
#include "half.h"

#if defined(S2S_ISA_AVX512)
#define KERNELS s2s_kernels_avx512
#include "vec_avx512.h"
#elif defined(S2S_ISA_AVX2)
#define KERNELS s2s_kernels_avx2
#include "vec_avx2.h"
#elif defined(S2S_ISA_NEON)
#define KERNELS s2s_kernels_neon
#include "vec_neon.h"
#else
#define KERNELS s2s_kernels_generic
#include "vec_generic.h"
#endif

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
enum { CACHE_LINE = 64 };

/* Asks for the memory `bytes` from p, wherever that is: nothing happens if there is none. Into the
 * second-level cache, which can have more requests under way than the first. */
static inline void ask_for(const void *p, ptrdiff_t bytes)
{
    __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)bytes), 0, 2);
}

/* ---- float, and the types that are computed in it ---- */

/* exp(r) = 1 + (r + r^2 * poly(r)) on [-ln2/2, ln2/2]. The high part of ln2 has few enough bits
 * that its product with n is exact. The magic number is 1.5 * 2^mantissa + exponent bias. */
#define REAL float
#define T(name) f32_##name
#define WIDTH F32_WIDTH
#define ROWS F32_ROWS
#define FEW_ROWS F32_FEW_ROWS
#define MOST_COLS F32_MOST_COLS
#define GROUP_VECS F32_GROUP_VECS
#define EXP_LEAST -87.0f
#define TANH_LEAST -40.0f
#define EXP_LOG2E 0x1.715476p+0f
#define EXP_MAGIC 0x1.8000fep+23f
#define EXP_LN2_HIGH 0x1.63p-1f
#define EXP_LN2_LOW -0x1.bd0106p-13f
#define EXP_POLY                                                                                   \
    0x1.6a23cep-10f, 0x1.123a20p-7f, 0x1.5558fap-5f, 0x1.555492p-3f, 0x1.fffffcp-2f
#include "lanes.h"
#include "math.h"
#include "rows.h"

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
#undef TANH_LEAST
#undef EXP_LOG2E
#undef EXP_MAGIC
#undef EXP_LN2_HIGH
#undef EXP_LN2_LOW
#undef EXP_POLY

/* ---- double ---- */

#define REAL double
#define T(name) f64_##name
#define WIDTH F64_WIDTH
#define ROWS F64_ROWS
#define FEW_ROWS F64_FEW_ROWS
#define MOST_COLS F64_MOST_COLS
#define GROUP_VECS F64_GROUP_VECS
#define EXP_LEAST -708.0
#define TANH_LEAST -80.0
#define EXP_LOG2E 0x1.71547652b82fep+0
#define EXP_MAGIC 0x1.80000000003ffp+52
#define EXP_LN2_HIGH 0x1.62e42feep-1
#define EXP_LN2_LOW 0x1.a39ef35793c76p-33
#define EXP_POLY                                                                                   \
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
        .widen = E##_widen, .pack = E##_pack, .dots = E##_dots, .tile = E##_tile,                  \
        .context_visible = E##_context_visible, .divide = E##_divide, .softcap = C##_softcap,      \
        .mask = C##_mask, .greatest = C##_greatest, .weigh = C##_weigh, .add_sink = C##_add_sink   \
    }
const s2s_kernels KERNELS[S2S_TYPES] = {
    [S2S_FLOAT32] = TABLE(f32, float, f32, S2S_FLOAT32, F32_ROWS),
    [S2S_FLOAT64] = TABLE(f64, double, f64, S2S_FLOAT64, F64_ROWS),
    [S2S_FLOAT16] = TABLE(f16, uint16_t, f32, S2S_FLOAT32, F32_ROWS),
    [S2S_BFLOAT16] = TABLE(bf16, uint16_t, f32, S2S_FLOAT32, F32_ROWS),
};
