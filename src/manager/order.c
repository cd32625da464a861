/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/order.h"

#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/order.h"
#include "base/json.h"
#include "base/log.h"
#include "challenge/challenge.h"
#include "crypto/bundle.h"
#include "crypto/csr.h"
#include "manager/ledger.h"

#define KINDS_MAX 8                                 /* challenge kinds tried for one name */
#define SAVED_SUFFIX "+order"
#define SAVED_VERSION 1                             /* layout of the "+order" record */
#define BUSY_RETRY apr_time_from_msec(500)          /* another process has the name's lock */
#define AHEAD_MAX apr_time_from_sec(30)             /* a certificate of the near future is waited for */
#define CANCELLED_RETRY apr_time_from_sec(1)
#define ASK_AGAIN apr_time_from_sec(10)             /* a validation asked for by a child that is gone */
#define ASKED_STEP apr_time_from_msec(250)          /* between two looks at that */
#define INTERRUPTED_RETRY apr_time_from_sec(15)     /* the CA failed in the middle of an order */
#define INTERRUPTIONS_MAX 3                         /* of one order; then it is a failure of the name */

/** One order being worked on. */
typedef struct job_t {
    const manager_order_context_t *context;
    const manager_order_task_t *task;
    const manager_policy_name_t *name;
    char cache_key[MANAGER_POLICY_CACHE_KEY_SIZE];      /* of the certificate */
    const char *saved_key;              /* of the private "+order" record */
    manager_ledger_t ledger;
    apr_interval_time_t lifetime;       /* of the certificate in service, 0: none */
    apr_time_t started;
    EVP_PKEY *key;                      /* of the certificate being ordered */
    acme_order_t *order;
    const char *asked;                  /* URL of the challenge the CA was told to validate, NULL: none */
    apr_time_t asked_at;
    const char *asked_type;
    const char *asked_token;
    const char *challenge;              /* the type that worked, NULL: none was needed */
    int funded;                         /* an order of the budget is in hand */
    int damaged;                        /* the file in the cache is no good at any time */
    int under_way;                      /* the CA has answered about this order in this run */
    int interruptions;                  /* runs before this one that the CA did not let end */
    manager_order_scope_t scope;
    apr_pool_t *pool;
} job_t;

static apr_time_t now_of(const job_t *job)
{
    return job->context->now();
}

static const base_stop_t *stop_of(const job_t *job)
{
    return acme_client_stop(acme_account_client(job->context->account));
}

static const acme_client_config_t *ca_of(const manager_order_context_t *context)
{
    return acme_client_config(acme_account_client(context->account));
}

/* --- What is there -------------------------------------------------------- */

/* Read and judge the certificate of a name. A miss fills err too, quietly.
 * @param damaged set when the file is bad for another reason than its dates */
static apr_status_t load_certificate(crypto_bundle_t **bundle, int *damaged,
                                     const manager_order_context_t *context,
                                     const manager_policy_name_t *name, apr_pool_t *pool,
                                     base_error_t *err)
{
    apr_time_t now = context->now();
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    char *data = NULL;
    apr_size_t len = 0;
    apr_status_t rv = cache_get(context->cache, AUTOCERT_CACHE_SHARED, manager_policy_cache_key(name, key),
                                &data, &len, pool);

    if (APR_STATUS_IS_ENOENT(rv) || rv == APR_NOTFOUND)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_NOTFOUND, "there is none");
    if (rv != APR_SUCCESS) {
        char text[120];
        return base_error_set(err, BASE_ERROR_LOCAL, rv, "cannot be read: %s",
                              apr_strerror(rv, text, sizeof(text)));
    }
    rv = crypto_bundle_parse(bundle, data, len, err);
    OPENSSL_cleanse(data, len);
    *damaged = rv != APR_SUCCESS;
    if (rv == APR_SUCCESS) {
        rv = crypto_bundle_check(*bundle, name->name,
                                 crypto_key_type_is_rsa(manager_policy_key_type(name)), now, err);
        if (rv != APR_SUCCESS) {
            *damaged = (*bundle)->not_before <= now && now <= (*bundle)->not_after;
            crypto_bundle_free(*bundle);
            *bundle = NULL;
        }
    }
    return rv;
}

static const char *saved_key_of(const manager_policy_name_t *name, apr_pool_t *pool)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    return apr_pstrcat(pool, manager_policy_cache_key(name, key), SAVED_SUFFIX, NULL);
}

static int has_saved(const manager_order_context_t *context, const manager_policy_name_t *name,
                     apr_pool_t *pool)
{
    autocert_cache_stat_t st;

    return cache_stat(context->cache, AUTOCERT_CACHE_PRIVATE, saved_key_of(name, pool), &st, pool)
           == APR_SUCCESS;
}

/* Who was killed between storing a certificate and forgetting its order left the order behind, and
 * its private key. Whoever holds the lock will forget it. */
