/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/account_work.h"

#include <string.h>

#include <apr_time.h>

#define LOCK_STEP apr_time_from_msec(100)
#define LOCK_TRIES 300                  /* 30 s for another process */

apr_status_t acme_account_work_lock(acme_account_work_t *work)
{
    const base_stop_t *stop = acme_client_stop(work->client);
    apr_status_t st;
    int i;

    for (i = 0; i < LOCK_TRIES; i++) {
        st = cache_lock(work->places->cache, work->places->record_name, &work->lock);
        if (st == APR_SUCCESS) {
            return st;
        }
        work->lock = NULL;
        if (!APR_STATUS_IS_EBUSY(st)) {
            return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                                  "the lock %s in the cache cannot be taken",
                                  work->places->record_name);
        }
        if (base_stop_wait(stop, LOCK_STEP) != APR_SUCCESS) {
            return base_error_set(work->err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
        }
    }
    return base_error_set(work->err, BASE_ERROR_BUSY, APR_EBUSY,
                          "another process is busy with the account at %s", work->config->name);
}

apr_status_t acme_account_work_post(acme_account_work_t *work, EVP_PKEY *key, const char *url,
                                    const char *kid, const char *payload, acme_client_answer_t *answer)
{
    acme_client_request_t request = { 0 };

    memset(answer, 0, sizeof(*answer));
    request.url = url;
    request.kid = kid;
    request.key = key;
    request.payload = payload;
    if (request.payload == NULL) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOMEM,
                              "the account's request cannot be written as JSON");
    }
    return acme_client_post(work->client, &request, answer, work->pool, work->err);
}
