/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/order.h"

#include <string.h>

#include <apr_strings.h>

#include "acme/object.h"
#include "acme/poll.h"
#include "base/base64url.h"
#include "base/identifier.h"
#include "base/json.h"
#include "base/log.h"
#include "crypto/bundle.h"

#define FINALIZES_MAX 4             /* POSTs to finalize, each after reading the order again */
#define FINALIZE_TIMEOUT apr_time_from_sec(60)
#define ADDRESS_PROFILE "shortlived"    /* the only one with which Let's Encrypt issues for addresses */
#define CHAIN_TYPE "application/pem-certificate-chain"

/* ---- reading ---- */

static apr_status_t read_authorizations(acme_order_t *order, const acme_client_answer_t *answer,
                                        apr_pool_t *pool, base_error_t *err)
{
    json_t *list = base_json_array(answer->json, "authorizations");
    size_t i, n = json_array_size(list);

    if (n == 0 || n > ACME_ORDER_AUTHORIZATIONS_MAX) {
        return acme_object_refuse(err, "order", order->url,
                                  n == 0 ? "has no authorizations" : "has too many authorizations");
    }
    order->authorizations = apr_array_make(pool, (int)n, sizeof(const char *));
    for (i = 0; i < n; i++) {
        const char *url = acme_http_resolve(answer->http,
                                            json_string_value(json_array_get(list, i)), pool);

        if (url == NULL) {
            return acme_object_refuse(err, "order", order->url, "has an authorization without a usable URL");
        }
        APR_ARRAY_PUSH(order->authorizations, const char *) = url;
    }
    return APR_SUCCESS;
}

apr_status_t acme_order_parse(acme_order_t **result, const acme_client_answer_t *answer,
                              const char *url, apr_pool_t *pool, base_error_t *err)
{
    acme_order_t *order = apr_pcalloc(pool, sizeof(*order));
    const json_t *json = answer->json, *problem = base_json_object(json, "error");
    json_t *identifiers = base_json_array(json, "identifiers");
    apr_status_t st;

    order->url = apr_pstrdup(pool, url);
    order->name = base_json_string(json_array_get(identifiers, 0), "value");
    order->status = acme_object_status(json);
    order->finalize = acme_object_url(answer, json, "finalize", pool);
    order->certificate = acme_object_url(answer, json, "certificate", pool);
    order->expires = acme_client_time(base_json_string(json, "expires"));
    order->retry_at = answer->retry_at;
    base_error_clear(&order->problem);
    if (json == NULL) {
        return acme_object_refuse(err, "order", url, "is not a JSON object");
    }
    if (order->finalize == NULL) {
        return acme_object_refuse(err, "order", url, "has no usable finalize URL");
    }
    st = read_authorizations(order, answer, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    if (problem != NULL || order->status == ACME_OBJECT_INVALID) {
        acme_client_problem(&order->problem, problem,
                            "the CA gave the order up without saying why");
    }
    *result = order;
    return APR_SUCCESS;
}

apr_status_t acme_order_fetch(acme_order_t **order, acme_account_t *account, const char *url,
                              apr_pool_t *pool, base_error_t *err)
{
    acme_client_answer_t answer;
    apr_status_t st = acme_poll_read(account, url, &answer, pool, err);

    if (st == APR_SUCCESS) {
        st = acme_order_parse(order, &answer, url, pool, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0222", (*order)->name, "the order %s is %s", url,
                 acme_object_status_word((*order)->status));
    }
    return st;
}

/* ---- placing ---- */

/* What goes into one try of an order. */
typedef struct draft_t {
    const acme_order_request_t *wanted;
    const char *profile;            /* NULL: none */
    const char *replaces;           /* NULL: none */
} draft_t;

static int has_profile(const acme_client_directory_t *directory, const char *profile)
{
    int i;

    for (i = 0; directory->profiles != NULL && i < directory->profiles->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(directory->profiles, i, const char *), profile) == 0) {
            return 1;
        }
    }
    return 0;
}

static void warn_of_profile(const acme_client_config_t *config, const draft_t *draft, const char *profile,
                            const char *why)
{
    base_log(BASE_LOG_WARNING, "AC0230", draft->wanted->name, "%s: ordered without the profile %s: %.200s",
             config->name, profile, why);
}

