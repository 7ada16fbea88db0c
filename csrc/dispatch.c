/* Instruction sets: which ones this library holds, and which of them this processor and its
 * operating system run. The build says what was compiled by S2S_HAVE_*; no vector is used here. */
#include "kernels.h"

/* An instruction set: its name and its tables of kernels, null where it was not compiled. */
typedef struct {
    const char *name;
    const s2s_kernels *kernels; /* by enum s2s_type */
    const s2s_layer_kernels *layers;
    const s2s_integer_kernels *integers;
} instruction_set;

static const instruction_set sets[S2S_ISAS] = {
    [S2S_GENERIC] = {"generic", s2s_kernels_generic, &s2s_layer_kernels_generic,
                     &s2s_integer_kernels_generic},
    [S2S_AVX2] = {.name = "avx2",
#ifdef S2S_HAVE_AVX2
                  .kernels = s2s_kernels_avx2,
                  .layers = &s2s_layer_kernels_avx2,
                  .integers = &s2s_integer_kernels_avx2
#endif
    },
    /* Two sets of the same floats: AVX-512 is older than its products of integers. */
    [S2S_AVX512] = {.name = "avx512",
#ifdef S2S_HAVE_AVX512
                    .kernels = s2s_kernels_avx512,
                    .layers = &s2s_layer_kernels_avx512,
                    .integers = &s2s_integer_kernels_avx2
#endif
    },
    [S2S_AVX512_VNNI] = {.name = "avx512_vnni",
#ifdef S2S_HAVE_AVX512
                         .kernels = s2s_kernels_avx512,
                         .layers = &s2s_layer_kernels_avx512,
                         .integers = &s2s_integer_kernels_avx512_vnni
#endif
    },
    [S2S_NEON] = {.name = "neon",
#ifdef S2S_HAVE_NEON
                  .kernels = s2s_kernels_neon,
                  .layers = &s2s_layer_kernels_neon,
                  .integers = &s2s_integer_kernels_neon
#endif
    },
};

const s2s_kernels *s2s_kernels_of(int isa, int type)
{
    return sets[isa].kernels + type;
}

const s2s_layer_kernels *s2s_layer_kernels_of(int isa)
{
    return sets[isa].layers;
}

const s2s_integer_kernels *s2s_integer_kernels_of(int isa)
{
    return sets[isa].integers;
}

const char *s2s_isa_name(int isa)
{
    return isa >= 0 && isa < S2S_ISAS ? sets[isa].name : "unknown";
}

int s2s_isa_compiled(int isa)
{
    return isa >= 0 && isa < S2S_ISAS && sets[isa].kernels;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* XCR0: the register states that the operating system saves when it switches threads. Without
 * them a set's instructions fault, or lose their registers, whatever CPUID says. */
enum { YMM_STATE = 0x06, ZMM_STATE = 0xe6 }; /* with XMM's; ZMM with opmask, both halves */

static unsigned saved_states(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* CPUID's feature bits, in leaf 1's ECX and leaf 7's EBX and ECX, and XCR0's that a set needs. */
typedef struct {
    unsigned leaf1_ecx, leaf7_ebx, leaf7_ecx, states;
} features;

#define LEAF1_AVX (bit_OSXSAVE | bit_AVX | bit_F16C)
#define LEAF7_AVX512 (bit_AVX2 | bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL)
static const features needed[S2S_ISAS] = {
    [S2S_AVX2] = {LEAF1_AVX, bit_AVX2, 0, YMM_STATE},
    [S2S_AVX512] = {LEAF1_AVX, LEAF7_AVX512, 0, ZMM_STATE},
    [S2S_AVX512_VNNI] = {LEAF1_AVX, LEAF7_AVX512, bit_AVX512VNNI, ZMM_STATE},
};

static features found(void)
{
    features f = {0, 0, 0, 0};
    unsigned eax, ebx, ecx, edx;
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        f.leaf1_ecx = ecx;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        f.leaf7_ebx = ebx;
        f.leaf7_ecx = ecx;
    }
    if (f.leaf1_ecx & bit_OSXSAVE) /* else XGETBV faults */
        f.states = saved_states();
    return f;
}

static int runs(int isa)
{
    const features f = found(), *const n = needed + isa;
    return (n->leaf1_ecx & ~f.leaf1_ecx) == 0 && (n->leaf7_ebx & ~f.leaf7_ebx) == 0
           && (n->leaf7_ecx & ~f.leaf7_ecx) == 0 && (n->states & ~f.states) == 0;
}
#else
/* Other architectures' sets are part of every processor that they were compiled for. */
static int runs(int isa)
{
    (void)isa;
    return 1;
}
#endif

int s2s_isa_usable(int isa)
{
    return s2s_isa_compiled(isa) && runs(isa);
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
