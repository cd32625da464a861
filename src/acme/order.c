/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/order.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <apr_strings.h>

#include "base/base64url.h"
#include "base/hostname.h"
#include "base/json.h"
#include "base/log.h"
#include "crypto/bundle.h"

#define POLLS_MAX 500               /* looks at one object, whatever the clock does meanwhile */
#define REFUSED_LOOKS 3             /* at a challenge that is pending with an error */
#define FRESH_TRIES 5               /* first try and 4 more of an object that is not there yet */
#define FINALIZES_MAX 4             /* POSTs to finalize, each after reading the order again */
#define FINALIZE_TIMEOUT apr_time_from_sec(60)
#define TYPE_MAX 64                 /* letters of a challenge type */
#define CHAIN_TYPE "application/pem-certificate-chain"

/* How long to wait before each new try of a fresh object: a replica of the CA may not know
 * it yet. */
static const apr_interval_time_t fresh_waits[FRESH_TRIES - 1] = {
    apr_time_from_msec(250), apr_time_from_msec(500), apr_time_from_sec(1), apr_time_from_sec(2)
};

/* Words of RFC 8555 section 7.1.6; any other means "not finished". */
static const struct {
    const char *word;
    acme_order_status_t status;
} statuses[] = {
    { "pending", ACME_ORDER_PENDING },
    { "ready", ACME_ORDER_READY },
    { "processing", ACME_ORDER_PROCESSING },
    { "valid", ACME_ORDER_VALID },
    { "invalid", ACME_ORDER_INVALID },
    { "deactivated", ACME_ORDER_INVALID },
    { "expired", ACME_ORDER_INVALID },
    { "revoked", ACME_ORDER_INVALID }
};

/* One wait for a change at the CA. */
typedef struct poll_t {
    acme_account_t *account;
    const char *name;               /* for the log, may be NULL */
    apr_time_t deadline;
    apr_interval_time_t step;
    int looks;
    int missing;                    /* answers 404 in a row */
} poll_t;

static acme_order_status_t read_status(const json_t *json)
{
    const char *word = base_json_string(json, "status");
    size_t i;

    for (i = 0; word != NULL && i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (strcmp(statuses[i].word, word) == 0) {
            return statuses[i].status;
        }
    }
    return ACME_ORDER_PENDING;
}

static const char *show_status(acme_order_status_t status)
{
    size_t i;

    for (i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        if (statuses[i].status == status) {
            return statuses[i].word;
        }
    }
    return "";
}

/* The member's URL, resolved and checked; NULL when missing or not usable. */
static const char *read_url(const acme_client_answer_t *answer, const json_t *json,
                            const char *member, apr_pool_t *pool)
{
    return acme_http_resolve(answer->http, base_json_string(json, member), pool);
}

static apr_status_t refuse(base_error_t *err, const char *what, const char *url, const char *why)
{
    return base_error_set(err, BASE_ERROR_CA_DOWN, APR_EGENERAL, "the CA's %s %.200s %s", what,
                          url, why);
}

/* ---- reading objects ---- */

static apr_status_t read_authorizations(acme_order_t *order, const acme_client_answer_t *answer,
                                        apr_pool_t *pool, base_error_t *err)
{
    json_t *list = base_json_array(answer->json, "authorizations");
    size_t i, n = json_array_size(list);

    if (n == 0 || n > ACME_ORDER_AUTHORIZATIONS_MAX) {
        return refuse(err, "order", order->url,
                      n == 0 ? "has no authorizations" : "has too many authorizations");
    }
    order->authorizations = apr_array_make(pool, (int)n, sizeof(const char *));
    for (i = 0; i < n; i++) {
        const char *url = acme_http_resolve(answer->http,
                                            json_string_value(json_array_get(list, i)), pool);

        if (url == NULL) {
            return refuse(err, "order", order->url, "has an authorization without a usable URL");
        }
        APR_ARRAY_PUSH(order->authorizations, const char *) = url;
    }
    return APR_SUCCESS;
}

