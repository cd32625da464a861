/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/requests.h
 * What handshakes ask of the elected child: names that a client came for and
 * that have no certificate. A bounded table, one slot for each name; a full table
 * drops the request, the next handshake asks again. Any thread of any process;
 * lock-free, never blocks. It lives on over a graceful restart, so a request left in
 * the old generation is taken by the new one.
 *
 * A slot goes  FREE -> WRITING -> READY -> CLOSING -> FREE  by compare-and-swap, or
 * WRITING -> CLOSING -> FREE  when two writers of one name met and one gives up. Whoever
 * brought it to WRITING, or from READY to CLOSING, owns it until it is READY or FREE. An
 * owner killed meanwhile costs the slot until shared_requests_take() sees that it is
 * too old and frees it.
 */
#ifndef SHARED_REQUESTS_H
#define SHARED_REQUESTS_H

#include <apr_atomic.h>
#include <apr_time.h>

#include "base/hostname.h"

#define SHARED_REQUESTS_SLOTS 1024      /* a power of two */
#define SHARED_REQUESTS_PROBES 8        /* slots looked at for one name */
#define SHARED_REQUESTS_STALE 30        /* seconds after which an owner counts as dead */

typedef struct shared_requests_slot_t {
    volatile apr_uint32_t state;        /* low two bits: FREE 0, WRITING 1, READY 2, CLOSING 3;
                                           above them a count of the slot's uses */
    volatile apr_uint32_t hash;         /* base_hostname_hash() of the name, 0 not yet known */
    volatile apr_uint32_t since;        /* seconds since the epoch, cut to 32 bits; 0 unknown */
    char name[BASE_HOSTNAME_SIZE];
} shared_requests_slot_t;

typedef struct shared_requests_t {
    shared_requests_slot_t slot[SHARED_REQUESTS_SLOTS];
} shared_requests_t;

/** Ask for a name. @return non-zero when the name is in the table now for the first
 * time (then wake the elected child), zero when it was there or did not fit */
int shared_requests_add(shared_requests_t *requests, const char *name, apr_time_t now);

/**
 * Take one request out, of any name; called by the elected child only.
 * @param cursor where to go on; begin with 0, the walk ends at SHARED_REQUESTS_SLOTS
 * @return non-zero when a name was taken, zero at the end of the walk
 */
int shared_requests_take(shared_requests_t *requests, unsigned int *cursor,
                         char name[BASE_HOSTNAME_SIZE], apr_time_t now);

#endif
