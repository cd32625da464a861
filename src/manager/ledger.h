/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/ledger.h
 * What is remembered about a certificate over restarts: the private record KEY+state beside the
 * certificate's own key ("example.org+state", "example.org+rsa+state"), so two kinds of key of one
 * name do not wait for each other's failures. Whoever holds the name's lock writes it; any thread may
 * read. Blocks on the cache.
 */
#ifndef MANAGER_LEDGER_H
#define MANAGER_LEDGER_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "cache/cache.h"

#define MANAGER_LEDGER_CA_MAX 256       /* bytes with the NUL: a directory URL, cut */
#define MANAGER_LEDGER_CHALLENGE_MAX 32
#define MANAGER_LEDGER_WAIT_FIRST apr_time_from_sec(60)     /* after the first failure */
#define MANAGER_LEDGER_WAIT_MAX apr_time_from_sec(24 * 3600)
#define MANAGER_LEDGER_WAIT_MIN apr_time_from_sec(1)        /* for certificates of minutes */

typedef struct manager_ledger_t {
    int failures;                       /* in a row; 0 after a success */
    apr_time_t next_try;                /* not before; 0: at once */
    base_error_t problem;               /* of the last failure; kind NONE without one */
    char ca[MANAGER_LEDGER_CA_MAX];     /* directory URL of the CA that issued, "" unknown */
    int test;                           /* that CA was a test CA */
    char challenge[MANAGER_LEDGER_CHALLENGE_MAX];   /* the kind that last worked, "" none */
    apr_time_t visited;                 /* when a client last asked for it; 0: unknown */
} manager_ledger_t;

/** Read the record of a certificate; one that is missing, unreadable or of another layout is
 * all zeros ("nothing known"), never an error.
 * @param key the certificate's in the cache, as of manager_policy_cache_key() */
void manager_ledger_load(manager_ledger_t *ledger, cache_t *cache, const char *key,
                         apr_pool_t *pool);

/** Write it. */
apr_status_t manager_ledger_store(const manager_ledger_t *ledger, cache_t *cache,
                                  const char *key, apr_pool_t *pool);

/**
 * Note a failure and set next_try: 1, 10, 100 minutes, then a day (so that CAs that count five
 * failed validations an hour never count that many), never longer than a twentieth of the lifetime of
 * the certificate in service, not earlier than the CA's retry_at (up to a day); problems a human must
 * solve wait the maximum from the third time on. Up to 20 % of jitter is added. Kinds
 * CANCELLED, BUSY, CA_DOWN and REFUSED are no failures of the name and change nothing: the
 * scheduler waits for a CA once, for all names, and a policy may say yes at any time.
 * @param lifetime of the certificate in service, 0 without one
 * @param random 32 random bits
 */
void manager_ledger_fail(manager_ledger_t *ledger, const base_error_t *err,
                         apr_interval_time_t lifetime, apr_time_t now, apr_uint32_t random);

/** Note a success: no failures, no problem, who issued and how; visited stays. */
void manager_ledger_succeed(manager_ledger_t *ledger, const char *ca, int test,
                            const char *challenge);

#endif