static apr_status_t parse_order(acme_order_t **result, const acme_client_answer_t *answer,
                                const char *url, apr_pool_t *pool, base_error_t *err)
{
    acme_order_t *order = apr_pcalloc(pool, sizeof(*order));
    const json_t *json = answer->json, *problem = base_json_object(json, "error");
    json_t *identifiers = base_json_array(json, "identifiers");
    apr_status_t st;

    order->url = apr_pstrdup(pool, url);
    order->name = base_json_string(json_array_get(identifiers, 0), "value");
    order->status = read_status(json);
    order->finalize = read_url(answer, json, "finalize", pool);
    order->certificate = read_url(answer, json, "certificate", pool);
    order->expires = acme_client_time(base_json_string(json, "expires"));
    order->retry_at = answer->retry_at;
    base_error_clear(&order->problem);
    if (json == NULL) {
        return refuse(err, "order", url, "is not a JSON object");
    }
    if (order->finalize == NULL) {
        return refuse(err, "order", url, "has no usable finalize URL");
    }
    st = read_authorizations(order, answer, pool, err);
    if (st != APR_SUCCESS) {
        return st;
    }
    if (problem != NULL || order->status == ACME_ORDER_INVALID) {
        acme_client_problem(&order->problem, problem,
                            "the CA gave the order up without saying why");
    }
    *result = order;
    return APR_SUCCESS;
}

/* @return zero when it is of no use: no type or no URL */
static int read_challenge(acme_order_challenge_t *challenge, const acme_client_answer_t *answer,
                          const json_t *json, apr_pool_t *pool)
{
    const json_t *problem = base_json_object(json, "error");
    const char *type = base_json_string(json, "type");
    const char *token = base_json_string(json, "token");

    memset(challenge, 0, sizeof(*challenge));
    challenge->url = read_url(answer, json, "url", pool);
    if (type == NULL || strlen(type) > TYPE_MAX || challenge->url == NULL) {
        return 0;
    }
    challenge->type = apr_pstrdup(pool, type);
    challenge->status = read_status(json);
    /* It becomes part of file names and URL paths. */
    if (token != NULL
        && base_base64url_is_text(token, ACME_ORDER_TOKEN_MIN, ACME_ORDER_TOKEN_MAX)) {
        challenge->token = apr_pstrdup(pool, token);
    }
    base_error_clear(&challenge->problem);
    if (problem != NULL || challenge->status == ACME_ORDER_INVALID) {
        acme_client_problem(&challenge->problem, problem,
                            "the CA refused the challenge without saying why");
    }
    return 1;
}

