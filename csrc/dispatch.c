/* Which instruction sets this library holds, and which of them this processor and its operating
 * system run. The build says what was compiled by S2S_HAVE_*; nothing here uses a vector. */
#include "kernels.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>

/* Conversions of half floats: some compilers' __builtin_cpu_supports does not know the name. */
static int has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const s2s_kernels *s2s_kernels_of(int isa, int type)
{
    switch (isa) {
    case S2S_GENERIC:
        return &s2s_kernels_generic[type];
#ifdef S2S_HAVE_AVX2
    case S2S_AVX2:
        return &s2s_kernels_avx2[type];
#endif
#ifdef S2S_HAVE_AVX512
    case S2S_AVX512:
        return &s2s_kernels_avx512[type];
#endif
#ifdef S2S_HAVE_NEON
    case S2S_NEON:
        return &s2s_kernels_neon[type];
#endif
    default:
        return NULL;
    }
}

const s2s_layer_kernels *s2s_layer_kernels_of(int isa)
{
    switch (isa) {
#ifdef S2S_HAVE_AVX2
    case S2S_AVX2:
        return &s2s_layer_kernels_avx2;
#endif
#ifdef S2S_HAVE_AVX512
    case S2S_AVX512:
        return &s2s_layer_kernels_avx512;
#endif
#ifdef S2S_HAVE_NEON
    case S2S_NEON:
        return &s2s_layer_kernels_neon;
#endif
    default:
        return &s2s_layer_kernels_generic;
    }
}

const s2s_integer_kernels *s2s_integer_kernels_of(int isa)
{
    switch (isa) {
#if defined(S2S_HAVE_AVX2) && defined(S2S_HAVE_AVX512)
    case S2S_AVX512: /* its integer products came later than its floats */
        return __builtin_cpu_supports("avx512vnni") ? &s2s_integer_kernels_avx512
                                                    : &s2s_integer_kernels_avx2;
#endif
#ifdef S2S_HAVE_AVX2
    case S2S_AVX2:
        return &s2s_integer_kernels_avx2;
#endif
#ifdef S2S_HAVE_NEON
    case S2S_NEON:
        return &s2s_integer_kernels_neon;
#endif
    default:
        return &s2s_integer_kernels_generic;
    }
}

const char *s2s_isa_name(int isa)
{
    static const char *const names[S2S_ISAS] = {"generic", "avx2", "avx512", "neon"};
    return isa >= 0 && isa < S2S_ISAS ? names[isa] : "unknown";
}

int s2s_isa_compiled(int isa)
{
    return s2s_kernels_of(isa, S2S_FLOAT32) != NULL;
}

int s2s_isa_usable(int isa)
{
    if (!s2s_isa_compiled(isa))
        return 0;
    switch (isa) {
#if defined(__x86_64__) && defined(__GNUC__)
    /* The compiler's own check asks the operating system too, whether it saves the registers. */
    case S2S_AVX2:
        return __builtin_cpu_supports("avx2") && has_f16c();
    case S2S_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
               && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#endif
    default: /* generic runs everywhere, NEON on every processor of its architecture */
        return 1;
    }
}

const char *s2s_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}
