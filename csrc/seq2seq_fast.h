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

enum s2s_type { S2S_FLOAT32 = 0, S2S_FLOAT64 = 1 };
enum s2s_isa { S2S_GENERIC = 0, S2S_AVX2 = 1, S2S_AVX512 = 2, S2S_NEON = 3, S2S_ISAS = 4 };
enum s2s_status { S2S_OK = 0, S2S_NO_MEMORY = 1 };

/* Byte strides of one operand; 0 along an axis that broadcasts. */
typedef struct {
    int64_t lead[S2S_MAX_LEAD];
    int64_t head, row, column;
} s2s_strides;

/* Everything about an attention call but the addresses. Operands have the axes
 * (lead..., head, row, column); `queries` x `width` is one head's query, and so on. */
typedef struct {
    int32_t type;                    /* enum s2s_type */
    int32_t lead_axes;
    int64_t lead[S2S_MAX_LEAD];
    int64_t heads, key_heads;        /* heads is a multiple of key_heads */
    int64_t queries, keys;
    int64_t width, value_width;
    int64_t causal;                  /* non-zero: query i sees the keys j <= i + causal_offset */
    int64_t causal_offset;
    s2s_strides query, key, value;   /* column stride: one element */
    s2s_strides mask;                /* of bytes: non-zero means "may attend" */
    s2s_strides bias;
    s2s_strides out, weights;        /* column stride: one element */
    int64_t key_lengths[S2S_MAX_LEAD]; /* byte strides of int64 over the leading axes */
} s2s_attention_problem;

/* Fused attention over the operands' row 0, column 0. mask, bias, key_lengths and weights may be
 * null. `threads` is an upper bound. Returns enum s2s_status. */
int s2s_attention(const s2s_attention_problem *problem, int isa, int threads, double scale,
                  const void *query, const void *key, const void *value, const void *mask,
                  const void *bias, const void *key_lengths, void *out, void *weights);

/* What this library holds and what this processor and operating system run. */
const char *s2s_isa_name(int isa);
int s2s_isa_compiled(int isa);
int s2s_isa_usable(int isa);
const char *s2s_compiler(void);

#endif