/* Which members the CA can be asked for at all. */
static void begin_draft(draft_t *draft, const acme_order_request_t *wanted,
                        const acme_client_config_t *config, const acme_client_directory_t *directory)
{
    memset(draft, 0, sizeof(*draft));
    draft->wanted = wanted;
    if (directory->renewal_info != NULL && !config->no_renewal_info) {
        draft->replaces = wanted->replaces;
    }
    if (base_identifier_kind(wanted->name) == BASE_IDENTIFIER_IP && has_profile(directory, ADDRESS_PROFILE)) {
        draft->profile = ADDRESS_PROFILE;
    }
    else if (config->profile != NULL && has_profile(directory, config->profile)) {
        draft->profile = config->profile;
    }
    else if (config->profile != NULL) {
        warn_of_profile(config, draft, config->profile, "the CA has none of this name");
    }
}

static apr_status_t send_draft(const draft_t *draft, acme_account_t *account, const char *url,
                               acme_client_answer_t *answer, apr_pool_t *pool, base_error_t *err)
{
    acme_client_request_t request = { 0 };
    const char *name = draft->wanted->name;
    const char *type = base_identifier_kind(name) == BASE_IDENTIFIER_IP ? "ip" : "dns";
    json_t *payload = json_pack("{s:[{s:s, s:s}], s:s*, s:s*}", "identifiers", "type", type, "value", name,
                                "profile", draft->profile, "replaces", draft->replaces);

    request.url = url;
    request.payload = payload != NULL ? base_json_dump(payload, pool) : NULL;
    if (request.payload == NULL) {
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "the order cannot be written as JSON");
    }
    return acme_account_post(account, &request, answer, pool, err);
}

/* Non-zero when the member "replaces" may be what the CA does not like. Limits, lost accounts, terms and
 * what is no answer of a CA stay what they are. */
static int may_dislike_replaces(const base_error_t *err)
{
    if (err->http_status == 500 || err->http_status == 409) {
        return err->kind != BASE_ERROR_WAIT;
    }
    return (err->kind == BASE_ERROR_OPERATOR || err->kind == BASE_ERROR_GONE)
           && err->http_status / 100 == 4 && err->http_status != 429
           && strcmp(err->type, "accountDoesNotExist") != 0
           && strcmp(err->type, "userActionRequired") != 0;
}

/* Leave out what the CA seems to have refused. @return zero when nothing is left to leave out */
static int mend_draft(draft_t *draft, const acme_client_config_t *config, const base_error_t *err)
{
    int is_profile = strcmp(err->type, "invalidProfile") == 0;

    if (draft->replaces != NULL && !(is_profile && draft->profile != NULL) && may_dislike_replaces(err)) {
        base_log(BASE_LOG_INFO, "AC0233", draft->wanted->name, "%s: not taken as the successor of the old "
                 "certificate: %.200s; ordered as a new one", config->name, err->detail);
        draft->replaces = NULL;
        return 1;
    }
    if (draft->profile != NULL && (is_profile || strcmp(err->type, "unauthorized") == 0)) {
        warn_of_profile(config, draft, draft->profile, err->detail);
        draft->profile = NULL;
        return 1;
    }
    return 0;
}

apr_status_t acme_order_create(acme_order_t **order, acme_account_t *account,
                               const acme_order_request_t *wanted, apr_pool_t *pool, base_error_t *err)
{
    acme_client_t *client = acme_account_client(account);
    acme_client_directory_t directory;
    acme_client_answer_t answer;
    base_error_t local;
    draft_t draft;
    apr_status_t st;

    err = err != NULL ? err : &local;
    st = acme_client_directory(client, &directory, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    begin_draft(&draft, wanted, acme_client_config(client), &directory);
    do {
        st = send_draft(&draft, account, directory.new_order, &answer, pool, err);
    } while (st != APR_SUCCESS && mend_draft(&draft, acme_client_config(client), err));
    if (st != APR_SUCCESS) {
        return st;
    }
    if (answer.location == NULL) {
        return acme_object_refuse(err, "answer of", directory.new_order, "does not say where the order is");
    }
    st = acme_order_parse(order, &answer, answer.location, pool, err);
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0221", wanted->name, "placed the order %s, %s", (*order)->url,
                 acme_object_status_word((*order)->status));
    }
    return st;
}

/* ---- waiting and finalizing ---- */

