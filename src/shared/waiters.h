/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/waiters.h
 * How many handshakes wait for a certificate, over all children. One counter for each child, so that
 * what a killed child counted can be forgotten. Any thread of any process; lock-free, never blocks.
 */
#ifndef SHARED_WAITERS_H
#define SHARED_WAITERS_H

#include <apr_atomic.h>

#define SHARED_WAITERS_CHILDREN 4096    /* a child that finds no place does not wait */

typedef struct shared_waiters_child_t {
    volatile apr_uint32_t pid;          /* 0: free */
    volatile apr_uint32_t waiting;
} shared_waiters_child_t;

typedef struct shared_waiters_t {
    shared_waiters_child_t child[SHARED_WAITERS_CHILDREN];
} shared_waiters_t;

/** Take a place for one handshake of this child.
 * @param pid of the calling process
 * @param most how many may wait at once over all children
 * @param most_here how many of them in this child
 * @return non-zero when it may wait (then leave() must follow). Never more than `most` at once; at
 *         the limit two that come together may both be refused */
int shared_waiters_enter(shared_waiters_t *waiters, apr_uint32_t pid, apr_uint32_t most,
                         apr_uint32_t most_here);

/** Give the place back. */
void shared_waiters_leave(shared_waiters_t *waiters, apr_uint32_t pid);

/** How many wait now; what children that are gone (kill(pid, 0)) have left is cleared away first. */
apr_uint32_t shared_waiters_count(shared_waiters_t *waiters);

#endif
