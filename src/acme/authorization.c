/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/authorization.h"

#include <ctype.h>
#include <string.h>

#include <apr_strings.h>

#include "acme/object.h"
#include "acme/poll.h"
#include "base/base64url.h"
#include "base/hostname.h"
#include "base/json.h"
#include "base/log.h"

#define REFUSED_LOOKS 3             /* at a challenge that is pending with an error */
#define PERSISTENT_TYPE "dns-persist-01"    /* the one without a token */
#define TYPE_MAX 64                 /* letters of a challenge type */

/* ---- reading ---- */

/* Who may be named by a standing record (draft-ietf-acme-dns-persist section 3). NULL: nobody. */
static const apr_array_header_t *read_issuers(const json_t *json, apr_pool_t *pool)
{
    json_t *list = base_json_array(json, "issuer-domain-names");
    apr_array_header_t *issuers = apr_array_make(pool, 1, sizeof(const char *));
    size_t i, n = json_array_size(list);
    char name[BASE_HOSTNAME_SIZE];

    if (n > ACME_AUTHORIZATION_ISSUERS_MAX) {
        return NULL;
    }
    for (i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        /* It becomes part of what administrators are told to put into their DNS. */
        if (text != NULL && base_hostname_from_client(name, text, strlen(text))) {
            APR_ARRAY_PUSH(issuers, const char *) = apr_pstrdup(pool, name);
        }
    }
    return issuers->nelts > 0 ? issuers : NULL;
}

/* @return zero when it is of no use: no type or no URL */
static int read_challenge(acme_authorization_challenge_t *challenge, const acme_client_answer_t *answer,
                          const json_t *json, apr_pool_t *pool)
{
    const json_t *problem = base_json_object(json, "error");
    const char *type = base_json_string(json, "type");
    const char *token = base_json_string(json, "token");

    memset(challenge, 0, sizeof(*challenge));
    challenge->url = acme_object_url(answer, json, "url", pool);
    if (type == NULL || strlen(type) > TYPE_MAX || challenge->url == NULL) {
        return 0;
    }
    challenge->type = apr_pstrdup(pool, type);
    challenge->status = acme_object_status(json);
    if (strcmp(type, PERSISTENT_TYPE) == 0) {
        challenge->issuers = read_issuers(json, pool);
    }
    /* It becomes part of file names and URL paths. */
    else if (token != NULL
             && base_base64url_is_text(token, ACME_AUTHORIZATION_TOKEN_MIN, ACME_AUTHORIZATION_TOKEN_MAX)) {
        challenge->token = apr_pstrdup(pool, token);
    }
    base_error_clear(&challenge->problem);
    if (problem != NULL || challenge->status == ACME_OBJECT_INVALID) {
        acme_client_problem(&challenge->problem, problem,
                            "the CA refused the challenge without saying why");
    }
    return 1;
}

static apr_status_t parse_authorization(acme_authorization_t **result,
                                        const acme_client_answer_t *answer, const char *url,
                                        apr_pool_t *pool, base_error_t *err)
{
    acme_authorization_t *authz = apr_pcalloc(pool, sizeof(*authz));
    json_t *list = base_json_array(answer->json, "challenges");
    const char *value = base_json_string(base_json_object(answer->json, "identifier"), "value");
    size_t i, n = json_array_size(list);
    char *p;

    if (value == NULL || value[0] == '\0' || strlen(value) > BASE_HOSTNAME_MAX) {
        return acme_object_refuse(err, "authorization", url, "has no usable identifier");
    }
    if (n > ACME_AUTHORIZATION_CHALLENGES_MAX) {
        return acme_object_refuse(err, "authorization", url, "has too many challenges");
    }
    p = apr_pstrdup(pool, value);
    authz->identifier = p;
    for (; *p != '\0'; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    authz->url = apr_pstrdup(pool, url);
    authz->wildcard = base_json_true(answer->json, "wildcard");
    authz->status = acme_object_status(answer->json);
    authz->retry_at = answer->retry_at;
    authz->challenges = apr_array_make(pool, (int)n, sizeof(acme_authorization_challenge_t));
    for (i = 0; i < n; i++) {
        acme_authorization_challenge_t challenge;

        if (read_challenge(&challenge, answer, json_array_get(list, i), pool)) {
            APR_ARRAY_PUSH(authz->challenges, acme_authorization_challenge_t) = challenge;
        }
    }
    *result = authz;
    return APR_SUCCESS;
}

apr_status_t acme_authorization_read(acme_authorization_t **authorization,
                                     acme_account_t *account, const char *url,
                                     apr_pool_t *pool, base_error_t *err)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    request.url = url;
    request.payload = "";
    st = acme_poll_read_fresh(account, &request, &answer, pool, err);
    if (st == APR_SUCCESS) {
        st = parse_authorization(authorization, &answer, url, pool, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0223", (*authorization)->identifier,
                 "the authorization %s is %s", url, acme_object_status_word((*authorization)->status));
    }
    return st;
}

const acme_authorization_challenge_t *acme_authorization_find_challenge(
    const acme_authorization_t *authorization, const char *type)
{
    int i;

    for (i = 0; i < authorization->challenges->nelts; i++) {
        const acme_authorization_challenge_t *challenge =
            &APR_ARRAY_IDX(authorization->challenges, i, acme_authorization_challenge_t);

        if ((challenge->token != NULL || challenge->issuers != NULL) && strcmp(challenge->type, type) == 0) {
            return challenge;
        }
    }
    return NULL;
}