static void forget_finished(const manager_order_context_t *context, const manager_policy_name_t *name,
                            apr_pool_t *pool)
{
    cache_lock_t *lock = NULL;

    if (cache_lock(context->cache, name->name, &lock) != APR_SUCCESS)
        return;
    cache_remove(context->cache, AUTOCERT_CACHE_PRIVATE, saved_key_of(name, pool), pool);
    cache_unlock(lock);
}

void manager_order_look(const manager_order_context_t *context, const manager_policy_name_t *name,
                        manager_order_result_t *result, apr_pool_t *pool)
{
    crypto_bundle_t *bundle = NULL;
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    manager_ledger_t ledger;
    base_error_t err;
    apr_time_t now = context->now();

    memset(result, 0, sizeof(*result));
    base_error_clear(&err);
    result->saved = has_saved(context, name, pool);
    manager_ledger_load(&ledger, context->cache, manager_policy_cache_key(name, key), pool);
    result->visited = ledger.visited;
    if (load_certificate(&bundle, &result->damaged, context, name, pool, &err) == APR_SUCCESS) {
        result->not_before = bundle->not_before;
        result->not_after = bundle->not_after;
        result->next = manager_policy_renew_at(name, bundle->not_before, bundle->not_after);
        /* What a test CA issued is good for nobody once another CA is configured. */
        if (ledger.test && strcmp(ledger.ca, ca_of(context)->directory_url) != 0)
            result->next = now;
        crypto_bundle_free(bundle);
    }
    else if (err.status != APR_NOTFOUND) {
        base_log(BASE_LOG_WARNING, "AC0301", name->name,
                 "the certificate in the cache cannot serve: %s; a new one is obtained", err.detail);
    }
    if (result->next <= now && ledger.next_try > now) {
        result->next = ledger.next_try;
        result->problem = ledger.problem;
    }
    else if (result->next > now && result->saved) {
        result->saved = 0;
        forget_finished(context, name, pool);
    }
}

/* --- The saved order: what lets the next child go on ----------------------- */

static void forget_saved(job_t *job)
{
    cache_remove(job->context->cache, AUTOCERT_CACHE_PRIVATE, job->saved_key, job->pool);
}

static apr_status_t save_order(job_t *job, base_error_t *err)
{
    acme_account_t *account = job->context->account;
    char *pem = NULL, text[120];
    const char *json;
    apr_size_t len = 0;
    apr_status_t rv = crypto_key_write(&pem, &len, job->key, job->pool, err);

    if (rv != APR_SUCCESS)
        return rv;
    json = base_json_dump(json_pack("{s:i,s:s,s:s,s:s,s:s#,s:s*,s:s*,s:s*,s:I,s:i}", "v", SAVED_VERSION,
                                    "ca", ca_of(job->context)->directory_url,
                                    "account", acme_account_url(account, job->pool),
                                    "order", job->order->url, "key", pem, (int)len,
                                    "asked", job->asked, "type", job->asked_type,
                                    "token", job->asked_token, "asked_at",
                                    (json_int_t)apr_time_sec(job->asked_at),
                                    "interruptions", job->interruptions), job->pool);
    if (json == NULL)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_ENOMEM, "the order cannot be saved");
    rv = cache_put(job->context->cache, AUTOCERT_CACHE_PRIVATE, job->saved_key, json, strlen(json),
                   job->pool);
    OPENSSL_cleanse((char *)json, strlen(json));
    if (rv != APR_SUCCESS)
        return base_error_set(err, BASE_ERROR_LOCAL, rv, "the order cannot be saved in the cache: %s",
                              apr_strerror(rv, text, sizeof(text)));
    return APR_SUCCESS;
}

/* The key and URL of a saved order of this CA and account, or NULL. */
static const char *load_saved(job_t *job)
{
    acme_account_t *account = job->context->account;
    const char *url = NULL, *account_url = acme_account_url(account, job->pool);
    char *data = NULL;
    apr_size_t len = 0;
    json_t *json;

    if (cache_get(job->context->cache, AUTOCERT_CACHE_PRIVATE, job->saved_key, &data, &len,
                  job->pool) != APR_SUCCESS)
        return NULL;
    json = base_json_parse_object(data, len, job->pool);
    OPENSSL_cleanse(data, len);
    if (base_json_integer(json, "v", 0) == SAVED_VERSION) {
        const char *ca = base_json_string(json, "ca"), *owner = base_json_string(json, "account");
        const char *pem = base_json_string(json, "key");

        url = base_json_string(json, "order");
        if (ca == NULL || owner == NULL || pem == NULL || url == NULL || account_url == NULL
            || strcmp(ca, ca_of(job->context)->directory_url) != 0
            || strcmp(owner, account_url) != 0
            || crypto_key_read(&job->key, pem, strlen(pem), NULL) != APR_SUCCESS
            || !crypto_key_is(job->key, manager_policy_key_type(job->name)))
            url = NULL;
        job->asked = url != NULL ? base_json_string(json, "asked") : NULL;
        job->asked_type = job->asked != NULL ? base_json_string(json, "type") : NULL;
        job->asked_token = job->asked != NULL ? base_json_string(json, "token") : NULL;
        job->asked_at = apr_time_from_sec(base_json_integer(json, "asked_at", 0));
        job->interruptions = (int)base_json_integer(json, "interruptions", 0);
    }
    if (url == NULL) {
        EVP_PKEY_free(job->key);
        job->key = NULL;
    }
    return url;
}

