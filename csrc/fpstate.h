/* The floating-point control state that the contract asks for: round to nearest-even, subnormals
 * kept. Other libraries in a process can leave flush-to-zero on, so every piece of work sets the
 * state when it begins and puts back what it found (sticky exception flags included). */
#ifndef S2S_FPSTATE_H
#define S2S_FPSTATE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned int s2s_fpstate;
static inline s2s_fpstate s2s_fp_enter(void)
{
    s2s_fpstate before = _mm_getcsr();
    _mm_setcsr(0x1f80); /* the architecture's default: all exceptions masked, nothing flushed */
    return before;
}
static inline void s2s_fp_leave(s2s_fpstate before)
{
    _mm_setcsr(before);
}
#elif defined(__aarch64__)
typedef uint64_t s2s_fpstate;
static inline s2s_fpstate s2s_fp_enter(void)
{
    s2s_fpstate before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}
static inline void s2s_fp_leave(s2s_fpstate before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
#include <fenv.h>
typedef fenv_t s2s_fpstate;
static inline s2s_fpstate s2s_fp_enter(void)
{
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static inline void s2s_fp_leave(s2s_fpstate before)
{
    fesetenv(&before);
}
#endif

#endif
