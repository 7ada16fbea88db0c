/* Worker threads for the frames: a job is cut into units, and every thread takes the next unit
 * until none is left. Results never depend on who computed what. */
#ifndef S2S_POOL_H
#define S2S_POOL_H

#include <stddef.h>
#include <stdint.h>

/* One unit of work, in a thread's own scratch memory. */
typedef void s2s_unit(void *job, int64_t unit, void *scratch);

/* Runs `run(job, u, scratch)` for u in [0, units) on up to `threads` threads, the caller's one of
 * them, and returns when all are done. Each thread gets `scratch_size` bytes, aligned to 64.
 * Returns enum s2s_status; without the memory nothing was run. */
int s2s_run(s2s_unit *run, void *job, int64_t units, int threads, size_t scratch_size);

#endif