/* An answer that a child left published when it was stopped, of a challenge that is over now. */
static void withdraw_left(job_t *job)
{
    const challenge_kind_t *kind = job->asked_type != NULL ? challenge_find(job->asked_type) : NULL;
    challenge_task_t task;

    if (kind == NULL || job->asked_token == NULL)
        return;
    memset(&task, 0, sizeof(task));
    task.cache = job->context->cache;
    task.name = job->name->name;
    task.token = job->asked_token;
    kind->withdraw(&task, job->pool);
    job->asked_type = job->asked_token = NULL;
}

/* Non-zero when an order can still end well; CAs need not say of one that ran out that it is invalid. */
static int is_of_use(const acme_order_t *order, apr_time_t now)
{
    if (order->status == ACME_ORDER_PENDING || order->status == ACME_ORDER_READY)
        return order->expires == 0 || order->expires > now;
    return order->status != ACME_ORDER_INVALID;
}

/* Go on with a saved order when the CA still has a use for it. */
static apr_status_t resume_order(job_t *job, base_error_t *err)
{
    const char *url = load_saved(job);
    apr_status_t rv;

    if (url == NULL)
        return APR_NOTFOUND;
    rv = acme_order_fetch(&job->order, job->context->account, url, job->pool, err);
    if (rv == APR_SUCCESS && is_of_use(job->order, now_of(job))) {
        job->under_way = 1;
        base_log(BASE_LOG_INFO, "AC0111", job->name->name, "going on with the order %s", url);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS && err->kind != BASE_ERROR_GONE && err->kind != BASE_ERROR_OPERATOR)
        return rv;
    base_log(BASE_LOG_INFO, "AC0112", job->name->name,
             "the saved order %s is of no use any more; a new one is placed", url);
    base_error_clear(err);
    withdraw_left(job);
    forget_saved(job);
    EVP_PKEY_free(job->key);
    job->key = NULL;
    job->order = NULL;
    return APR_NOTFOUND;
}

/* Take an order from the CA's budget; none left is a matter of the CA, not of the name. */
static apr_status_t take_budget(job_t *job, base_error_t *err)
{
    const manager_order_context_t *context = job->context;
    int everybody = 1;
    apr_time_t when = 0;
    char text[120];
    apr_status_t rv;

    if (job->funded) {
        job->funded = 0;
        return APR_SUCCESS;
    }
    if (job->task->demand)
        rv = manager_budget_take_demand(context->cache, ca_of(context)->id, &context->rate,
                                        job->name->name, now_of(job), &when, &everybody, stop_of(job),
                                        job->pool);
    else
        rv = manager_budget_take(context->cache, ca_of(context)->id, &context->rate, now_of(job), &when,
                                 stop_of(job), job->pool);
    if (rv == APR_SUCCESS)
        return rv;
    if (rv == APR_EAGAIN) {
        job->scope = everybody ? MANAGER_ORDER_SCOPE_CA : MANAGER_ORDER_SCOPE_DEMAND;
        base_error_set(err, BASE_ERROR_WAIT, rv, "the order budget of %d per %" APR_TIME_T_FMT
                       " s is used up", context->rate.orders, apr_time_sec(context->rate.period));
        err->retry_at = when;
        return rv;
    }
    if (rv == APR_EINTR)
        return base_error_set(err, BASE_ERROR_CANCELLED, rv, "stopped");
    if (rv == APR_EBUSY)
        return base_error_set(err, BASE_ERROR_BUSY, rv, "the order budget is locked");
    return base_error_set(err, BASE_ERROR_LOCAL, rv, "the order budget cannot be kept in the cache: %s",
                          apr_strerror(rv, text, sizeof(text)));
}

static void return_budget(job_t *job)
{
    const manager_order_context_t *context = job->context;

    if (job->task->demand)
        manager_budget_return_demand(context->cache, ca_of(context)->id, &context->rate, job->name->name,
                                     now_of(job), stop_of(job), job->pool);
    else
        manager_budget_return(context->cache, ca_of(context)->id, &context->rate, now_of(job),
                              stop_of(job), job->pool);
}