static apr_status_t parse_authorization(acme_order_authorization_t **result,
                                        const acme_client_answer_t *answer, const char *url,
                                        apr_pool_t *pool, base_error_t *err)
{
    acme_order_authorization_t *authz = apr_pcalloc(pool, sizeof(*authz));
    json_t *list = base_json_array(answer->json, "challenges");
    const char *value = base_json_string(base_json_object(answer->json, "identifier"), "value");
    size_t i, n = json_array_size(list);
    char *p;

    if (value == NULL || value[0] == '\0' || strlen(value) > BASE_HOSTNAME_MAX) {
        return refuse(err, "authorization", url, "has no usable identifier");
    }
    if (n > ACME_ORDER_CHALLENGES_MAX) {
        return refuse(err, "authorization", url, "has too many challenges");
    }
    p = apr_pstrdup(pool, value);
    authz->identifier = p;
    for (; *p != '\0'; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    authz->url = apr_pstrdup(pool, url);
    authz->wildcard = base_json_true(answer->json, "wildcard");
    authz->status = read_status(answer->json);
    authz->retry_at = answer->retry_at;
    authz->challenges = apr_array_make(pool, (int)n, sizeof(acme_order_challenge_t));
    for (i = 0; i < n; i++) {
        acme_order_challenge_t challenge;

        if (read_challenge(&challenge, answer, json_array_get(list, i), pool)) {
            APR_ARRAY_PUSH(authz->challenges, acme_order_challenge_t) = challenge;
        }
    }
    *result = authz;
    return APR_SUCCESS;
}

/* ---- requests ---- */

/* POST-as-GET */
static apr_status_t read_object(acme_account_t *account, const char *url,
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

/* POST-as-GET of something that was made a moment ago. */
static apr_status_t read_fresh(acme_account_t *account, acme_client_request_t *request,
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

static void warn_of_profile(const acme_client_config_t *config, const draft_t *draft, const char *why)
{
    base_log(BASE_LOG_WARNING, "AC0230", draft->wanted->name, "%s: ordered without the profile %s: %.200s",
             config->name, config->profile, why);
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
    if (config->profile != NULL && has_profile(directory, config->profile)) {
        draft->profile = config->profile;
    }
    else if (config->profile != NULL) {
        warn_of_profile(config, draft, "the CA has none of this name");
    }
}

static apr_status_t send_draft(const draft_t *draft, acme_account_t *account, const char *url,
                               acme_client_answer_t *answer, apr_pool_t *pool, base_error_t *err)
{
    acme_client_request_t request = { 0 };
    json_t *payload = json_pack("{s:[{s:s, s:s}], s:s*, s:s*}", "identifiers", "type", "dns", "value",
                                draft->wanted->name, "profile", draft->profile, "replaces",
                                draft->replaces);

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
        warn_of_profile(config, draft, err->detail);
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
        return refuse(err, "answer of", directory.new_order, "does not say where the order is");
    }
    st = parse_order(order, &answer, answer.location, pool, err);
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0221", wanted->name, "placed the order %s, %s", (*order)->url,
                 show_status((*order)->status));
    }
    return st;
}

/* ---- the account's list of orders ---- */

/* Non-zero when the CA spoke, and had nothing to offer: no list, or an order that is no more. */
static int is_nothing(const base_error_t *err)
{
    return err->kind == BASE_ERROR_OPERATOR || err->kind == BASE_ERROR_GONE;
}

static apr_status_t read_account(acme_account_t *account, acme_client_answer_t *answer, apr_pool_t *pool,
                                 base_error_t *err)
{
    apr_status_t st = acme_account_ensure(account, err);
    const char *url = acme_account_url(account, pool);

    if (st == APR_SUCCESS && url == NULL) {
        st = base_error_set(err, BASE_ERROR_GONE, APR_NOTFOUND, "the account is gone again");
    }
    return st != APR_SUCCESS ? st : read_object(account, url, answer, pool, err);
}

/* The array of URLs; some CAs send it bare, without the object around it. */
static json_t *read_list(const acme_client_answer_t *answer, apr_pool_t *pool)
{
    const char *wrapped;

    if (answer->json != NULL) {
        return base_json_array(answer->json, "orders");
    }
    wrapped = apr_pstrcat(pool, "{\"orders\":", answer->http->body, "}", NULL);
    return base_json_array(base_json_parse_object(wrapped, strlen(wrapped), pool), "orders");
}

/* All pages, up to a bound: what is wanted stands at the end of the last. */
static apr_status_t read_pages(apr_array_header_t *urls, acme_account_t *account, const char *page,
                               apr_pool_t *pool, base_error_t *err)
{
    acme_client_answer_t answer;
    apr_status_t st = APR_SUCCESS;
    size_t i;
    int n;

    for (n = 0; page != NULL && n < ACME_ORDER_PAGES_MAX && st == APR_SUCCESS; n++) {
        json_t *list;

        st = read_object(account, page, &answer, pool, err);
        if (st != APR_SUCCESS) {
            break;
        }
        list = read_list(&answer, pool);
        for (i = 0; i < json_array_size(list); i++) {
            const char *url = acme_http_resolve(answer.http, json_string_value(json_array_get(list, i)),
                                                pool);

            if (url != NULL) {
                APR_ARRAY_PUSH(urls, const char *) = url;
            }
        }
        page = acme_http_link(answer.http, "next", pool);
    }
    return st;
}

