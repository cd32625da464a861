/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file acme/poll.h
 * Looking at an object of the CA until it changes: for the files of orders and authorizations. Each function
 * that reads or waits blocks, ends early when the client is asked to stop (CANCELLED), and is for one thread.
 */
#ifndef ACME_POLL_H
#define ACME_POLL_H

#include <apr_pools.h>
#include <apr_time.h>

#include "acme/account.h"
#include "base/error.h"

/** Polling: the first look comes soon, the steps grow;
 * a Retry-After in the future replaces the step, clamped to RETRY_AFTER_MAX and to what is
 * left to the deadline. A CA that is down is tolerated until the deadline. */
#define ACME_POLL_FIRST apr_time_from_msec(50)
#define ACME_POLL_GROWTH 2.0
#define ACME_POLL_MAX apr_time_from_sec(10)
#define ACME_POLL_RETRY_AFTER_MAX apr_time_from_sec(60)

/** One wait for a change at the CA; on the stack of who waits. */
typedef struct acme_poll_t {
    acme_account_t *account;
    const char *name;               /* for the log, may be NULL; may be set when it becomes known */
    apr_time_t deadline;
    apr_interval_time_t step;
    int looks;
    int missing;                    /* answers 404 in a row; set to 0 after a look that succeeded */
} acme_poll_t;

/** Read an object once (POST-as-GET); the answer is in the pool. Errors as of acme_account_post(). */
apr_status_t acme_poll_read(acme_account_t *account, const char *url,
                            acme_client_answer_t *answer, apr_pool_t *pool,
                            base_error_t *err);

/** POST-as-GET of something that was made a moment ago: a few tries when the CA does not know it yet, or
 * fails. Errors as of acme_account_post(), those of the last try; err must not be NULL. */
apr_status_t acme_poll_read_fresh(acme_account_t *account, acme_client_request_t *request,
                                  acme_client_answer_t *answer, apr_pool_t *pool,
                                  base_error_t *err);

/** Start polling; does not block. @param name for the log, not copied, may be NULL
 * @param duration from now to the deadline */
void acme_poll_begin(acme_poll_t *poll, acme_account_t *account, const char *name,
                     apr_interval_time_t duration);

/** Wait for the next look.
 * @param retry_at what the last answer said, 0: nothing
 * @param late_kind of the error when the deadline has passed (APR_TIMEUP) @param late its words */
apr_status_t acme_poll_wait(acme_poll_t *poll, apr_time_t retry_at, base_error_kind_t late_kind,
                            const char *late, base_error_t *err);

/** Is an error of one look the end of polling? If not, wait and return APR_SUCCESS: look
 * again. What the CA said stays the error when the deadline passes.
 * @param err the look's, not NULL */
apr_status_t acme_poll_outlast(acme_poll_t *poll, base_error_t *err);

#endif
