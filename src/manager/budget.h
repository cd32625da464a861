/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/budget.h
 * How many orders a CA may still be sent: a token bucket kept in the cache
 * (private record "budget+ID"), so that restarts and other nodes share it. Names that are not in the
 * configuration have a share of it, "budget+ID+demand", and those of one owner a share of that,
 * "budget+ID+demand+OWNER". All are changed under one lock, "budget+ID". Blocks on the
 * cache; any thread.
 */
#ifndef MANAGER_BUDGET_H
#define MANAGER_BUDGET_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/stop.h"
#include "cache/cache.h"

#define MANAGER_BUDGET_SKEW apr_time_from_sec(60)
#define MANAGER_BUDGET_LOCK_WAIT apr_time_from_sec(2)

/** Orders per period; orders 0 means no limit. */
typedef struct manager_budget_rate_t {
    int orders;
    apr_interval_time_t period;
} manager_budget_rate_t;

/**
 * Take one order out of the bucket (capacity: rate->orders, filled evenly over the
 * period, full when there is no record; one from the future or unreadable counts as empty
 * and of now, but MANAGER_BUDGET_SKEW ahead is only another node's clock or a thread that
 * waited less; a record of another rate is scaled by its filled share). The record is
 * changed under the cache lock "budget+ID", which is waited for up to 2 s.
 * @param ca_id as acme_client_config_t.id
 * @param when set to the moment when an order will be there, when there is none now
 * @return APR_SUCCESS: taken; APR_EAGAIN: none left until *when; APR_EBUSY: the lock
 *         could not be had, try again soon; APR_EINTR: stopped; else the cache's error
 *         (nothing was taken: an order must not be placed)
 */
apr_status_t manager_budget_take(cache_t *cache, const char *ca_id,
                                 const manager_budget_rate_t *rate, apr_time_t now,
                                 apr_time_t *when, const base_stop_t *stop, apr_pool_t *pool);

/** Put one back that was taken and not used (the CA was never asked). Best effort. */
void manager_budget_return(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                           apr_time_t now, const base_stop_t *stop, apr_pool_t *pool);

/**
 * As manager_budget_take(), for a name that is not in the configuration: on-demand names together may
 * use half of the CA's rate (at least one order per period), those under one owner
 * (base_hostname_owner()) half of that (at least one). Takes from all three buckets or from none.
 * @param name as base_hostname_from_client() makes it
 * @param when for APR_EAGAIN: the moment when the CA's bucket has an order, when that one is empty; else
 *        the latest moment that an empty share names
 * @param everybody for APR_EAGAIN: non-zero when the CA's own bucket is empty, so no name can be
 *        ordered before *when; zero when only this name's share is
 */
apr_status_t manager_budget_take_demand(cache_t *cache, const char *ca_id,
                                        const manager_budget_rate_t *rate, const char *name,
                                        apr_time_t now, apr_time_t *when, int *everybody,
                                        const base_stop_t *stop, apr_pool_t *pool);

/** Put back into all three what take_demand() took and was not used. Best effort. */
void manager_budget_return_demand(cache_t *cache, const char *ca_id,
                                  const manager_budget_rate_t *rate, const char *name,
                                  apr_time_t now, const base_stop_t *stop, apr_pool_t *pool);

/** Forget the buckets of owners that are full again, which is as if they had never been, so that they
 * do not pile up: one walk over the private records; the lock is held for one bucket at a time.
 * Blocks; seldom. Best effort. */
void manager_budget_tidy(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                         apr_time_t now, const base_stop_t *stop, apr_pool_t *pool);

#endif