static apr_status_t place_order(job_t *job, base_error_t *err)
{
    const manager_order_context_t *context = job->context;
    apr_status_t rv;

    if ((rv = take_budget(job, err)) != APR_SUCCESS)
        return rv;
    EVP_PKEY_free(job->key);
    job->key = NULL;
    job->asked = job->asked_type = job->asked_token = NULL;
    job->interruptions = 0;
    rv = crypto_key_generate(&job->key, manager_policy_key_type(job->name), err);
    if (rv == APR_SUCCESS)
        rv = acme_order_create(&job->order, context->account, job->name->name, job->pool, err);
    if (rv != APR_SUCCESS) {
        /* No answer: the CA counted nothing. Cut off by a stop it may have. */
        if (err->http_status == 0 && err->kind != BASE_ERROR_CANCELLED)
            return_budget(job);
        return rv;
    }
    job->under_way = 1;
    return save_order(job, err);
}

/* --- Authorizations -------------------------------------------------------- */

/* The kinds to try, best first. The one that worked last time leads; after a failure each
 * later try uses one kind, in turn: CAs count failed validations. */
static int choose_kinds(const job_t *job, const challenge_kind_t *kinds[KINDS_MAX])
{
    const apr_array_header_t *wanted = job->name->settings->challenges;
    int i, n = 0;

    for (i = 0; i < wanted->nelts && n < KINDS_MAX; i++) {
        const challenge_kind_t *kind = APR_ARRAY_IDX(wanted, i, const challenge_kind_t *);

        if (n > 0 && strcmp(kind->type, job->ledger.challenge) == 0) {
            memmove(&kinds[1], &kinds[0], n * sizeof(kinds[0]));
            kinds[0] = kind;
        }
        else {
            kinds[n] = kind;
        }
        n++;
    }
    if (job->ledger.failures > 0 && n > 1) {
        kinds[0] = kinds[job->ledger.failures % n];
        n = 1;
    }
    return n;
}

/* A child that is gone may have asked for this validation already, and there are CAs that start a
 * second one for each time they are asked: the late one would meet a challenge that is answered no
 * more, and end the order. So it is given time first; *needed says whether to ask now. */
static apr_status_t await_asked(job_t *job, const char *url, const acme_order_challenge_t *challenge,
                                int *needed, base_error_t *err)
{
    apr_status_t rv;

    *needed = 0;
    while (job->asked != NULL && strcmp(job->asked, challenge->url) == 0
           && now_of(job) >= job->asked_at && now_of(job) - job->asked_at < ASK_AGAIN) {
        acme_order_authorization_t *authorization = NULL;
        const acme_order_challenge_t *latest;

        if (base_stop_wait(stop_of(job), ASKED_STEP) != APR_SUCCESS)
            return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "stopped");
        rv = acme_order_authorization(&authorization, job->context->account, url, job->pool, err);
        if (rv != APR_SUCCESS)
            return rv;
        latest = acme_order_challenge_find(authorization, challenge->type);
        if (authorization->status != ACME_ORDER_PENDING || latest == NULL
            || latest->status != ACME_ORDER_PENDING)
            return APR_SUCCESS;
    }
    *needed = 1;
    job->asked = challenge->url;
    job->asked_type = challenge->type;
    job->asked_token = challenge->token;
    job->asked_at = now_of(job);
    return save_order(job, err);
}

/* Tell the CA to validate a challenge, once. */
static apr_status_t ask(job_t *job, const char *url, const acme_order_challenge_t *challenge,
                        base_error_t *err)
{
    int needed = 0;
    apr_status_t rv = APR_SUCCESS;

    if (challenge->status == ACME_ORDER_PENDING)
        rv = await_asked(job, url, challenge, &needed, err);
    if (rv == APR_SUCCESS && needed)
        rv = acme_order_challenge_accept(job->context->account, challenge->url, job->pool, err);
    return rv;
}

/* Publish, trigger, wait, withdraw: one challenge. An answer stays published when this child
 * is stopped in between: the CA may still come for it, and the order is resumed. */
static apr_status_t prove(job_t *job, const char *url, const challenge_kind_t *kind,
                          const acme_order_challenge_t *challenge, base_error_t *err)
{
    acme_account_t *account = job->context->account;
    challenge_task_t task;
    apr_status_t rv;

    task.cache = job->context->cache;
    task.name = job->name->name;
    task.token = challenge->token;
    task.key_authorization = acme_account_key_authorization(account, challenge->token, job->pool);
    task.now = now_of(job);
    if (task.key_authorization == NULL)
        return base_error_set(err, BASE_ERROR_LOCAL, APR_EGENERAL, "the account has no key");
    if ((rv = kind->publish(&task, job->pool, err)) != APR_SUCCESS)
        return rv;
    rv = ask(job, url, challenge, err);
    if (rv == APR_SUCCESS)
        rv = acme_order_authorization_wait(account, url, kind->type, job->pool, err);
    if (rv == APR_SUCCESS || err->kind != BASE_ERROR_CANCELLED)
        kind->withdraw(&task, job->pool);
    if (rv == APR_SUCCESS)
        job->challenge = kind->type;
    return rv;
}

