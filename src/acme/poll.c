/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/poll.h"

#include <string.h>

#include "base/log.h"

#define POLLS_MAX 500               /* looks at one object, whatever the clock does meanwhile */
#define FRESH_TRIES 5               /* first try and 4 more of an object that is not there yet */

/* How long to wait before each new try of a fresh object: a replica of the CA may not know
 * it yet. */
static const apr_interval_time_t fresh_waits[FRESH_TRIES - 1] = {
    apr_time_from_msec(250), apr_time_from_msec(500), apr_time_from_sec(1), apr_time_from_sec(2)
};

apr_status_t acme_poll_read(acme_account_t *account, const char *url,
                            acme_client_answer_t *answer, apr_pool_t *pool,
                            base_error_t *err)
{
    acme_client_request_t request = { 0 };

    request.url = url;
    request.payload = "";
    return acme_account_post(account, &request, answer, pool, err);
}

/* Non-zero for what a CA says of an object whose news have not reached all its servers. */
static int is_passing(const base_error_t *err)
{
    return (err->kind == BASE_ERROR_GONE || err->kind == BASE_ERROR_CA_DOWN)
           && (err->http_status == 404 || err->http_status >= 500);
}

apr_status_t acme_poll_read_fresh(acme_account_t *account, acme_client_request_t *request,
                                  acme_client_answer_t *answer, apr_pool_t *pool,
                                  base_error_t *err)
{
    const base_stop_t *stop = acme_client_stop(acme_account_client(account));
    apr_status_t st = APR_SUCCESS;
    int i;

    for (i = 0; i < FRESH_TRIES; i++) {
        st = acme_account_post(account, request, answer, pool, err);
        if (st == APR_SUCCESS || !is_passing(err) || i == FRESH_TRIES - 1) {
            return st;
        }
        base_log(BASE_LOG_DEBUG, "AC0220", NULL, "%s: %s; trying again", request->url,
                 err->detail);
        if (base_stop_wait(stop, fresh_waits[i]) != APR_SUCCESS) {
            return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
        }
    }
    return st;
}

void acme_poll_begin(acme_poll_t *poll, acme_account_t *account, const char *name,
                     apr_interval_time_t duration)
{
    memset(poll, 0, sizeof(*poll));
    poll->account = account;
    poll->name = name;
    poll->deadline = acme_client_now(acme_account_client(account)) + duration;
    poll->step = ACME_POLL_FIRST;
}

/* Wait for the next look. @return APR_TIMEUP when the deadline has passed, APR_EINTR when
 * asked to stop */
static apr_status_t wait_step(acme_poll_t *poll, apr_time_t retry_at)
{
    acme_client_t *client = acme_account_client(poll->account);
    apr_time_t now = acme_client_now(client);
    apr_interval_time_t wait = poll->step;

    if (now >= poll->deadline || ++poll->looks > POLLS_MAX) {
        return APR_TIMEUP;
    }
    if (retry_at > now) {
        wait = retry_at - now;
        if (wait > ACME_POLL_RETRY_AFTER_MAX) {
            wait = ACME_POLL_RETRY_AFTER_MAX;
        }
    }
    poll->step = (apr_interval_time_t)((double)poll->step * ACME_POLL_GROWTH);
    if (poll->step > ACME_POLL_MAX) {
        poll->step = ACME_POLL_MAX;
    }
    if (wait > poll->deadline - now) {
        wait = poll->deadline - now;
    }
    return base_stop_wait(acme_client_stop(client), wait);
}

apr_status_t acme_poll_wait(acme_poll_t *poll, apr_time_t retry_at, base_error_kind_t late_kind,
                            const char *late, base_error_t *err)
{
    apr_status_t st = wait_step(poll, retry_at);

    if (st == APR_TIMEUP) {
        st = base_error_set(err, late_kind, APR_TIMEUP, "%s", late);
        if (err != NULL && late_kind == BASE_ERROR_CA_DOWN) {
            err->retry_at = retry_at;
        }
        return st;
    }
    if (st != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
    }
    return APR_SUCCESS;
}

apr_status_t acme_poll_outlast(acme_poll_t *poll, base_error_t *err)
{
    apr_status_t st;
    apr_time_t retry_at = err->retry_at;

    poll->missing = err->http_status == 404 ? poll->missing + 1 : 0;
    if (poll->missing >= FRESH_TRIES
        || (err->kind == BASE_ERROR_WAIT && retry_at > poll->deadline)
        || (err->kind != BASE_ERROR_WAIT && err->kind != BASE_ERROR_CA_DOWN
            && !is_passing(err))) {
        return err->status;
    }
    base_log(BASE_LOG_DEBUG, "AC0226", poll->name, "%s; trying again", err->detail);
    if (err->kind == BASE_ERROR_WAIT) {
        /* "Not before then" is longer than any step: kept to, up to the deadline. */
        acme_client_t *client = acme_account_client(poll->account);
        apr_interval_time_t wait = retry_at - acme_client_now(client);

        st = ++poll->looks > POLLS_MAX ? APR_TIMEUP
             : base_stop_wait(acme_client_stop(client),
                              wait > ACME_POLL_FIRST ? wait : ACME_POLL_FIRST);
    }
    else {
        st = wait_step(poll, retry_at);
    }
    if (st == APR_TIMEUP) {
        return err->status;
    }
    return st == APR_SUCCESS ? st : base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR,
                                                   "asked to stop");
}