/* Non-zero when an order can still bring the certificate that was ordered then. */
static int is_wanted(const acme_order_t *order, const acme_client_answer_t *answer, const char *name,
                     apr_time_t since)
{
    return json_array_size(base_json_array(answer->json, "identifiers")) == 1
           && order->name != NULL && strcasecmp(order->name, name) == 0
           && (order->status == ACME_ORDER_PENDING || order->status == ACME_ORDER_READY)
           && order->expires > since;
}

apr_status_t acme_order_find(acme_order_t **order, acme_account_t *account, const char *name,
                             apr_time_t since, apr_pool_t *pool, base_error_t *err)
{
    apr_array_header_t *urls = apr_array_make(pool, ACME_ORDER_FOUND_MAX, sizeof(const char *));
    acme_client_answer_t answer;
    acme_order_t *found = NULL;
    base_error_t local;
    apr_status_t st;
    int i;

    err = err != NULL ? err : &local;
    st = read_account(account, &answer, pool, err);
    if (st == APR_SUCCESS) {
        st = read_pages(urls, account, read_url(&answer, answer.json, "orders", pool), pool, err);
    }
    if (st != APR_SUCCESS && !is_nothing(err)) {
        return st;
    }
    for (i = urls->nelts; i > 0 && urls->nelts - i < ACME_ORDER_FOUND_MAX; i--) {
        const char *url = APR_ARRAY_IDX(urls, i - 1, const char *);

        st = read_object(account, url, &answer, pool, err);
        if (st != APR_SUCCESS && !is_nothing(err)) {
            return st;
        }
        if (st == APR_SUCCESS && parse_order(&found, &answer, url, pool, err) == APR_SUCCESS
            && is_wanted(found, &answer, name, since)) {
            *order = found;
            base_error_clear(err);
            base_log(BASE_LOG_DEBUG, "AC0222", name, "found the order %s again, %s", url,
                     show_status(found->status));
            return APR_SUCCESS;
        }
    }
    base_error_clear(err);
    return APR_NOTFOUND;
}

apr_status_t acme_order_fetch(acme_order_t **order, acme_account_t *account, const char *url,
                              apr_pool_t *pool, base_error_t *err)
{
    acme_client_answer_t answer;
    apr_status_t st = read_object(account, url, &answer, pool, err);

    if (st == APR_SUCCESS) {
        st = parse_order(order, &answer, url, pool, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0222", (*order)->name, "the order %s is %s", url,
                 show_status((*order)->status));
    }
    return st;
}

apr_status_t acme_order_authorization(acme_order_authorization_t **authorization,
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
    st = read_fresh(account, &request, &answer, pool, err);
    if (st == APR_SUCCESS) {
        st = parse_authorization(authorization, &answer, url, pool, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_DEBUG, "AC0223", (*authorization)->identifier,
                 "the authorization %s is %s", url, show_status((*authorization)->status));
    }
    return st;
}

const acme_order_challenge_t *acme_order_challenge_find(
    const acme_order_authorization_t *authorization, const char *type)
{
    int i;

    for (i = 0; i < authorization->challenges->nelts; i++) {
        const acme_order_challenge_t *challenge =
            &APR_ARRAY_IDX(authorization->challenges, i, acme_order_challenge_t);

        if (challenge->token != NULL && strcmp(challenge->type, type) == 0) {
            return challenge;
        }
    }
    return NULL;
}

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

apr_status_t acme_order_challenge_accept(acme_account_t *account, const char *url,
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
    st = read_object(account, url, &answer, pool, err);
    if (st != APR_SUCCESS || read_status(answer.json) != ACME_ORDER_PENDING) {
        return st;
    }
    return post_challenge(account, url, pool, err);
}