/* Make one authorization valid with a kind. APR_ENOTIMPL when the CA does not offer it. */
static apr_status_t authorize_one(job_t *job, const char *url, const challenge_kind_t *kind,
                                  base_error_t *err)
{
    acme_order_authorization_t *authorization = NULL;
    const acme_order_challenge_t *challenge;
    apr_status_t rv = acme_order_authorization(&authorization, job->context->account, url,
                                               job->pool, err);

    if (rv != APR_SUCCESS || authorization->status == ACME_ORDER_VALID)
        return rv;
    if (authorization->status == ACME_ORDER_INVALID)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL,
                              "the CA holds the authorization for invalid");
    if (strcmp(authorization->identifier, job->name->name) != 0)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_EGENERAL,
                              "the CA asks to prove another name, %s", authorization->identifier);
    challenge = acme_order_challenge_find(authorization, kind->type);
    if (challenge == NULL)
        return base_error_set(err, BASE_ERROR_VALIDATION, APR_ENOTIMPL,
                              "the CA does not offer %s for it", kind->type);
    rv = prove(job, url, kind, challenge, err);
    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_VALIDATION)
        acme_order_authorization_deactivate(job->context->account, url, job->pool);
    return rv;
}

static apr_status_t authorize_all(job_t *job, const challenge_kind_t *kind, base_error_t *err)
{
    int i;

    for (i = 0; i < job->order->authorizations->nelts; i++) {
        const char *url = APR_ARRAY_IDX(job->order->authorizations, i, const char *);
        apr_status_t rv = authorize_one(job, url, kind, err);

        if (rv != APR_SUCCESS)
            return rv;
    }
    return acme_order_wait_ready(&job->order, job->context->account, job->pool, err);
}

/* An order whose authorizations are all valid: try one kind after the other. A failed
 * validation ends the order at most CAs, so the next kind has a new one. */
static apr_status_t get_ready(job_t *job, base_error_t *err)
{
    const challenge_kind_t *kinds[KINDS_MAX];
    int i, n = choose_kinds(job, kinds);
    base_error_t first;
    apr_status_t rv = APR_SUCCESS;

    base_error_clear(&first);
    for (i = 0; i < n; i++) {
        if (job->order == NULL && (rv = place_order(job, err)) != APR_SUCCESS)
            return rv;
        if (job->order->status != ACME_ORDER_PENDING)
            return APR_SUCCESS;
        rv = authorize_all(job, kinds[i], err);
        if (rv == APR_SUCCESS || err->kind != BASE_ERROR_VALIDATION)
            return rv;
        base_log(BASE_LOG_INFO, "AC0113", job->name->name, "%s failed: %s %s; %s", kinds[i]->type,
                 err->type, err->detail, i + 1 < n ? kinds[i + 1]->type : "no other kind is tried now");
        if (rv != APR_ENOTIMPL) {       /* the same order can go on with a kind that is offered */
            forget_saved(job);
            job->order = NULL;
        }
        if (first.kind == BASE_ERROR_NONE || first.status == APR_ENOTIMPL) {
            first = *err;
            base_error_set(&first, err->kind, rv, "%s %s", kinds[i]->type, err->detail);
            apr_cpystrn(first.type, err->type, sizeof(first.type));
        }
    }
    *err = first;
    if (first.kind == BASE_ERROR_NONE)
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EGENERAL, "no kind of challenge is configured");
    return rv;
}

/* --- The certificate ------------------------------------------------------- */

static apr_status_t finalize(job_t *job, base_error_t *err)
{
    unsigned char *csr = NULL;
    apr_size_t len = 0;
    apr_status_t rv = crypto_csr_der(&csr, &len, job->key, job->name->name,
                                     job->name->settings->extensions, job->pool, err);

    if (rv == APR_SUCCESS)
        rv = acme_order_finalize(&job->order, job->context->account, csr, len, job->pool, err);
    return rv;
}

/* A certificate that begins in the future would be refused by every reader. */
static apr_status_t wait_until_valid(job_t *job, const crypto_bundle_t *bundle, base_error_t *err)
{
    apr_interval_time_t ahead = bundle->not_before - now_of(job);

    if (ahead <= 0)
        return APR_SUCCESS;
    if (ahead > AHEAD_MAX) {
        base_error_set(err, BASE_ERROR_WAIT, APR_EGENERAL,
                       "the certificate begins %" APR_TIME_T_FMT " s from now: is the clock right?",
                       apr_time_sec(ahead));
        err->retry_at = bundle->not_before;
        return APR_EGENERAL;
    }
    if (base_stop_wait(stop_of(job), ahead + apr_time_from_sec(1)) != APR_SUCCESS)
        return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "stopped");
    return APR_SUCCESS;
}

