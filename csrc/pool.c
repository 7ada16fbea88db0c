/* The thread pool behind s2s_run. Workers start on first use and wait for calls. One call runs at a
 * time: a caller who finds the pool taken (another Python thread is in it) runs its tasks alone,
 * which costs time but can neither wait nor deadlock. After fork the child starts with no workers.
 *
 * A worker takes part by passing the gate, one atomic word. The caller works too; when no task is
 * left it closes the gate and waits only for the workers that have passed it. One that the
 * system was slow to wake, or that shares its processor with another program, delays nobody. */
#define _GNU_SOURCE
#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "fpstate.h"
#include "seq2seq_fast.h"

enum { MAX_WORKERS = 255, CACHE_LINE = 64, KEEP_SCRATCH = 1 << 24 };

/* A waiting thread looks this many times before it sleeps: some 0.2 ms, so that calls in quick
 * succession find their workers awake. To be woken takes tens of microseconds. */
enum { SPINS = 8000 };

static pthread_mutex_t taken = PTHREAD_MUTEX_INITIALIZER; /* held by the caller whose tasks run */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  /* guards the sleeping and waking below */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static int workers; /* started; guarded by `taken` */

/* The gate: the call's number in the high half; in the low half how many more workers it lets pass,
 * 0 when it is closed. */
static atomic_ullong gate;
enum { NUMBER_SHIFT = 32 };
static atomic_int left; /* workers that passed the gate and are done */

/* The call at hand. Written while the gate is closed and nobody is inside. */
static struct {
    s2s_task *run;
    void *call;
    int64_t tasks;
    atomic_llong next;
    void *scratch[MAX_WORKERS];
} current;

/* ---- scratch: one buffer a thread, kept between calls, freed with the thread ---- */

typedef struct {
    void *memory;
    size_t size;
} scratch_buffer;

static pthread_key_t scratch_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_scratch(void *buffer_)
{
    scratch_buffer *buffer = buffer_;
    free(buffer->memory);
    free(buffer);
}

static int grow(scratch_buffer *buffer, size_t size)
{
    if (buffer->size >= size)
        return 1;
    free(buffer->memory);
    buffer->size = 0;
    size = (size + 4095) / 4096 * 4096;
    buffer->memory = aligned_alloc(CACHE_LINE, size);
    if (buffer->memory)
        buffer->size = size;
    return buffer->memory != NULL;
}

/* A large buffer would be held for the life of the thread: give it back. */
static void shrink(scratch_buffer *buffer)
{
    if (buffer->size > KEEP_SCRATCH) {
        free(buffer->memory);
        buffer->memory = NULL;
        buffer->size = 0;
    }
}

static scratch_buffer *callers_scratch(size_t size)
{
    scratch_buffer *buffer = pthread_getspecific(scratch_key);
    if (!buffer) {
        buffer = calloc(1, sizeof *buffer);
        if (!buffer || pthread_setspecific(scratch_key, buffer)) {
            free(buffer);
            return NULL;
        }
    }
    return grow(buffer, size) ? buffer : NULL;
}

static scratch_buffer workers_scratch[MAX_WORKERS]; /* guarded by `taken` */

/* ---- workers ---- */

static inline void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(void *scratch)
{
    const s2s_fpstate before = s2s_fp_enter();
    for (;;) {
        const int64_t task = atomic_fetch_add(&current.next, 1);
        if (task >= current.tasks)
            break;
        current.run(current.call, task, scratch);
    }
    s2s_fp_leave(before);
}

static unsigned call_number(void)
{
    return (unsigned)(atomic_load(&gate) >> NUMBER_SHIFT);
}

/* Passes the gate if it is open: the number of a scratch buffer of its own, or -1. */
static int enter(void)
{
    unsigned long long seen = atomic_load(&gate);
    while ((unsigned)seen != 0)
        if (atomic_compare_exchange_weak(&gate, &seen, seen - 1))
            return (int)(unsigned)seen - 1;
    return -1;
}

