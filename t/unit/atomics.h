/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file atomics.h
 * APR's 32-bit atomic operations for one test program, in place of the library's. Those are not seen
 * by the thread sanitizer, these are; they promise no more than APR does on x86 (read and set are
 * plain). And something else can be done before any of them: a test interrupts a lock-free function at
 * each of its steps in turn, as if another process had run just then.
 */
#ifndef ATOMICS_H
#define ATOMICS_H

#include <apr_atomic.h>

static void (*atomics_hook)(int step);      /* called before each step; it does not interrupt itself */
static int atomics_step;                    /* steps since it was set */

static inline void atomics_interrupt(void)
{
    void (*hook)(int) = atomics_hook;

    if (hook) {
        atomics_hook = NULL;
        hook(atomics_step++);
        atomics_hook = hook;
    }
}

/** Call hook(0), hook(1), ... before each step from now on; NULL: no more. Not with threads.
 * @return how many steps there were */
static inline int atomics_set_hook(void (*hook)(int step))
{
    int steps = atomics_step;

    atomics_hook = hook;
    atomics_step = 0;
    return steps;
}

apr_uint32_t apr_atomic_read32(volatile apr_uint32_t *mem)
{
    atomics_interrupt();
    return __atomic_load_n(mem, __ATOMIC_RELAXED);
}

void apr_atomic_set32(volatile apr_uint32_t *mem, apr_uint32_t val)
{
    atomics_interrupt();
    __atomic_store_n(mem, val, __ATOMIC_RELAXED);
}

apr_uint32_t apr_atomic_cas32(volatile apr_uint32_t *mem, apr_uint32_t with, apr_uint32_t cmp)
{
    atomics_interrupt();
    __atomic_compare_exchange_n(mem, &cmp, with, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return cmp;
}

apr_uint32_t apr_atomic_inc32(volatile apr_uint32_t *mem)
{
    atomics_interrupt();
    return __atomic_fetch_add(mem, 1, __ATOMIC_SEQ_CST);
}

#endif