/* What is about to be overwritten may be somebody's only copy of a key. */
static void set_aside(job_t *job)
{
    cache_t *cache = job->context->cache;
    char *data = NULL;
    apr_size_t len = 0;

    if (!job->damaged || cache_get(cache, AUTOCERT_CACHE_SHARED, job->cache_key, &data, &len, job->pool)
                             != APR_SUCCESS)
        return;
    cache_put(cache, AUTOCERT_CACHE_PRIVATE, apr_pstrcat(job->pool, job->cache_key, "+damaged", NULL),
              data, len, job->pool);
    OPENSSL_cleanse(data, len);
}

static apr_status_t download_and_store(job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    const manager_order_context_t *context = job->context;
    char *pem = NULL, text[120];
    apr_size_t len = 0;
    apr_status_t rv = acme_order_certificate(&pem, &len, job->order, context->account, job->pool, err);

    if (rv != APR_SUCCESS)
        return rv;
    rv = crypto_bundle_from_ca(bundle, job->key, pem, len, job->name->name, now_of(job), err);
    if (rv != APR_SUCCESS) {
        /* The same order would bring the same bytes again, and so may a new one: a failure of this
         * name, which waits longer each time. */
        forget_saved(job);
        if (err->kind == BASE_ERROR_CA_DOWN)
            err->kind = BASE_ERROR_VALIDATION;
        return rv;
    }
    if ((rv = wait_until_valid(job, *bundle, err)) != APR_SUCCESS)
        return rv;
    if ((rv = crypto_bundle_write(*bundle, &pem, &len, job->pool, err)) != APR_SUCCESS)
        return rv;
    set_aside(job);
    rv = cache_put(context->cache, AUTOCERT_CACHE_SHARED, job->cache_key, pem, len, job->pool);
    if (rv != APR_SUCCESS)
        return base_error_set(err, BASE_ERROR_LOCAL, rv, "the certificate cannot be stored in the cache: %s",
                              apr_strerror(rv, text, sizeof(text)));
    return APR_SUCCESS;
}

/* First the set, then the version: a handshake that is woken looks into the set. */
void manager_order_publish(const manager_order_context_t *context, const manager_policy_name_t *name)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];

    if (context->present != NULL)
        shared_names_add(context->present, manager_policy_cache_key(name, key));
    shared_versions_raise(context->versions, name->name);
}

/* --- The story -------------------------------------------------------------- */

static apr_status_t obtain_once(job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    apr_status_t rv;

    if ((rv = acme_account_ensure(job->context->account, err)) != APR_SUCCESS) {
        job->scope = MANAGER_ORDER_SCOPE_CA;
        return rv;
    }
    rv = resume_order(job, err);
    if (rv == APR_NOTFOUND)
        rv = place_order(job, err);
    if (rv == APR_SUCCESS)
        rv = get_ready(job, err);
    if (rv == APR_SUCCESS && job->challenge == NULL)
        withdraw_left(job);
    if (rv == APR_SUCCESS && job->order->status == ACME_ORDER_VALID)
        return download_and_store(job, bundle, err);
    if (rv == APR_SUCCESS)
        rv = finalize(job, err);
    if (rv == APR_SUCCESS)
        rv = download_and_store(job, bundle, err);
    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_VALIDATION)
        forget_saved(job);
    return rv;
}

/* A CA that lost the account or the order gets both anew, once. */
static apr_status_t obtain(job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    apr_status_t rv = obtain_once(job, bundle, err);

    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_GONE) {
        base_log(BASE_LOG_WARNING, "AC0114", job->name->name, "the CA has lost the account or the "
                 "order: %s; both are made anew", err->detail);
        forget_saved(job);
        EVP_PKEY_free(job->key);
        job->key = NULL;
        job->order = NULL;
        base_error_clear(err);
        rv = obtain_once(job, bundle, err);
    }
    return rv;
}

static void report_success(job_t *job, const crypto_bundle_t *bundle, manager_order_result_t *result)
{
    char expires[16], renewal[16], how[80];
    const acme_client_config_t *ca = ca_of(job->context);

    result->answered = 1;
    result->not_before = bundle->not_before;
    result->not_after = bundle->not_after;
    result->next = manager_policy_renew_at(job->name, bundle->not_before, bundle->not_after);
    manager_ledger_succeed(&job->ledger, ca->directory_url, job->context->test,
                           job->challenge ? job->challenge : job->ledger.challenge);
    if (job->task->demand)
        job->ledger.visited = now_of(job);
    result->visited = job->ledger.visited;
    manager_ledger_store(&job->ledger, job->context->cache, job->cache_key, job->pool);
    /* Last: who reads the certificate now reads in the ledger, too, whose it is. */
    manager_order_publish(job->context, job->name);
    forget_saved(job);
    apr_snprintf(how, sizeof(how), "%s%s", job->challenge ? " by " : "",
                 job->challenge ? job->challenge : "");
    base_log(BASE_LOG_NOTICE, "AC0110", job->name->name,
             "%s from %s%s in %.1f s, live, expires %s, renewal about %s",
             job->lifetime > 0 ? "renewed" : "obtained", ca->name, how,
             (double)(now_of(job) - job->started) / APR_USEC_PER_SEC,
             base_log_date(expires, apr_time_sec(bundle->not_after)),
             base_log_date(renewal, apr_time_sec(result->next)));
}