/* One more look at the order, or a wait where the look failed. */
static apr_status_t look_again(acme_poll_t *poll, acme_order_t **order, apr_pool_t *pool,
                               base_error_t *err)
{
    acme_order_t *fresh = NULL;
    const char *name = (*order)->name;
    apr_status_t st = acme_order_fetch(&fresh, poll->account, (*order)->url, pool, err);

    if (st != APR_SUCCESS) {
        return acme_poll_outlast(poll, err);
    }
    poll->missing = 0;
    if (fresh->name == NULL) {
        fresh->name = name;
    }
    *order = fresh;
    return APR_SUCCESS;
}

apr_status_t acme_order_wait_ready(acme_order_t **order, acme_account_t *account,
                                   apr_pool_t *pool, base_error_t *err)
{
    base_error_t local;
    apr_status_t st;
    acme_poll_t poll;

    err = err != NULL ? err : &local;
    acme_poll_begin(&poll, account, (*order)->name, ACME_ORDER_READY_DEADLINE);
    /* What is known of the order is from before its authorizations were valid: look at once. */
    st = (*order)->status == ACME_OBJECT_PENDING ? look_again(&poll, order, pool, err) : APR_SUCCESS;
    while (st == APR_SUCCESS && (*order)->status == ACME_OBJECT_PENDING) {
        st = acme_poll_wait(&poll, (*order)->retry_at, BASE_ERROR_CA_DOWN,
                            "the order stays pending although its authorizations are valid", err);
        if (st == APR_SUCCESS) {
            st = look_again(&poll, order, pool, err);
        }
    }
    if (st != APR_SUCCESS) {
        return st;
    }
    if ((*order)->status == ACME_OBJECT_INVALID) {
        *err = (*order)->problem;
        return err->status;
    }
    base_error_clear(err);
    return APR_SUCCESS;
}

/* How far finalizing is. */
typedef struct finalize_t {
    acme_poll_t poll;
    const char *payload;
    int tries;                      /* POSTs sent */
    int accepted;                   /* the CA answered one with success */
} finalize_t;

/* Send the CSR. An answer that leaves open what happened is APR_SUCCESS with the status
 * PENDING: the order is read again before anything else. */
static apr_status_t send_csr(finalize_t *work, acme_order_t **order, apr_pool_t *pool,
                             base_error_t *err)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    acme_order_t *next = NULL, *unsure;
    apr_status_t st;

    unsure = apr_pmemdup(pool, *order, sizeof(*unsure));
    unsure->status = ACME_OBJECT_PENDING;
    unsure->retry_at = 0;
    work->tries++;
    request.url = (*order)->finalize;
    request.payload = work->payload;
    request.timeout = FINALIZE_TIMEOUT;
    base_log(BASE_LOG_DEBUG, "AC0228", work->poll.name, "sending the request for %s",
             (*order)->url);
    st = acme_account_post(work->poll.account, &request, &answer, pool, err);
    if (st == APR_SUCCESS) {
        work->accepted = 1;
        /* The order may be missing from the answer, Location even more so: RFC 8555 section
         * 7.4 asks only that we know its URL from before. */
        if (acme_order_parse(&next, &answer, (*order)->url, pool, err) == APR_SUCCESS) {
            next->name = work->poll.name;
            *order = next;
        }
        else {
            *order = unsure;
        }
        return APR_SUCCESS;
    }
    if (strcmp(err->type, "orderNotReady") == 0) {
        /* The CA's servers disagree about the order: its fault, and it passes. */
        err->kind = BASE_ERROR_CA_DOWN;
        *order = unsure;
        return work->tries < FINALIZES_MAX ? APR_SUCCESS : st;
    }
    if (work->tries < FINALIZES_MAX || err->kind == BASE_ERROR_WAIT) {
        st = acme_poll_outlast(&work->poll, err);
        *order = unsure;
    }
    return st;
}

static apr_status_t drive_finalize(finalize_t *work, acme_order_t **order, apr_pool_t *pool,
                                   base_error_t *err)
{
    apr_status_t st;

    for (;;) {
        switch ((*order)->status) {
        case ACME_OBJECT_INVALID:
            *err = (*order)->problem;
            return err->status;
        case ACME_OBJECT_VALID:
            if ((*order)->certificate != NULL) {
                base_error_clear(err);
                return APR_SUCCESS;
            }
            break;
        case ACME_OBJECT_READY:
            /* "Ready" after a success is an old copy of the order: wait for a newer one. */
            if (!work->accepted) {
                st = send_csr(work, order, pool, err);
                if (st != APR_SUCCESS) {
                    return st;
                }
                if ((*order)->status == ACME_OBJECT_VALID
                    || (*order)->status == ACME_OBJECT_INVALID) {
                    continue;
                }
            }
            break;
        case ACME_OBJECT_PENDING:
        case ACME_OBJECT_PROCESSING:
            break;
        }
        st = acme_poll_wait(&work->poll, (*order)->retry_at, BASE_ERROR_CA_DOWN,
                            "the CA did not finish the order in time", err);
        if (st == APR_SUCCESS) {
            st = look_again(&work->poll, order, pool, err);
        }
        if (st != APR_SUCCESS) {
            return st;
        }
    }
}

