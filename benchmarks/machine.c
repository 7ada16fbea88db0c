/* What one core of this machine can do at most: loops of nothing but multiply and add in float32, of
 * nothing but dot products of eight-bit integers (VNNI), and of nothing but reads of a buffer, for
 * several sizes. limits.py builds and runs it. Prints a line of "name value" each: "float" and
 * "integer", 10^9 products a second; and by their size, GB/s of reads. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

/* Vectors of one register, and so many that all stay in registers. */
#ifdef __AVX512F__
enum { ROUNDS = 9, WIDTH = 16, COUNT = 8 };
#elif defined(__AVX__)
enum { ROUNDS = 9, WIDTH = 8, COUNT = 6 };
#else
enum { ROUNDS = 9, WIDTH = 4, COUNT = 6 };
#endif
typedef float vector __attribute__((vector_size(4 * WIDTH)));

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile float sink;

/* Independent sums and as many independent products, in turn. */
static double multiply_add(void)
{
    const int steps = 400000;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        vector sum[COUNT], product[COUNT], factor;
        for (int i = 0; i < WIDTH; i++)
            factor[i] = 0.999999f;
        for (int i = 0; i < COUNT; i++) /* all different, or the compiler makes one of them */
            for (int lane = 0; lane < WIDTH; lane++)
                sum[i][lane] = product[i][lane] = (float)(i + round);
        const double start = now();
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < COUNT; i++) {
                sum[i] += factor;
                product[i] *= factor;
            }
        const double rate = 1.0 * COUNT * WIDTH * steps / (now() - start);
        for (int i = 0; i < COUNT; i++)
            sink = sum[i][0] + product[i][0];
        best = rate > best ? rate : best;
    }
    return best / 1e9;
}

#ifdef __AVX512VNNI__
/* Sixteen independent sums, each of four products in sixteen lanes. */
static double integer_products(void)
{
    const int steps = 400000;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        __m512i sum[16];
        const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
        for (int i = 0; i < 16; i++)
            sum[i] = _mm512_set1_epi32(i + round);
        const double start = now();
        for (int step = 0; step < steps; step++)
            for (int i = 0; i < 16; i++)
                __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[i]) : "v"(a), "v"(b));
        const double rate = 16.0 * 64 * steps / (now() - start);
        for (int i = 0; i < 16; i++)
            sink = (float)_mm512_reduce_add_epi32(sum[i]);
        best = rate > best ? rate : best;
    }
    return best / 1e9;
}
#endif

static double read_rate(const vector *data, size_t size)
{
    const size_t count = size / sizeof(vector), repeats = (64u << 20) / size + 1;
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        vector sum[8] = {0};
        const double start = now();
        for (size_t repeat = 0; repeat < repeats; repeat++) {
            for (size_t i = 0; i + 8 <= count; i += 8)
                for (int j = 0; j < 8; j++)
                    sum[j] += data[i + (size_t)j];
            __asm__ volatile("" ::: "memory");
        }
        const double rate = (double)(size * repeats) / (now() - start);
        for (int i = 0; i < 8; i++)
            sink = sum[i][0];
        best = rate > best ? rate : best;
    }
    return best / 1e9;
}

int main(void)
{
    const size_t most = 256u << 20, huge = 2u << 20;
    char *const data = aligned_alloc(huge, most);
    if (!data)
        return 1;
    madvise(data, most, MADV_HUGEPAGE); /* as NumPy does for its large arrays */
    for (size_t i = 0; i < most; i += sizeof(float))
        *(float *)(data + i) = 1;
    printf("float %.1f\n", multiply_add());
#ifdef __AVX512VNNI__
    printf("integer %.1f\n", integer_products());
#endif
    for (size_t size = 1u << 20; size <= most; size *= 2)
        printf("%zu %.1f\n", size, read_rate((const vector *)data, size));
    free(data);
    return 0;
}
