/* The rate of the kernel's matrix tile beside that of a loop of nothing but multiply and add, on one
 * core with AVX-512, float32. From the project's top folder:
 *
 *   F="-std=c11 -O3 -ffp-contract=off -mavx512f -mavx512dq -mavx512bw -mavx512vl"
 *   gcc $F -DS2S_ISA_AVX512 -D_POSIX_C_SOURCE=199309L benchmarks/tile.c csrc/isa/kernels.c -lm -o /tmp/tile
 *   /tmp/tile
 */
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../csrc/kernels.h"

enum { ROUNDS = 15 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Eight independent sums and eight independent products, in turn. */
static double peak(void)
{
    const int steps = 200000;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        __m512 sum[8], product[8];
        for (int i = 0; i < 8; i++)
            sum[i] = product[i] = _mm512_set1_ps(1.0f + (float)i); /* all different, or they are one */
        const __m512 factor = _mm512_set1_ps(0.999999f);
        const double start = now();
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < 8; i++) {
                sum[i] = _mm512_add_ps(sum[i], factor);
                product[i] = _mm512_mul_ps(product[i], factor);
            }
        const double rate = 16.0 * 16 * steps / (now() - start);
        volatile float sink = 0;
        for (int i = 0; i < 8; i++)
            sink = sink + _mm512_reduce_add_ps(_mm512_add_ps(sum[i], product[i]));
        best = rate > best ? rate : best;
    }
    return best;
}

static double tile(int rows, int cols, int depth, const float *a, const float *b, float *c)
{
    const s2s_kernels *const kernels = &s2s_kernels_avx512[S2S_FLOAT32];
    const double flops = 2.0 * rows * 16 * cols * depth;
    const int times = (int)(4e7 / flops) + 1;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now();
        for (int i = 0; i < times; i++)
            kernels->tile(rows, cols, a, b, 16, 16 * depth, depth, c, S2S_LDA, 0, 1);
        const double rate = flops * times / (now() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

int main(void)
{
    const size_t size = 96 * S2S_LDA * sizeof(float);
    float *const a = aligned_alloc(64, size), *const b = aligned_alloc(64, size);
    float *const c = aligned_alloc(64, size);
    if (!a || !b || !c)
        return 1;
    for (int i = 0; i < 96 * S2S_LDA; i++)
        a[i] = b[i] = (float)(i % 7);
    printf("multiply and add alone: %.0f Gflop/s\n", peak() / 1e9);
    const int shapes[][3] = {{96, 4, 64}, {96, 4, 128}, {96, 4, 256}, {24, 4, 64}, {1, 4, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        printf("tile, %d rows x %d panels, depth %d: %.0f Gflop/s\n", shapes[i][0], shapes[i][1],
               shapes[i][2], tile(shapes[i][0], shapes[i][1], shapes[i][2], a, b, c) / 1e9);
    free(a);
    free(b);
    free(c);
    return 0;
}
