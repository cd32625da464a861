/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/ca.h
 * The CAs of the configuration: how each is, and which of them gets the next order of a name. How a CA is
 * outlives the process in the private record "ca+ID", and whoever is about to place an order reads it: a CA
 * that said "not within the hour" is left alone by all servers on the cache.
 *
 * A CA that fails is paused, longer each time. When the pause is over it is asked for its directory first,
 * at the expense of no name; then one order goes ahead of all others, and when that one is answered the CA is
 * well again.
 */
#ifndef MANAGER_CA_H
#define MANAGER_CA_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "acme/account.h"
#include "acme/client.h"
#include "base/error.h"
#include "cache/cache.h"
#include "manager/budget.h"

#define MANAGER_CA_MAX 8                /* AutocertCA lines */
#define MANAGER_CA_PAUSE_FIRST apr_time_from_sec(2)     /* after the first failure of the CA itself */
#define MANAGER_CA_PAUSE_MAX apr_time_from_sec(300)
#define MANAGER_CA_PAUSE_OPERATOR apr_time_from_sec(3600)   /* a human must act first */
#define MANAGER_CA_RETRY_AFTER_MAX apr_time_from_sec(24 * 3600)     /* a CA that says more is mistaken */
#define MANAGER_CA_PATIENCE_PART 20     /* a renewal waits this part of a lifetime for a CA that is ... */
#define MANAGER_CA_PATIENCE_MAX apr_time_from_sec(24 * 3600)    /* ... down, and no longer than this */

/** One AutocertCA line; borrowed from the configuration, only read. */
typedef struct manager_ca_config_t {
    acme_client_config_t acme;
    manager_budget_rate_t rate;         /* orders 0: no limit */
    int test;                           /* nobody trusts its certificates */
} manager_ca_config_t;

/** How a CA is. */
typedef struct manager_ca_health_t {
    int failures;                       /* in a row; 0: it is well, and all that follows is 0 */
    apr_time_t since;                   /* of the first of them */
    apr_time_t until;                   /* nobody is sent to it before then */
    int refusing;                       /* it said so itself, or a human must act first: nobody need wait
                                         * for it to come back */
    base_error_t problem;               /* the last */
} manager_ca_health_t;

/** One CA of the elected child. `account` may be used by any thread, the rest belongs to the dispatcher. */
typedef struct manager_ca_t {
    const manager_ca_config_t *config;
    acme_account_t *account;
    manager_ca_health_t health;
    int checked;                        /* it gave out its directory since the pause ended */
    int checking;                       /* a worker is asking for it */
    int running;                        /* orders that workers have there */
    apr_time_t budget_until;            /* no order is left before then */
    apr_time_t budget_logged;           /* when that was last written to the log */
} manager_ca_t;

/**
 * Make the CAs of a configuration, with their clients and accounts, and what the records say of
 * them. Blocks on the cache; freed with the pool, when no thread uses them any more.
 * @param configs of const manager_ca_config_t *
 * @param cas set to an array of manager_ca_t, in their order
 */
apr_status_t manager_ca_create(apr_array_header_t **cas, const apr_array_header_t *configs, cache_t *cache,
                               const base_stop_t *stop, apr_time_t (*now)(void), apr_pool_t *pool);

/** The i-th. */
manager_ca_t *manager_ca_at(const apr_array_header_t *cas, int i);

/** The index of the CA with this directory URL, -1 without. @param configs of const manager_ca_config_t * */
int manager_ca_find(const apr_array_header_t *configs, const char *directory_url);

/** Read the record of a CA; nothing known is "well". What was not a rate limit counts no more when the
 * CA's configuration was changed since. Blocks on the cache; any thread. */
void manager_ca_load(manager_ca_health_t *health, const manager_ca_config_t *config, cache_t *cache,
                     apr_time_t now, apr_pool_t *pool);

/** Write it. Best effort: what cannot be written holds for this process. Blocks on the cache. */
void manager_ca_store(const manager_ca_health_t *health, const manager_ca_config_t *config, cache_t *cache,
                      apr_pool_t *pool);

/**
 * Note a failure that is the CA's own (not of a name): its retry_at, at most a day; an hour when a human must
 * act first; else 2 s, doubled with each failure in a row up to `longest`. A failure that came while
 * it was paused already (orders that were under way) does not make the pause longer, but for a retry_at.
 * @param longest microseconds, at most MANAGER_CA_PAUSE_MAX counts
 * @return non-zero when the pause is a new one
 */
int manager_ca_fail(manager_ca_health_t *health, const base_error_t *problem,
                    apr_interval_time_t longest, apr_time_t now);

/** What matters about a name for the choice of its CA. */
typedef struct manager_ca_need_t {
    apr_uint32_t avoid;                 /* bit i: the i-th should not be tried (manager_ledger_avoid()) */
    int saved;                          /* index of the CA that has a saved order for it, -1: none */
    apr_time_t due;                     /* since when it has to be done; 0: there is no certificate */
    apr_interval_time_t lifetime;       /* of the certificate in service, 0: none that is valid */
} manager_ca_need_t;

/** What came of it. */
typedef struct manager_ca_choice_t {
    int ca;                             /* index, -1: none now */
    apr_time_t when;                    /* for -1: when it is worth choosing again, 0: something else
                                         * has to happen first (a worker comes back) */
    int refused;                        /* for -1: no CA may be back any moment; nothing before `when` */
} manager_ca_choice_t;

/**
 * Choose the CA for a name's next order: the one with a saved order; else the first that is well and has
 * budget and is not to be avoided, else one to be avoided. A CA that is not well is waited for as
 * long as the name has patience (a twentieth of the lifetime of a valid certificate, at most a day; none
 * without one), then passed over. Never blocks; dispatcher.
 */
void manager_ca_choose(manager_ca_choice_t *choice, const apr_array_header_t *cas,
                       const manager_ca_need_t *need, apr_time_t now);

/** Non-zero when a CA's pause is over but nobody has asked for its directory since. */
int manager_ca_wants_check(const manager_ca_t *ca, apr_time_t now);

/** Non-zero when an order or question may go to it now. */
int manager_ca_is_usable(const manager_ca_t *ca, apr_time_t now);

#endif
