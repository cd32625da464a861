/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/versions.h
 * One counter for each hash of a name, raised when the name's certificate was
 * replaced: how all children learn of it at their next handshake. Names that
 * share a counter cost each other one needless look at the cache. Any thread of
 * any process; never blocks.
 */
#ifndef SHARED_VERSIONS_H
#define SHARED_VERSIONS_H

#include <apr_atomic.h>

#define SHARED_VERSIONS_SLOTS 16384     /* a power of two */

typedef struct shared_versions_t {
    volatile apr_uint32_t slot[SHARED_VERSIONS_SLOTS];
} shared_versions_t;

/** The current version of a name; one atomic read. */
apr_uint32_t shared_versions_get(shared_versions_t *versions, const char *name);

/** Say that the name's certificate changed. */
void shared_versions_raise(shared_versions_t *versions, const char *name);

#endif