/* ---- asking ---- */

static apr_status_t post_challenge(acme_account_t *account, const char *url, apr_pool_t *pool,
                                   base_error_t *err)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    apr_status_t st;

    request.url = url;
    request.payload = "{}";
    st = acme_account_post(account, &request, &answer, pool, err);
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0224", NULL, "asked the CA to validate %s", url);
    }
    return st;
}

apr_status_t acme_authorization_accept(acme_account_t *account, const char *url,
                                       apr_pool_t *pool, base_error_t *err)
{
    const base_stop_t *stop = acme_client_stop(acme_account_client(account));
    acme_client_answer_t answer;
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    st = post_challenge(account, url, pool, err);
    if (st == APR_SUCCESS || err->kind != BASE_ERROR_CA_DOWN) {
        return st;
    }
    /* The request may have come through although the answer did not: look, then ask again
     * only if it did not. */
    if (base_stop_wait(stop, apr_time_from_sec(1)) != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
    }
    st = acme_poll_read(account, url, &answer, pool, err);
    if (st != APR_SUCCESS || acme_object_status(answer.json) != ACME_OBJECT_PENDING) {
        return st;
    }
    return post_challenge(account, url, pool, err);
}

void acme_authorization_deactivate(acme_account_t *account, const char *url,
                                   apr_pool_t *pool)
{
    acme_client_request_t request = { 0 };
    acme_client_answer_t answer;
    base_error_t err;
    apr_status_t st;

    request.url = url;
    request.payload = "{\"status\":\"deactivated\"}";
    st = acme_account_post(account, &request, &answer, pool, &err);
    base_log(BASE_LOG_DEBUG, "AC0225", NULL, "gave up the authorization %s%s%s", url,
             st != APR_SUCCESS ? ": " : "", st != APR_SUCCESS ? err.detail : "");
}

/* ---- waiting ---- */

/* The CA's words about a failed authorization: the tried challenge's, else any's. */
static apr_status_t report_authorization(const acme_authorization_t *authz,
                                         const acme_authorization_challenge_t *tried, base_error_t *err)
{
    int i;

    if (tried != NULL && tried->problem.kind != BASE_ERROR_NONE) {
        *err = tried->problem;
        return err->status;
    }
    for (i = 0; i < authz->challenges->nelts; i++) {
        const acme_authorization_challenge_t *challenge =
            &APR_ARRAY_IDX(authz->challenges, i, acme_authorization_challenge_t);

        if (challenge->problem.kind != BASE_ERROR_NONE) {
            *err = challenge->problem;
            return err->status;
        }
    }
    return base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL,
                          "the CA made the authorization invalid without saying why");
}

/* A challenge that failed, whatever its authorization says. Some CAs leave one pending, with an error, when
 * they could not reach the server, and do not try again by themselves: it has a few looks to change.
 * @param refused looks that saw it so, counted here */
static int is_lost(const acme_authorization_challenge_t *tried, int *refused)
{
    if (tried == NULL) {
        return 0;
    }
    *refused = tried->status == ACME_OBJECT_PENDING && tried->problem.kind != BASE_ERROR_NONE ? *refused + 1
                                                                                             : 0;
    return tried->status == ACME_OBJECT_INVALID || *refused >= REFUSED_LOOKS;
}

apr_status_t acme_authorization_wait(acme_account_t *account, const char *url,
                                     const char *challenge_type, apr_pool_t *pool,
                                     base_error_t *err)
{
    acme_authorization_t *authz = NULL;
    const acme_authorization_challenge_t *tried;
    acme_client_answer_t answer;
    base_error_t local;
    apr_time_t retry_at = 0;
    int refused = 0;
    apr_status_t st;
    acme_poll_t poll;

    err = err != NULL ? err : &local;
    acme_poll_begin(&poll, account, NULL, ACME_AUTHORIZATION_DEADLINE);
    for (;;) {
        st = acme_poll_wait(&poll, retry_at, BASE_ERROR_VALIDATION,
                            "the CA did not finish validating in time", err);
        if (st != APR_SUCCESS) {
            return st;
        }
        st = acme_poll_read(account, url, &answer, pool, err);
        if (st == APR_SUCCESS) {
            st = parse_authorization(&authz, &answer, url, pool, err);
        }
        if (st != APR_SUCCESS) {
            retry_at = 0;
            st = acme_poll_outlast(&poll, err);
            if (st != APR_SUCCESS) {
                return st;
            }
            continue;
        }
        poll.missing = 0;
        poll.name = authz->identifier;
        retry_at = authz->retry_at;
        tried = acme_authorization_find_challenge(authz, challenge_type);
        base_log(BASE_LOG_DEBUG, "AC0227", poll.name, "the authorization is %s, %s is %s",
                 acme_object_status_word(authz->status), challenge_type,
                 tried != NULL ? acme_object_status_word(tried->status) : "not offered");
        if (authz->status == ACME_OBJECT_VALID) {
            base_error_clear(err);
            return APR_SUCCESS;
        }
        if (authz->status == ACME_OBJECT_INVALID || is_lost(tried, &refused)) {
            return report_authorization(authz, tried, err);
        }
    }
}