apr_status_t acme_order_finalize(acme_order_t **order, acme_account_t *account,
                                 const unsigned char *csr, apr_size_t csr_len,
                                 apr_pool_t *pool, base_error_t *err)
{
    finalize_t work;
    base_error_t local;

    memset(&work, 0, sizeof(work));
    err = err != NULL ? err : &local;
    acme_poll_begin(&work.poll, account, (*order)->name, ACME_ORDER_FINALIZE_DEADLINE);
    work.payload = apr_pstrcat(pool, "{\"csr\":\"", base_base64url_encode(csr, csr_len, pool),
                               "\"}", NULL);
    return drive_finalize(&work, order, pool, err);
}

/* ---- the chain ---- */

static apr_status_t download(acme_account_t *account, const char *url, acme_client_answer_t *answer,
                             apr_pool_t *pool, base_error_t *err)
{
    acme_client_request_t request = { 0 };
    apr_status_t st;

    request.url = url;
    request.payload = "";
    request.accept = CHAIN_TYPE;
    request.body_max = ACME_HTTP_CHAIN_MAX;
    st = acme_poll_read_fresh(account, &request, answer, pool, err);
    if (st == APR_SUCCESS && answer->http->len == 0) {
        st = acme_object_refuse(err, "certificate", url, "is empty");
    }
    return st;
}

static int leads_to(const acme_client_answer_t *answer, const char *cn)
{
    return crypto_bundle_chain_leads_to(answer->http->body, answer->http->len, cn);
}

/* Put the chain in the place of the default one that leads where the configuration says. Not
 * having it must not cost the certificate. */
static apr_status_t choose_chain(acme_client_answer_t *chain, const acme_order_t *order,
                                 acme_account_t *account, apr_pool_t *pool, base_error_t *err)
{
    const acme_client_config_t *config = acme_client_config(acme_account_client(account));
    apr_array_header_t *urls;
    int i;

    if (config->chain == NULL || leads_to(chain, config->chain)) {
        return APR_SUCCESS;
    }
    urls = acme_http_links(chain->http, "alternate", ACME_ORDER_ALTERNATES_MAX, pool);
    for (i = 0; i < urls->nelts; i++) {
        const char *url = APR_ARRAY_IDX(urls, i, const char *);
        acme_client_answer_t answer;

        if (download(account, url, &answer, pool, err) != APR_SUCCESS) {
            if (err->kind == BASE_ERROR_CANCELLED) {
                return err->status;
            }
            base_log(BASE_LOG_DEBUG, "AC0239", order->name, "the chain %s cannot be had: %s; passed over",
                     url, err->detail);
        }
        else if (leads_to(&answer, config->chain)) {
            *chain = answer;
            return APR_SUCCESS;
        }
    }
    base_log(BASE_LOG_WARNING, "AC0231", order->name, "%s: no chain of the CA leads to \"%s\"; its default "
             "one is used", config->name, config->chain);
    return APR_SUCCESS;
}

apr_status_t acme_order_certificate(char **pem, apr_size_t *len, const acme_order_t *order,
                                    acme_account_t *account, apr_pool_t *pool,
                                    base_error_t *err)
{
    acme_client_answer_t answer;
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    if (order->certificate == NULL) {
        return acme_object_refuse(err, "order", order->url, "has no certificate");
    }
    st = download(account, order->certificate, &answer, pool, err);
    if (st == APR_SUCCESS) {
        st = choose_chain(&answer, order, account, pool, err);
    }
    if (st != APR_SUCCESS) {
        return st;
    }
    base_error_clear(err);
    *pem = answer.http->body;
    *len = answer.http->len;
    base_log(BASE_LOG_DEBUG, "AC0229", order->name, "downloaded the chain %s, %lu bytes",
             answer.http->url, (unsigned long)*len);
    return APR_SUCCESS;
}