void acme_order_authorization_deactivate(acme_account_t *account, const char *url,
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

/* ---- polling ---- */

static void begin_poll(poll_t *poll, acme_account_t *account, const char *name,
                       apr_interval_time_t duration)
{
    memset(poll, 0, sizeof(*poll));
    poll->account = account;
    poll->name = name;
    poll->deadline = acme_client_now(acme_account_client(account)) + duration;
    poll->step = ACME_ORDER_POLL_FIRST;
}

/* Wait for the next look. @return APR_TIMEUP when the deadline has passed, APR_EINTR when
 * asked to stop */
static apr_status_t wait_step(poll_t *poll, apr_time_t retry_at)
{
    acme_client_t *client = acme_account_client(poll->account);
    apr_time_t now = acme_client_now(client);
    apr_interval_time_t wait = poll->step;

    if (now >= poll->deadline || ++poll->looks > POLLS_MAX) {
        return APR_TIMEUP;
    }
    if (retry_at > now) {
        wait = retry_at - now;
        if (wait > ACME_ORDER_RETRY_AFTER_MAX) {
            wait = ACME_ORDER_RETRY_AFTER_MAX;
        }
    }
    poll->step = (apr_interval_time_t)((double)poll->step * ACME_ORDER_POLL_GROWTH);
    if (poll->step > ACME_ORDER_POLL_MAX) {
        poll->step = ACME_ORDER_POLL_MAX;
    }
    if (wait > poll->deadline - now) {
        wait = poll->deadline - now;
    }
    return base_stop_wait(acme_client_stop(client), wait);
}

/* As wait_step(), with both endings as errors. */
static apr_status_t wait_next(poll_t *poll, apr_time_t retry_at, base_error_kind_t late_kind,
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

/* Is an error of one look the end of polling? If not, wait and return APR_SUCCESS: look
 * again. What the CA said stays the error when the deadline passes. */
static apr_status_t outlast(poll_t *poll, base_error_t *err)
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
                              wait > ACME_ORDER_POLL_FIRST ? wait : ACME_ORDER_POLL_FIRST);
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

/* The CA's words about a failed authorization: the tried challenge's, else any's. */
static apr_status_t report_authorization(const acme_order_authorization_t *authz,
                                         const acme_order_challenge_t *tried, base_error_t *err)
{
    int i;

    if (tried != NULL && tried->problem.kind != BASE_ERROR_NONE) {
        *err = tried->problem;
        return err->status;
    }
    for (i = 0; i < authz->challenges->nelts; i++) {
        const acme_order_challenge_t *challenge =
            &APR_ARRAY_IDX(authz->challenges, i, acme_order_challenge_t);

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
static int is_lost(const acme_order_challenge_t *tried, int *refused)
{
    if (tried == NULL) {
        return 0;
    }
    *refused = tried->status == ACME_ORDER_PENDING && tried->problem.kind != BASE_ERROR_NONE ? *refused + 1
                                                                                             : 0;
    return tried->status == ACME_ORDER_INVALID || *refused >= REFUSED_LOOKS;
}

apr_status_t acme_order_authorization_wait(acme_account_t *account, const char *url,
                                           const char *challenge_type, apr_pool_t *pool,
                                           base_error_t *err)
{
    acme_order_authorization_t *authz = NULL;
    const acme_order_challenge_t *tried;
    acme_client_answer_t answer;
    base_error_t local;
    apr_time_t retry_at = 0;
    int refused = 0;
    apr_status_t st;
    poll_t poll;

    err = err != NULL ? err : &local;
    begin_poll(&poll, account, NULL, ACME_ORDER_AUTHORIZATION_DEADLINE);
    for (;;) {
        st = wait_next(&poll, retry_at, BASE_ERROR_VALIDATION,
                       "the CA did not finish validating in time", err);
        if (st != APR_SUCCESS) {
            return st;
        }
        st = read_object(account, url, &answer, pool, err);
        if (st == APR_SUCCESS) {
            st = parse_authorization(&authz, &answer, url, pool, err);
        }
        if (st != APR_SUCCESS) {
            retry_at = 0;
            st = outlast(&poll, err);
            if (st != APR_SUCCESS) {
                return st;
            }
            continue;
        }
        poll.missing = 0;
        poll.name = authz->identifier;
        retry_at = authz->retry_at;
        tried = acme_order_challenge_find(authz, challenge_type);
        base_log(BASE_LOG_DEBUG, "AC0227", poll.name, "the authorization is %s, %s is %s",
                 show_status(authz->status), challenge_type,
                 tried != NULL ? show_status(tried->status) : "not offered");
        if (authz->status == ACME_ORDER_VALID) {
            base_error_clear(err);
            return APR_SUCCESS;
        }
        if (authz->status == ACME_ORDER_INVALID || is_lost(tried, &refused)) {
            return report_authorization(authz, tried, err);
        }
    }
}

/* One more look at the order, or a wait where the look failed. */
static apr_status_t look_again(poll_t *poll, acme_order_t **order, apr_pool_t *pool,
                               base_error_t *err)
{
    acme_order_t *fresh = NULL;
    const char *name = (*order)->name;
    apr_status_t st = acme_order_fetch(&fresh, poll->account, (*order)->url, pool, err);

    if (st != APR_SUCCESS) {
        return outlast(poll, err);
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
    poll_t poll;

    err = err != NULL ? err : &local;
    begin_poll(&poll, account, (*order)->name, ACME_ORDER_AUTHORIZATION_DEADLINE);
    /* What is known of the order is from before its authorizations were valid: look at once. */
    st = (*order)->status == ACME_ORDER_PENDING ? look_again(&poll, order, pool, err) : APR_SUCCESS;
    while (st == APR_SUCCESS && (*order)->status == ACME_ORDER_PENDING) {
        st = wait_next(&poll, (*order)->retry_at, BASE_ERROR_CA_DOWN,
                       "the order stays pending although its authorizations are valid", err);
        if (st == APR_SUCCESS) {
            st = look_again(&poll, order, pool, err);
        }
    }
    if (st != APR_SUCCESS) {
        return st;
    }
    if ((*order)->status == ACME_ORDER_INVALID) {
        *err = (*order)->problem;
        return err->status;
    }
    base_error_clear(err);
    return APR_SUCCESS;
}

/* How far finalizing is. */
typedef struct finalize_t {
    poll_t poll;
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
    unsure->status = ACME_ORDER_PENDING;
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
        if (parse_order(&next, &answer, (*order)->url, pool, err) == APR_SUCCESS) {
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
        st = outlast(&work->poll, err);
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
        case ACME_ORDER_INVALID:
            *err = (*order)->problem;
            return err->status;
        case ACME_ORDER_VALID:
            if ((*order)->certificate != NULL) {
                base_error_clear(err);
                return APR_SUCCESS;
            }
            break;
        case ACME_ORDER_READY:
            /* "Ready" after a success is an old copy of the order: wait for a newer one. */
            if (!work->accepted) {
                st = send_csr(work, order, pool, err);
                if (st != APR_SUCCESS) {
                    return st;
                }
                if ((*order)->status == ACME_ORDER_VALID
                    || (*order)->status == ACME_ORDER_INVALID) {
                    continue;
                }
            }
            break;
        case ACME_ORDER_PENDING:
        case ACME_ORDER_PROCESSING:
            break;
        }
        st = wait_next(&work->poll, (*order)->retry_at, BASE_ERROR_CA_DOWN,
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
    begin_poll(&work.poll, account, (*order)->name, ACME_ORDER_FINALIZE_DEADLINE);
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
    st = read_fresh(account, &request, answer, pool, err);
    if (st == APR_SUCCESS && answer->http->len == 0) {
        st = refuse(err, "certificate", url, "is empty");
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
        return refuse(err, "order", order->url, "has no certificate");
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
