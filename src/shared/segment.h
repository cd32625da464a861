/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/segment.h
 * The shared memory of all children and generations: a header, then one table after the
 * other. Fixed layout, no pointers, 32-bit atomics only,
 * so that a module loaded anew at a graceful restart, or a child of the old
 * generation, finds what it expects; a changed layout has a changed name.
 */
#ifndef SHARED_SEGMENT_H
#define SHARED_SEGMENT_H

#include <apr_pools.h>

#include "shared/clients.h"
#include "shared/names.h"
#include "shared/requests.h"
#include "shared/versions.h"
#include "shared/waiters.h"

/** Raised whenever the layout changes; part of the key under which httpd keeps it. */
#define SHARED_SEGMENT_LAYOUT 2

#define SHARED_SEGMENT_PRESENT 262144   /* certificates in the cache that handshakes know of without
                                           looking into it; with more they look */
#define SHARED_SEGMENT_VISITS 131072    /* names visited between two walks of the calendar; with more all
                                           count as visited */

typedef struct shared_segment_t shared_segment_t;

/** Bytes that the segment takes. */
apr_size_t shared_segment_size(void);

/** Lay out zeroed memory of that size; called once, before any child exists. The tables' secret keys
 * come from apr_generate_random_bytes(). */
apr_status_t shared_segment_init(void *memory);

/** Look at memory laid out before. @return NULL when it is not ours or of
 * another layout */
shared_segment_t *shared_segment_attach(void *memory);

/** The tables inside; never NULL. */
shared_versions_t *shared_segment_versions(shared_segment_t *segment);
shared_requests_t *shared_segment_requests(shared_segment_t *segment);
shared_clients_t *shared_segment_clients(shared_segment_t *segment);
shared_waiters_t *shared_segment_waiters(shared_segment_t *segment);

/** Cache keys of the certificates that are in the cache. */
shared_names_t *shared_segment_present(shared_segment_t *segment);

/** Cache keys of on-demand certificates that clients came for lately. */
shared_names_t *shared_segment_visits(shared_segment_t *segment);

#endif
