/* Worker threads for the drivers: a call is cut into tasks, and every thread takes the next task
 * until none is left. Results never depend on who computed what. */
#ifndef S2S_POOL_H
#define S2S_POOL_H

#include <stddef.h>
#include <stdint.h>

/* One task of a call, in a thread's own scratch memory. */
typedef void s2s_task(void *call, int64_t task, void *scratch);

/* Runs `run(call, t, scratch)` for t in [0, tasks) on up to `threads` threads, the caller's one of
 * them, and returns when all are done. Each thread gets `scratch_size` bytes, aligned to 64.
 * Returns enum s2s_status; without the memory nothing was run. */
int s2s_run(s2s_task *run, void *call, int64_t tasks, int threads, size_t scratch_size);

#endif
