/* Folds of 128- and 256-bit registers, for both AVX2 and AVX-512. */
#include <immintrin.h>

#define FOLD_128(op)                                                                               \
    static inline float f32_fold_128_##op(__m128 a)                                                \
    {                                                                                              \
        a = _mm_##op##_ps(a, _mm_movehl_ps(a, a));                                                 \
        return _mm_cvtss_f32(_mm_##op##_ss(a, _mm_shuffle_ps(a, a, 1)));                           \
    }                                                                                              \
    static inline double f64_fold_128_##op(__m128d a)                                              \
    {                                                                                              \
        return _mm_cvtsd_f64(_mm_##op##_sd(a, _mm_unpackhi_pd(a, a)));                             \
    }
FOLD_128(add)
FOLD_128(max)

#define FOLD_256(op)                                                                               \
    static inline float f32_fold_256_##op(__m256 a)                                                \
    {                                                                                              \
        return f32_fold_128_##op(                                                                  \
            _mm_##op##_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)));                \
    }                                                                                              \
    static inline double f64_fold_256_##op(__m256d a)                                              \
    {                                                                                              \
        return f64_fold_128_##op(                                                                  \
            _mm_##op##_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1)));                \
    }
FOLD_256(add)
FOLD_256(max)