/* In the last tenth of its life a certificate that cannot be renewed is an emergency. */
static int failure_level(const manager_order_result_t *result, apr_time_t now)
{
    apr_interval_time_t lifetime = result->not_after - result->not_before;

    return result->not_after > 0 && result->not_after - now < lifetime / 10 ? BASE_LOG_CRIT
                                                                              : BASE_LOG_ERR;
}

static void report_failure(job_t *job, const base_error_t *err, manager_order_result_t *result)
{
    static base_log_limit_t limit;      /* of what strangers cause */
    apr_time_t now = now_of(job);
    apr_uint32_t random = 0;
    char next[32], good[64], date[16], others[BASE_LOG_OTHERS_SIZE] = "";

    apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    manager_ledger_fail(&job->ledger, err, job->lifetime, now, random);
    manager_ledger_store(&job->ledger, job->context->cache, job->cache_key, job->pool);
    result->next = job->ledger.next_try;
    if (result->not_after > now)
        apr_snprintf(good, sizeof(good), "the old certificate is good until %s",
                     base_log_date(date, apr_time_sec(result->not_after)));
    else
        apr_cpystrn(good, "no certificate of it is in service", sizeof(good));
    if (job->task->demand && !base_log_limit(&limit, apr_time_sec(now), 1, others))
        return;
    base_log(failure_level(result, now), "AC0120", job->name->name,
             "not %s from %s: %s%s%s%s; %s; next try %s", job->lifetime > 0 ? "renewed" : "obtained",
             ca_of(job->context)->name, err->type, err->type[0] ? ": " : "", err->detail, others, good,
             base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now)));
}

/* Strangers cause these, so one line a second is enough. */
static void report_refusal(const job_t *job, const base_error_t *err, const manager_order_result_t *result)
{
    static base_log_limit_t limit;
    char others[BASE_LOG_OTHERS_SIZE], next[32];

    if (base_log_limit(&limit, apr_time_sec(now_of(job)), 1, others))
        base_log(result->not_after > 0 ? BASE_LOG_WARNING : BASE_LOG_INFO, "AC0150", job->name->name,
                 "not ordered: %s%s; the answer holds until %s", err->detail, others,
                 base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now_of(job))));
}

/* The CA answered, but not in a way that let the order end. Non-zero while it is soon tried again: an order
 * that stays stuck is a failure of its name, which waits longer each time and then goes on with it. */
static int is_soon_tried_again(job_t *job, const base_error_t *err)
{
    base_error_t unsaved;

    if (job->order == NULL)
        return 1;
    if (err->retry_at > now_of(job) + INTERRUPTED_RETRY || job->interruptions >= INTERRUPTIONS_MAX)
        return 0;
    job->interruptions++;
    save_order(job, &unsaved);
    return 1;
}

/* Some problems concern whoever asks the CA, others nobody but this attempt. */
static void settle_problem(job_t *job, base_error_t *err, manager_order_result_t *result)
{
    apr_time_t now = now_of(job);
    int stuck = err->kind == BASE_ERROR_CA_DOWN && job->under_way;

    if (stuck && !is_soon_tried_again(job, err))
        err->kind = BASE_ERROR_WAIT;
    result->problem = *err;
    if (stuck && err->kind == BASE_ERROR_CA_DOWN) {
        /* One order that is stuck says nothing about the others; if the CA is down, going on with
         * this one will find out. */
        result->next = now + INTERRUPTED_RETRY;
        base_log(BASE_LOG_WARNING, "AC0122", job->name->name, "the CA failed in the middle of the order: "
                 "%s; the order goes on in %" APR_TIME_T_FMT " s", err->detail,
                 apr_time_sec(INTERRUPTED_RETRY));
        return;
    }
    if (!stuck && (err->kind == BASE_ERROR_CA_DOWN || err->http_status == 503))
        job->scope = MANAGER_ORDER_SCOPE_CA;
    if (err->kind == BASE_ERROR_CANCELLED || err->kind == BASE_ERROR_BUSY) {
        result->next = now + (err->kind == BASE_ERROR_BUSY ? BUSY_RETRY : CANCELLED_RETRY);
    }
    else if (err->kind == BASE_ERROR_REFUSED) {
        result->next = err->retry_at;
        report_refusal(job, err, result);
    }
    else if (job->scope != MANAGER_ORDER_SCOPE_NAME) {
        result->scope = job->scope;
        result->next = err->retry_at;
    }
    else {
        result->answered = job->under_way;
        report_failure(job, err, result);
    }
}

