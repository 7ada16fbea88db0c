/* Runs the kernels outside Python against problems and results that the contract wrote
 * (test_replay.py): for other compilers, sanitizers, and processors under emulation.
 *
 * usage: replay FILE
 * FILE: int64 count, then for each problem
 *   int64 type, batch, heads, key_heads, queries, keys, width, value_width,
 *         causal, causal_offset, has_mask, has_bias, has_lengths;  double scale;
 *   query, key, value, [mask (queries, keys) bytes], [bias (heads, 1, keys)], [lengths (batch)],
 *   out, weights: contiguous, (batch, heads, rows, columns).
 * Prints what ran; exits with 1 if a bit differs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../csrc/seq2seq_fast.h"

static FILE *file;

static void *take(size_t size)
{
    /* Exactly as long as the data, so that a sanitizer sees every step past its end. */
    void *data = malloc(size ? size : 1);
    if (!data || fread(data, 1, size, file) != size) {
        fprintf(stderr, "replay: the file is cut short\n");
        exit(2);
    }
    return data;
}

static s2s_strides contiguous(int64_t heads, int64_t rows, int64_t columns, int64_t size)
{
    s2s_strides s = {.head = rows * columns * size, .row = columns * size, .column = size};
    s.lead[0] = heads * s.head;
    return s;
}

enum { TYPE, BATCH, HEADS, KEY_HEADS, QUERIES, KEYS, WIDTH, VALUE_WIDTH,
       CAUSAL, CAUSAL_OFFSET, HAS_MASK, HAS_BIAS, HAS_LENGTHS, FIELDS };

static long replay_one(void)
{
    int64_t *const f = take(FIELDS * sizeof *f);
    double *const scale = take(sizeof *scale);
    const int64_t size = f[TYPE] == S2S_FLOAT64 ? 8 : 4;
    s2s_attention_problem p = {.type = (int32_t)f[TYPE], .lead_axes = 1, .lead = {f[BATCH]},
                               .heads = f[HEADS], .key_heads = f[KEY_HEADS],
                               .queries = f[QUERIES], .keys = f[KEYS], .width = f[WIDTH],
                               .value_width = f[VALUE_WIDTH], .causal = f[CAUSAL],
                               .causal_offset = f[CAUSAL_OFFSET]};
    p.query = contiguous(p.heads, p.queries, p.width, size);
    p.key = contiguous(p.key_heads, p.keys, p.width, size);
    p.value = contiguous(p.key_heads, p.keys, p.value_width, size);
    p.out = contiguous(p.heads, p.queries, p.value_width, size);
    p.weights = contiguous(p.heads, p.queries, p.keys, size);
    p.mask = (s2s_strides){.row = p.keys, .column = 1};
    p.bias = (s2s_strides){.head = p.keys * size, .column = size};
    p.key_lengths[0] = sizeof(int64_t);

    const int64_t key_rows = p.lead[0] * p.key_heads * p.keys;
    const int64_t query_rows = p.lead[0] * p.heads * p.queries;
    const size_t out_size = (size_t)(query_rows * p.value_width * size);
    const size_t weights_size = (size_t)(query_rows * p.keys * size);
    void *const query = take((size_t)(query_rows * p.width * size));
    void *const key = take((size_t)(key_rows * p.width * size));
    void *const value = take((size_t)(key_rows * p.value_width * size));
    void *const mask = f[HAS_MASK] ? take((size_t)(p.queries * p.keys)) : NULL;
    void *const bias = f[HAS_BIAS] ? take((size_t)(p.heads * p.keys * size)) : NULL;
    void *const lengths = f[HAS_LENGTHS] ? take((size_t)p.lead[0] * sizeof(int64_t)) : NULL;
    void *const want_out = take(out_size), *const want_weights = take(weights_size);
    void *const out = malloc(out_size + 1), *const weights = malloc(weights_size + 1);

    long failures = 0;
    for (int isa = 0; isa < S2S_ISAS; isa++)
        for (int threads = 1; s2s_isa_usable(isa) && threads <= 3; threads++)
            for (int with_weights = 0; with_weights < 2; with_weights++) {
                memset(out, 0x55, out_size);
                memset(weights, 0x55, weights_size);
                const int status =
                    s2s_attention(&p, isa, threads, *scale, query, key, value, mask, bias,
                                  lengths, out, with_weights ? weights : NULL);
                if (status != S2S_OK || memcmp(out, want_out, out_size)
                    || (with_weights && memcmp(weights, want_weights, weights_size))) {
                    fprintf(stderr, "replay: %s differs: %lld x %lld x %lld x %lld\n",
                            s2s_isa_name(isa), (long long)p.queries, (long long)p.keys,
                            (long long)p.width, (long long)p.value_width);
                    failures++;
                }
            }
    void *const all[] = {f, scale, query, key, value, mask, bias, lengths,
                         want_out, want_weights, out, weights};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return failures;
}

int main(int argc, char **argv)
{
    file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        fprintf(stderr, "usage: replay FILE\n");
        return 2;
    }
    int64_t *const count = take(sizeof *count);
    long failures = 0;
    for (int64_t i = 0; i < *count; i++)
        failures += replay_one();
    printf("%s: %lld problems on", s2s_compiler(), (long long)*count);
    for (int isa = 0; isa < S2S_ISAS; isa++)
        if (s2s_isa_usable(isa))
            printf(" %s", s2s_isa_name(isa));
    printf(", %ld differ\n", failures);
    free(count);
    fclose(file);
    return failures != 0;
}
