/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file serve/certs.h
 * The parsed certificates of this child. Handshakes find a name here without a
 * lock that is held for longer than a few instructions; what is missing or
 * was changed is read from the cache, by one thread, while the others go on
 * with the old one.
 */
#ifndef SERVE_CERTS_H
#define SERVE_CERTS_H

#include <apr_pools.h>
#include <apr_time.h>

#include "cache/cache.h"
#include "crypto/bundle.h"
#include "manager/policy.h"
#include "shared/versions.h"

/** How many distinct chain certificates are kept for sharing between entries. */
#define SERVE_CERTS_SHARED_MAX 64

/** Trouble with files (AC0310) is logged at most once in this time by one table; what was
 * held back is counted in the next line. */
#define SERVE_CERTS_REPORT_EVERY apr_time_from_sec(60)

/** How often a name in use is compared with the cache, so that what another
 * process, node or hand stored is noticed. */
#define SERVE_CERTS_RECHECK apr_time_from_sec(3)

typedef struct serve_certs_t serve_certs_t;

/** One certificate, held by whoever acquired it. */
typedef struct serve_certs_entry_t {
    const crypto_bundle_t *bundle;
    int test;                   /* issued by a test CA */
} serve_certs_entry_t;

/**
 * Make the table of a child; freed with the pool, when no thread uses it any more.
 * @param cache opened in this child; borrowed, as versions
 * @param bytes bound of all entries together, estimated
 * @param threads how many threads will use it (1 under prefork)
 */
apr_status_t serve_certs_create(serve_certs_t **certs, cache_t *cache,
                                shared_versions_t *versions, apr_size_t bytes, int threads,
                                apr_pool_t *pool);

/**
 * The certificate of a name, valid now, or NULL when there is none. May read the
 * cache once when the name is new here, its version changed, or it was not compared for
 * SERVE_CERTS_RECHECK. What replaces a certificate that is still valid must be able to serve:
 * a file that is broken, expired or gone is logged (AC0310) and changes nothing. Any thread;
 * holds no lock while it reads.
 * @param name one that the policy lists or allows; only read during the call
 */
const serve_certs_entry_t *serve_certs_acquire(serve_certs_t *certs,
                                               const manager_policy_name_t *name, apr_time_t now);

/** The same from memory only: never touches the cache, NULL when it is not here. */
const serve_certs_entry_t *serve_certs_peek(serve_certs_t *certs,
                                            const manager_policy_name_t *name, apr_time_t now);

/** Non-zero when the certificate is served from memory although the cache has no good file of
 * it any more (removed, damaged): it should be obtained again before it is needed. One
 * atomic read. */
int serve_certs_is_orphaned(const serve_certs_entry_t *entry);

/** Note that a client came for it. Any thread; one or two atomic operations.
 * @return non-zero the first time, and when the last visit that was noted is at least `every` (whole seconds)
 *         ago: then it is worth telling others */
int serve_certs_note_visit(const serve_certs_entry_t *entry, apr_time_t now, apr_interval_time_t every);

/** Give it back; NULL is fine. */
void serve_certs_release(serve_certs_t *certs, const serve_certs_entry_t *entry);

/** For the status page: names remembered (those without a certificate too) and the
 * estimated bytes of all of them. Any thread. */
void serve_certs_stats(serve_certs_t *certs, apr_size_t *entries, apr_size_t *bytes);

#endif
