/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/saved.h
 * The order that is under way, as the private record "NAME+order": what lets the next child, or the
 * next start, go on where this one was stopped. Written before the CA is asked for an order (with the key
 * of the certificate and no URL), and each time when there is more to know. Under the lock of the name, but
 * for _ca() and _exists(); blocks on the cache.
 */
#ifndef MANAGER_SAVED_H
#define MANAGER_SAVED_H

#include <apr_pools.h>

#include "base/error.h"
#include "manager/job.h"

/** Write what the job knows: key, order (or the intention to place one), the challenge that was asked for. */
apr_status_t manager_saved_store(manager_job_t *job, base_error_t *err);

/**
 * Read the record of an order of this job's CA and account into key, asked*, placed_at.
 * @param url set to the order's URL, NULL when it was about to be placed
 * @return APR_NOTFOUND when there is none that this job can go on with; of one of another account of this CA
 *         asked_type and asked_token are read all the same, so that its answer can be withdrawn
 */
apr_status_t manager_saved_load(manager_job_t *job, const char **url);

/** Remove the record, and what the job read from it. */
void manager_saved_forget(manager_job_t *job);

/** Non-zero when there is a record, whosever. */
int manager_saved_exists(const manager_order_context_t *context, const manager_policy_name_t *name,
                         apr_pool_t *pool);

/** The index of the CA that has the order, -1: there is no record, or it is of no CA of the configuration. */
int manager_saved_ca(const manager_order_context_t *context, const manager_policy_name_t *name,
                     apr_pool_t *pool);

/** Remove the record of an order that is finished, by whoever has no job, if nobody has the name's lock: who
 * was killed between storing a certificate and forgetting its order left it behind, and its private key. */
void manager_saved_tidy(const manager_order_context_t *context, const manager_policy_name_t *name,
                        apr_pool_t *pool);

#endif
