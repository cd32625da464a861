/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/waiters.h
 * How many handshakes may wait for a certificate at once, over all children: places that are taken for a
 * time and become free by themselves, so that a child that is killed keeps none for long. Any thread of any
 * process; lock-free, never blocks.
 */
#ifndef SHARED_WAITERS_H
#define SHARED_WAITERS_H

#include <apr_atomic.h>
#include <apr_time.h>

#define SHARED_WAITERS_PLACES 4096      /* more never wait */
#define SHARED_WAITERS_WAIT_MAX apr_time_from_sec(300)  /* longest time for which a place is taken */

typedef struct shared_waiters_t {
    volatile apr_uint32_t until[SHARED_WAITERS_PLACES];     /* second when the place is free again, cut to
                                                               32 bits; 0: now */
} shared_waiters_t;

/** A place that was taken. */
typedef struct shared_waiters_place_t {
    apr_uint32_t index;
    apr_uint32_t until;
} shared_waiters_place_t;

/**
 * Take a place.
 * @param most how many may be taken at once
 * @param wait for so long, at most SHARED_WAITERS_WAIT_MAX; then it is free again, whatever happens
 * @return non-zero when there was one (then leave() follows)
 */
int shared_waiters_enter(shared_waiters_t *waiters, shared_waiters_place_t *place, apr_uint32_t most,
                         apr_interval_time_t wait, apr_time_t now);

/** Give it back. */
void shared_waiters_leave(shared_waiters_t *waiters, const shared_waiters_place_t *place);

/** How many are taken. */
apr_uint32_t shared_waiters_count(shared_waiters_t *waiters, apr_time_t now);

#endif