static void *worker(void *seen_)
{
    unsigned seen = (unsigned)(uintptr_t)seen_; /* the last call that is none of this thread's */
    for (;;) {
        for (int i = 0; i < SPINS && call_number() == seen; i++)
            pause_briefly();
        if (call_number() == seen) {
            pthread_mutex_lock(&lock);
            while (call_number() == seen)
                pthread_cond_wait(&wake, &lock);
            pthread_mutex_unlock(&lock);
        }
        seen = call_number();
        const int place = enter();
        if (place < 0)
            continue;
        work(current.scratch[place]);
        pthread_mutex_lock(&lock);
        atomic_fetch_add(&left, 1);
        pthread_cond_signal(&done);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* In a forked child only the calling thread lives on: forget the workers and what they held. */
static void after_fork_in_child(void)
{
    pthread_mutex_init(&taken, NULL);
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&wake, NULL);
    pthread_cond_init(&done, NULL);
    memset(workers_scratch, 0, sizeof workers_scratch); /* may have been about to change: leaked */
    workers = 0;
    atomic_store(&gate, 0);
}

static void initialise(void)
{
    pthread_key_create(&scratch_key, free_scratch);
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

/* Starts workers up to `wanted`, if the system gives them. Signals stay with the other threads. */
static void start_workers(int wanted)
{
    sigset_t all, before;
    sigfillset(&all);
    if (workers >= wanted || pthread_sigmask(SIG_SETMASK, &all, &before))
        return;
    while (workers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, worker, (void *)(uintptr_t)call_number()))
            break;
        pthread_detach(thread);
        workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void run_alone(s2s_task *run, void *call, int64_t tasks, void *scratch)
{
    const s2s_fpstate before = s2s_fp_enter();
    for (int64_t task = 0; task < tasks; task++)
        run(call, task, scratch);
    s2s_fp_leave(before);
}

/* Starts workers and gets them scratch memory: how many of the wanted ones there are. */
static int prepare_workers(int wanted, size_t scratch_size)
{
    start_workers(wanted);
    const int helpers = wanted < workers ? wanted : workers;
    for (int i = 0; i < helpers; i++) {
        if (!grow(&workers_scratch[i], scratch_size))
            return i;
        current.scratch[i] = workers_scratch[i].memory;
    }
    return helpers;
}

/* Lets so many workers pass the gate, under the next call's number, which is returned. */
static unsigned long long open_gate(int helpers)
{
    const unsigned long long number = call_number() + 1u;
    pthread_mutex_lock(&lock);
    atomic_store(&gate, number << NUMBER_SHIFT | (unsigned)helpers);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&lock);
    return number;
}

/* Closes the gate, and waits for the workers that have passed it. */
static void close_gate(unsigned long long number, int helpers)
{
    const unsigned long long closing = atomic_exchange(&gate, number << NUMBER_SHIFT);
    const int inside = helpers - (int)(unsigned)closing;
    for (int i = 0; i < SPINS && atomic_load(&left) < inside; i++)
        pause_briefly();
    if (atomic_load(&left) < inside) {
        pthread_mutex_lock(&lock);
        while (atomic_load(&left) < inside)
            pthread_cond_wait(&done, &lock);
        pthread_mutex_unlock(&lock);
    }
}

int s2s_run(s2s_task *run, void *call, int64_t tasks, int threads, size_t scratch_size)
{
    pthread_once(&once, initialise);
    scratch_buffer *own = callers_scratch(scratch_size);
    if (!own)
        return S2S_NO_MEMORY;
    int helpers = threads - 1;
    if (helpers > tasks - 1)
        helpers = (int)(tasks - 1);
    if (helpers > MAX_WORKERS)
        helpers = MAX_WORKERS;
    if (helpers < 1 || pthread_mutex_trylock(&taken)) {
        run_alone(run, call, tasks, own->memory);
        shrink(own);
        return S2S_OK;
    }

    helpers = prepare_workers(helpers, scratch_size);
    current.run = run;
    current.call = call;
    current.tasks = tasks;
    atomic_store(&current.next, 0);
    atomic_store(&left, 0);
    const unsigned long long number = open_gate(helpers);
    work(own->memory);
    close_gate(number, helpers);
    for (int i = 0; i < helpers; i++)
        shrink(&workers_scratch[i]);
    shrink(own);
    pthread_mutex_unlock(&taken);
    return S2S_OK;
}
