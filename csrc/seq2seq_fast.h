/* The whole C API of seq2seq_fast. cffi reads this very file: plain declarations only.
 *
 * The kernel trusts its caller: shapes, strides and pointers were validated in Python. Functions
 * return a code, never print, hold no reference after they return, and may be called from any
 * number of threads at once. The arithmetic is fixed to the bit: see seq2seq_fast/reference.py.
 */
#ifndef SEQ2SEQ_FAST_H
#define SEQ2SEQ_FAST_H

#include <stdint.h>

/* Leading (batch) axes that one call can walk. */
#define S2S_MAX_LEAD 16

enum s2s_type {
    S2S_FLOAT32 = 0,
    S2S_FLOAT64 = 1,
    S2S_FLOAT16 = 2,
    S2S_BFLOAT16 = 3,
    S2S_TYPES = 4
};
enum s2s_isa { S2S_GENERIC = 0, S2S_AVX2 = 1, S2S_AVX512 = 2, S2S_NEON = 3, S2S_ISAS = 4 };
enum s2s_status { S2S_OK = 0, S2S_NO_MEMORY = 1 };

/* Byte strides of one operand; 0 along an axis that broadcasts. */
typedef struct {
    int64_t lead[S2S_MAX_LEAD];
    int64_t head, row, column;
} s2s_strides;

/* What one sequence has of the operands' rows: queries [query_start, query_start + queries), the
 * like for keys. Its query i stands at the key position i + offset. */
typedef struct {
    int64_t query_start, queries;
    int64_t key_start, keys;
    int64_t offset;
} s2s_span;

/* Everything about an attention call but the addresses. Operands have the axes
 * (lead..., head, row, column); `queries` x `width` is one head's query, and so on. */
typedef struct {
    int32_t type;                    /* enum s2s_type of query, bias, sinks, out, weights */
    int32_t key_type;                /* of key and value: of the same compute type */
    int32_t packed;                  /* non-zero: the keys lie in panels, [width][16] for 16 keys */
    int32_t lead_axes;
    int64_t lead[S2S_MAX_LEAD];
    int64_t heads, key_heads;        /* heads is a multiple of key_heads */
    int64_t queries, keys;           /* of the longest sequence */
    int64_t width, value_width;
    int64_t offset;                  /* every sequence's, where there are no spans */
    int64_t left, right;             /* a query at position p sees the keys p - left .. p + right */
    s2s_strides query, key, value;   /* column stride: one element; packed key: row is one panel */
    s2s_strides mask;                /* of bytes: non-zero means "may attend" */
    s2s_strides bias;
    s2s_strides sinks;               /* one number a head */
    s2s_strides out, weights;        /* column stride: one element */
    s2s_strides statistics;          /* of pairs of double */
} s2s_attention_problem;

/* Fused attention over the operands' row 0, column 0.
 *
 * May be null: mask, bias, sinks, weights; spans, one for each index of the leading axes in
 * row-major order; statistics, of each row the greatest score and the sum of the weights.
 * `softcap` of 0 is none. `threads` is an upper bound. Returns enum s2s_status. */
int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  double softcap, const void *query, const void *key, const void *value,
                  const void *mask, const void *bias, const void *sinks, const s2s_span *spans,
                  void *out, void *weights, double *statistics);

/* What this library holds and what this processor and operating system run. */
const char *s2s_isa_name(int isa);
int s2s_isa_compiled(int isa);
int s2s_isa_usable(int isa);
const char *s2s_compiler(void);

#endif