/* May the name have a certificate at all? Endpoints are asked only now that one is needed. */
static apr_status_t check_policy(const job_t *job, base_error_t *err)
{
    apr_time_t until = 0;
    apr_status_t rv = manager_policy_confirm(job->name, job->context->ask, job->task->client, now_of(job),
                                             &until, job->pool, err);

    if (rv != APR_SUCCESS)
        err->retry_at = until;
    return rv;
}

/* Under the name's lock. */
static void run_locked(job_t *job, manager_order_result_t *result)
{
    const manager_order_context_t *context = job->context;
    crypto_bundle_t *bundle = NULL;
    base_error_t err;
    char text[120];
    apr_status_t rv;

    manager_order_look(context, job->name, result, job->pool);
    if (result->next > now_of(job)) {
        /* Somebody else was faster, or has just failed: every child may look at the cache anew. */
        if (result->not_after > 0)
            manager_order_publish(context, job->name);
        else
            shared_versions_raise(context->versions, job->name->name);
        if (result->problem.kind == BASE_ERROR_NONE)
            forget_saved(job);
        return;
    }
    manager_ledger_load(&job->ledger, context->cache, job->cache_key, job->pool);
    job->lifetime = result->not_after - result->not_before;
    job->damaged = result->damaged;
    base_error_clear(&err);
    if ((rv = check_policy(job, &err)) == APR_SUCCESS
        && (rv = cache_probe_write(context->cache, job->cache_key, job->pool)) != APR_SUCCESS)
        base_error_set(&err, BASE_ERROR_LOCAL, rv, "the cache cannot be written, so nothing is ordered: %s",
                       apr_strerror(rv, text, sizeof(text)));
    if (rv == APR_SUCCESS)
        rv = obtain(job, &bundle, &err);
    if (rv == APR_SUCCESS)
        report_success(job, bundle, result);
    else
        settle_problem(job, &err, result);
    crypto_bundle_free(bundle);
    EVP_PKEY_free(job->key);
}

/* Without the lock two processes could order the same name, so nobody does. The ledger is
 * written by the lock's holder only, so each time counts as the first failure. */
static void settle_unlocked(job_t *job, apr_status_t status, manager_order_result_t *result)
{
    manager_ledger_t ledger;
    apr_time_t now = now_of(job);
    char text[120], next[32];

    memset(&ledger, 0, sizeof(ledger));
    manager_order_look(job->context, job->name, result, job->pool);
    base_error_set(&result->problem, BASE_ERROR_LOCAL, status, "its lock in the cache cannot be taken: %s",
                   apr_strerror(status, text, sizeof(text)));
    manager_ledger_fail(&ledger, &result->problem, result->not_after - result->not_before, now, 0);
    result->next = ledger.next_try;
    base_log(failure_level(result, now), "AC0121", job->name->name, "not %s: %s; next try %s",
             result->not_after > 0 ? "renewed" : "obtained", result->problem.detail,
             base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now)));
}

void manager_order_run(const manager_order_context_t *context, const manager_order_task_t *task,
                       manager_order_result_t *result, apr_pool_t *pool)
{
    job_t job;
    cache_lock_t *lock = NULL;
    apr_status_t rv;

    memset(result, 0, sizeof(*result));
    memset(&job, 0, sizeof(job));
    job.context = context;
    job.task = task;
    job.name = task->name;
    job.pool = pool;
    job.started = context->now();
    manager_policy_cache_key(job.name, job.cache_key);
    job.saved_key = saved_key_of(job.name, pool);
    job.funded = task->funded;
    rv = cache_lock(context->cache, job.name->name, &lock);
    if (rv == APR_SUCCESS) {
        run_locked(&job, result);
        cache_unlock(lock);
    }
    else if (rv == APR_EBUSY) {
        base_error_set(&result->problem, BASE_ERROR_BUSY, rv, "another process works on it");
        result->next = context->now() + BUSY_RETRY;
    }
    else {
        settle_unlocked(&job, rv, result);
    }
    if (job.funded)
        return_budget(&job);
    result->saved = result->problem.kind != BASE_ERROR_NONE && has_saved(context, job.name, pool);
}

void manager_order_note_visit(const manager_order_context_t *context, const manager_policy_name_t *name,
                              apr_time_t visited, apr_pool_t *pool)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    cache_lock_t *lock = NULL;
    manager_ledger_t ledger;

    if (cache_lock(context->cache, name->name, &lock) != APR_SUCCESS)
        return;
    manager_ledger_load(&ledger, context->cache, manager_policy_cache_key(name, key), pool);
    ledger.visited = visited;
    manager_ledger_store(&ledger, context->cache, key, pool);
    cache_unlock(lock);
}
