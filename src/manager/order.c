/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/order.h"

#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "acme/order.h"
#include "acme/order_list.h"
#include "base/identifier.h"
#include "base/log.h"
#include "base/step.h"
#include "crypto/bundle.h"
#include "crypto/cert.h"
#include "crypto/csr.h"
#include "manager/authorize.h"
#include "manager/job.h"
#include "manager/ledger.h"
#include "manager/renewal.h"
#include "manager/saved.h"

#define BUSY_RETRY apr_time_from_msec(500)          /* another process has the name's lock */
#define AHEAD_MAX apr_time_from_sec(30)             /* a certificate of the near future is waited for */
#define CANCELLED_RETRY apr_time_from_sec(1)
#define INTERRUPTED_RETRY apr_time_from_sec(15)     /* the CA failed in the middle of an order */
#define INTERRUPTIONS_MAX 3                         /* of one order; then it is a failure of the name */
#define UNLOCKED_RETRY apr_time_from_sec(60)        /* the cache gives out no lock */
#define NEXT_TRY_MAX (2 * MANAGER_LEDGER_WAIT_MAX)  /* no next try is later than that */
#define LIFETIME_PART 20                            /* or so much of a short lifetime */

static apr_time_t now_of(const manager_job_t *job)
{
    return job->context->now();
}

static const base_stop_t *stop_of(const manager_job_t *job)
{
    return acme_client_stop(acme_account_client(job->ca->account));
}

static const acme_client_config_t *acme_of(const manager_job_t *job)
{
    return &job->ca->config->acme;
}

static apr_uint32_t random_bits(void)
{
    apr_uint32_t random = 0;

    apr_generate_random_bytes((unsigned char *)&random, sizeof(random));
    return random;
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

/* Does the CA that issued have renewal information, and is it wanted? Unknown counts as yes. */
static int may_ask(const manager_order_context_t *context, int issuer)
{
    const manager_ca_t *ca;

    if (issuer < 0)
        return 0;
    ca = manager_ca_at(context->cas, issuer);
    return !ca->config->acme.no_renewal_info
        && acme_client_has_renewal_info(acme_account_client(ca->account)) != 0;
}

/* When a certificate that is there has to be renewed or asked about. */
static void plan(const manager_order_context_t *context, const manager_policy_name_t *name,
                 const crypto_bundle_t *bundle, const manager_ledger_t *ledger,
                 manager_order_result_t *result)
{
    manager_renewal_plan_t plan;
    apr_time_t now = context->now();
    int ours = manager_ledger_is_about(ledger, bundle);

    result->issuer = ours ? manager_ca_find(context->configs, ledger->ca) : -1;
    manager_renewal_plan(&plan, name, bundle, ledger, may_ask(context, result->issuer), now);
    result->due = plan.due;
    result->ask = plan.ask;
    /* What a test CA issued is good for nobody once that CA is not configured any more. */
    if (ours && ledger->test && result->issuer < 0)
        result->due = now;
    result->next = result->ask > 0 && result->ask < result->due ? result->ask : result->due;
}

/* What cache and ledger say of a name. @param bundle the certificate that can serve, NULL without one */
static void examine(const manager_order_context_t *context, const manager_policy_name_t *name,
                    manager_order_result_t *result, manager_ledger_t *ledger, crypto_bundle_t **bundle,
                    apr_pool_t *pool)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    base_error_t err;
    apr_time_t now = context->now();

    memset(result, 0, sizeof(*result));
    *bundle = NULL;
    base_error_clear(&err);
    result->known = 1;
    result->issuer = -1;
    result->saved = manager_saved_ca(context, name, pool);
    manager_ledger_load(ledger, context->cache, manager_policy_cache_key(name, key), pool);
    manager_ledger_reconfigure(ledger, manager_policy_fingerprint(name->settings, context->configs), now);
    /* Of a clock that was far ahead. */
    if (ledger->next_try > now + NEXT_TRY_MAX)
        ledger->next_try = 0;
    result->visited = ledger->visited;
    result->avoid = manager_ledger_avoid(ledger, context->configs, now);
    if (load_certificate(bundle, &result->damaged, context, name, pool, &err) == APR_SUCCESS) {
        result->not_before = (*bundle)->not_before;
        result->not_after = (*bundle)->not_after;
        plan(context, name, *bundle, ledger, result);
    }
    else if (err.status != APR_NOTFOUND) {
        base_log(BASE_LOG_WARNING, "AC0301", name->name,
                 "the certificate in the cache cannot serve: %s; a new one is obtained", err.detail);
    }
    if (result->due <= now && ledger->next_try > now) {
        result->next = ledger->next_try;
        result->problem = ledger->problem;
    }
}

void manager_order_look(const manager_order_context_t *context, const manager_policy_name_t *name,
                        manager_order_result_t *result, apr_pool_t *pool)
{
    crypto_bundle_t *bundle = NULL;
    manager_ledger_t ledger;

    examine(context, name, result, &ledger, &bundle, pool);
    crypto_bundle_free(bundle);
    if (result->due > context->now() && manager_saved_exists(context, name, pool)) {
        result->saved = -1;
        manager_saved_tidy(context, name, pool);
    }
}

/* --- Placing an order, or going on with one -------------------------------- */

/* Non-zero when an order can still end well; CAs need not say of one that ran out that it is invalid. */
static int is_of_use(const acme_order_t *order, apr_time_t now)
{
    if (order->status == ACME_OBJECT_PENDING || order->status == ACME_OBJECT_READY)
        return order->expires == 0 || order->expires > now;
    return order->status != ACME_OBJECT_INVALID;
}

/* Does the CA know an account of ours, as far as that is known? */
static int has_account(const manager_job_t *job)
{
    return acme_account_url(job->ca->account, job->pool) != NULL;
}

/* Go on with the saved order whose URL is known. */
static apr_status_t resume_known(manager_job_t *job, const char *url, base_error_t *err)
{
    apr_status_t rv = acme_order_fetch(&job->order, job->ca->account, url, job->pool, err);

    if (rv == APR_SUCCESS && is_of_use(job->order, now_of(job))) {
        job->under_way = 1;
        base_log(BASE_LOG_INFO, "AC0111", job->name->name, "going on with the order %s", url);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS && err->kind != BASE_ERROR_GONE && err->kind != BASE_ERROR_OPERATOR)
        return rv;
    if (rv != APR_SUCCESS && !has_account(job))
        return err->status = APR_EGENERAL;      /* the account is lost, too: it comes before a new order */
    base_log(BASE_LOG_INFO, "AC0112", job->name->name,
             "the saved order %s is of no use any more; a new one is placed", url);
    base_error_clear(err);
    manager_authorize_withdraw_left(job);
    manager_saved_forget(job);
    return APR_NOTFOUND;
}

/* An order was about to be placed: does the CA have it? Else its key is good for the next one. */
static apr_status_t resume_unknown(manager_job_t *job, base_error_t *err)
{
    apr_status_t rv = acme_order_list_find(&job->order, job->ca->account, job->name->name, job->placed_at,
                                           job->pool, err);

    if (rv != APR_SUCCESS)
        return rv;
    job->under_way = 1;
    base_log(BASE_LOG_INFO, "AC0115", job->name->name, "found the order %s that was placed "
             "before; it goes on", job->order->url);
    return manager_saved_store(job, err);
}

/* Go on with a saved order when the CA still has a use for it. */
static apr_status_t resume_order(manager_job_t *job, base_error_t *err)
{
    const char *url = NULL;

    if (manager_saved_load(job, &url) != APR_SUCCESS) {
        manager_authorize_withdraw_left(job);
        return APR_NOTFOUND;
    }
    return url != NULL ? resume_known(job, url, err) : resume_unknown(job, err);
}

/* Another thread or process may have been told to leave the CA alone since this one was sent. */
static apr_status_t check_ca(manager_job_t *job, base_error_t *err)
{
    manager_ca_health_t health;

    manager_ca_load(&health, job->ca->config, job->context->cache, now_of(job), job->pool);
    if (health.failures == 0 || health.until <= now_of(job))
        return APR_SUCCESS;
    *err = health.problem;
    job->scope = MANAGER_ORDER_SCOPE_CA;
    return err->status;
}

/* Take an order from the CA's budget; none left is a matter of the CA, not of the name. */
static apr_status_t take_budget(manager_job_t *job, base_error_t *err)
{
    const manager_order_context_t *context = job->context;
    const manager_budget_rate_t *rate = &job->ca->config->rate;
    int everybody = 1;
    apr_time_t when = 0;
    char text[120];
    apr_status_t rv;

    if (job->funded) {
        job->funded = 0;
        return APR_SUCCESS;
    }
    if (job->task->demand)
        rv = manager_budget_take_demand(context->cache, acme_of(job)->id, rate,
                                        job->name->name, now_of(job), &when, &everybody, stop_of(job),
                                        job->pool);
    else
        rv = manager_budget_take(context->cache, acme_of(job)->id, rate, now_of(job), &when,
                                 stop_of(job), job->pool);
    if (rv == APR_SUCCESS)
        return rv;
    if (rv == APR_EAGAIN) {
        job->scope = everybody ? MANAGER_ORDER_SCOPE_CA : MANAGER_ORDER_SCOPE_DEMAND;
        base_error_set(err, BASE_ERROR_WAIT, rv, "the order budget of %d per %" APR_TIME_T_FMT
                       " s is used up", rate->orders, apr_time_sec(rate->period));
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

static void return_budget(manager_job_t *job)
{
    const manager_order_context_t *context = job->context;
    const manager_budget_rate_t *rate = &job->ca->config->rate;

    if (job->task->demand)
        manager_budget_return_demand(context->cache, acme_of(job)->id, rate, job->name->name,
                                     now_of(job), stop_of(job), job->pool);
    else
        manager_budget_return(context->cache, acme_of(job)->id, rate, now_of(job),
                              stop_of(job), job->pool);
}

/* The account may have changed since the certificate that is replaced was issued. */
static const char *choose_replaces(const manager_job_t *job)
{
    const char *account = acme_account_url(job->ca->account, job->pool);

    return account != NULL && strcmp(account, job->ledger.account) == 0 ? job->replaces : NULL;
}

/* The key and the intention are stored before the CA is asked: who is killed in between finds the order
 * again and has its key. */
static apr_status_t place_order(manager_job_t *job, base_error_t *err)
{
    acme_order_request_t wanted = { job->name->name, choose_replaces(job) };
    apr_status_t rv;

    if ((rv = check_ca(job, err)) != APR_SUCCESS || (rv = take_budget(job, err)) != APR_SUCCESS)
        return rv;
    if (job->key == NULL)
        rv = crypto_key_generate(&job->key, manager_policy_key_type(job->name), err);
    job->placed_at = now_of(job);
    if (rv == APR_SUCCESS)
        rv = manager_saved_store(job, err);
    if (rv != APR_SUCCESS) {
        return_budget(job);
        return rv;
    }
    base_step(BASE_STEP_INTENDED);
    job->placing = 1;
    rv = acme_order_create(&job->order, job->ca->account, &wanted, job->pool, err);
    base_step(BASE_STEP_PLACED);
    if (rv != APR_SUCCESS) {
        /* No answer: the CA counted nothing, or it will be found. Cut off by a stop it may have. */
        if (err->http_status == 0 && err->kind != BASE_ERROR_CANCELLED)
            return_budget(job);
        else if (err->http_status != 0)
            manager_saved_forget(job);
        return rv;
    }
    job->placing = 0;
    job->under_way = 1;
    rv = manager_saved_store(job, err);
    base_step(BASE_STEP_SAVED);
    return rv;
}

/* --- The certificate ------------------------------------------------------- */

static apr_status_t finalize(manager_job_t *job, base_error_t *err)
{
    unsigned char *csr = NULL;
    apr_size_t len = 0;
    apr_status_t rv = crypto_csr_der(&csr, &len, job->key, job->name->name,
                                     job->name->settings->extensions, job->pool, err);

    if (rv == APR_SUCCESS)
        rv = acme_order_finalize(&job->order, job->ca->account, csr, len, job->pool, err);
    return rv;
}

/* A certificate that begins in the future would be refused by every reader. */
static apr_status_t wait_until_valid(manager_job_t *job, const crypto_bundle_t *bundle, base_error_t *err)
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
static void set_aside(manager_job_t *job)
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

static apr_status_t download_and_store(manager_job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    const manager_order_context_t *context = job->context;
    char *pem = NULL, text[120];
    apr_size_t len = 0;
    apr_status_t rv = acme_order_certificate(&pem, &len, job->order, job->ca->account, job->pool, err);

    if (rv != APR_SUCCESS)
        return rv;
    base_step(BASE_STEP_DOWNLOADED);
    rv = crypto_bundle_from_ca(bundle, job->key, pem, len, job->name->name, now_of(job), err);
    if (rv != APR_SUCCESS) {
        /* The same order would bring the same bytes again, and so may a new one: a failure of this
         * name, which waits longer each time. */
        manager_saved_forget(job);
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
    base_step(BASE_STEP_STORED);
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

static apr_status_t obtain_once(manager_job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    apr_status_t rv;

    if ((rv = acme_account_ensure(job->ca->account, err)) != APR_SUCCESS) {
        job->scope = MANAGER_ORDER_SCOPE_CA;
        return rv;
    }
    rv = resume_order(job, err);
    if (rv == APR_NOTFOUND)
        rv = place_order(job, err);
    if (rv == APR_SUCCESS)
        rv = manager_authorize_run(job, place_order, err);
    if (rv == APR_SUCCESS && job->challenge == NULL)
        manager_authorize_withdraw_left(job);
    if (rv == APR_SUCCESS) {
        base_step(BASE_STEP_READY);
        if (job->order->status != ACME_OBJECT_VALID)
            rv = finalize(job, err);
    }
    if (rv == APR_SUCCESS) {
        base_step(BASE_STEP_FINALIZED);
        rv = download_and_store(job, bundle, err);
    }
    if (rv != APR_SUCCESS && rv != APR_ENOTIMPL && err->kind == BASE_ERROR_VALIDATION)
        manager_saved_forget(job);
    return rv;
}

/* A CA that lost the account or the order gets both anew, once. */
static apr_status_t obtain(manager_job_t *job, crypto_bundle_t **bundle, base_error_t *err)
{
    apr_status_t rv = obtain_once(job, bundle, err);

    if (rv != APR_SUCCESS && err->kind == BASE_ERROR_GONE) {
        base_log(BASE_LOG_WARNING, "AC0114", job->name->name, "the CA has lost the account or the "
                 "order: %s; both are made anew", err->detail);
        /* With another account the answer that the order left published is withdrawn first. */
        if (has_account(job))
            manager_saved_forget(job);
        EVP_PKEY_free(job->key);
        job->key = NULL;
        base_error_clear(err);
        rv = obtain_once(job, bundle, err);
    }
    return rv;
}

static void note_success(manager_job_t *job, const crypto_bundle_t *bundle)
{
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE];
    manager_ledger_success_t success;

    success.certificate = crypto_bundle_fingerprint(bundle, fingerprint);
    success.ca = job->ca->config;
    success.account = acme_account_url(job->ca->account, job->pool);
    success.challenge = job->challenge;
    success.validations = job->validations;
    success.lifetime = job->lifetime;
    success.now = now_of(job);
    manager_ledger_succeed(&job->ledger, &success);
    if (job->task->demand)
        job->ledger.visited = now_of(job);
    manager_ledger_store(&job->ledger, job->context->cache, job->cache_key, job->pool);
    base_step(BASE_STEP_NOTED);
}

static void report_success(manager_job_t *job, const crypto_bundle_t *bundle, manager_order_result_t *result)
{
    char expires[16], renewal[16], how[80];

    note_success(job, bundle);
    result->answered = 1;
    result->not_before = bundle->not_before;
    result->not_after = bundle->not_after;
    result->visited = job->ledger.visited;
    result->avoid = 0;
    plan(job->context, job->name, bundle, &job->ledger, result);
    /* Last: who reads the certificate now reads in the ledger, too, whose it is. */
    manager_order_publish(job->context, job->name);
    manager_saved_forget(job);
    base_step(BASE_STEP_FORGOTTEN);
    apr_snprintf(how, sizeof(how), "%s%s", job->challenge ? " by " : "",
                 job->challenge ? job->challenge : "");
    base_log(BASE_LOG_NOTICE, "AC0110", job->name->name,
             "%s from %s%s in %.1f s, live, expires %s, renewal about %s",
             job->lifetime > 0 ? "renewed" : "obtained", acme_of(job)->name, how,
             (double)(now_of(job) - job->started) / APR_USEC_PER_SEC,
             base_log_date(expires, apr_time_sec(bundle->not_after)),
             base_log_date(renewal, apr_time_sec(result->due)));
}

/* In the last tenth of its life a certificate that cannot be renewed is an emergency. */
static int failure_level(const manager_order_result_t *result, apr_time_t now)
{
    apr_interval_time_t lifetime = result->not_after - result->not_before;

    return result->not_after > 0 && result->not_after - now < lifetime / 10 ? BASE_LOG_CRIT
                                                                              : BASE_LOG_ERR;
}

static void note_failure(manager_job_t *job, const base_error_t *err, manager_order_result_t *result)
{
    manager_ledger_failure_t failure;

    failure.err = err;
    failure.cas = job->context->configs;
    failure.ca = job->task->ca;
    failure.validations = job->validations;
    failure.lifetime = job->lifetime;
    failure.now = now_of(job);
    failure.random = random_bits();
    manager_ledger_fail(&job->ledger, &failure);
    manager_ledger_store(&job->ledger, job->context->cache, job->cache_key, job->pool);
    result->avoid = manager_ledger_avoid(&job->ledger, job->context->configs, failure.now);
}

static void report_failure(manager_job_t *job, const base_error_t *err, manager_order_result_t *result)
{
    static base_log_limit_t limit;      /* of what strangers cause */
    apr_time_t now = now_of(job);
    char next[32], good[64], date[16], others[BASE_LOG_OTHERS_SIZE] = "";

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
             acme_of(job)->name, err->type, err->type[0] ? ": " : "", err->detail, others, good,
             base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now)));
}

/* Strangers cause these, so one line a second is enough. */
static void report_refusal(const manager_job_t *job, const base_error_t *err,
                           const manager_order_result_t *result)
{
    static base_log_limit_t limit;
    char others[BASE_LOG_OTHERS_SIZE], next[32];

    if (base_log_limit(&limit, apr_time_sec(now_of(job)), 1, others))
        base_log(result->not_after > 0 ? BASE_LOG_WARNING : BASE_LOG_INFO, "AC0150", job->name->name,
                 "not ordered: %s%s; the answer holds until %s", err->detail, others,
                 base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now_of(job))));
}

/* One order that is stuck says nothing about the others; if the CA is down, going on with this one will
 * find out. */
static void report_interruption(const manager_job_t *job, const base_error_t *err,
                                manager_order_result_t *result)
{
    apr_interval_time_t wait = INTERRUPTED_RETRY;

    if (job->lifetime > 0 && job->lifetime / LIFETIME_PART < wait)
        wait = job->lifetime / LIFETIME_PART;
    if (wait < CANCELLED_RETRY)
        wait = CANCELLED_RETRY;
    result->next = now_of(job) + wait;
    base_log(BASE_LOG_WARNING, "AC0122", job->name->name, "CA %s failed in the middle of the order: "
             "%s; the order goes on in %" APR_TIME_T_FMT " s", acme_of(job)->name, err->detail,
             apr_time_sec(wait));
}

/* Whom does a problem concern: this name, or everybody who needs the CA? */
static manager_order_scope_t find_scope(const manager_job_t *job, const base_error_t *err)
{
    if (job->scope != MANAGER_ORDER_SCOPE_NAME)
        return job->scope;
    if (err->kind == BASE_ERROR_CA_DOWN || err->http_status == 503)
        return MANAGER_ORDER_SCOPE_CA;
    if (job->placing && err->kind == BASE_ERROR_WAIT && !acme_client_is_about_name(err, job->name->name))
        return MANAGER_ORDER_SCOPE_CA;
    if (strcmp(err->type, "userActionRequired") == 0 || acme_account_is_closed(job->ca->account))
        return MANAGER_ORDER_SCOPE_CA;
    return MANAGER_ORDER_SCOPE_NAME;
}

/* The CA answered, but not in a way that let the order end. Non-zero while it is soon tried again: an order
 * that stays stuck is a failure of its name, which waits longer each time and then goes on with it. */
static int is_soon_tried_again(manager_job_t *job, const base_error_t *err)
{
    base_error_t unsaved;

    if (job->order == NULL)
        return 1;
    if (err->status == APR_TIMEUP || err->retry_at > now_of(job) + INTERRUPTED_RETRY
        || job->interruptions >= INTERRUPTIONS_MAX)
        return 0;
    job->interruptions++;
    manager_saved_store(job, &unsaved);
    return 1;
}

/* Some problems concern whoever asks the CA, others nobody but this attempt. */
static void settle_problem(manager_job_t *job, base_error_t *err, manager_order_result_t *result)
{
    apr_time_t now = now_of(job);
    int stuck = err->kind == BASE_ERROR_CA_DOWN && job->under_way;

    if (stuck && !is_soon_tried_again(job, err))
        err->kind = BASE_ERROR_WAIT;
    result->problem = *err;
    if (err->kind == BASE_ERROR_CANCELLED || err->kind == BASE_ERROR_BUSY) {
        result->next = now + (err->kind == BASE_ERROR_BUSY ? BUSY_RETRY : CANCELLED_RETRY);
    }
    else if (err->kind == BASE_ERROR_REFUSED) {
        result->next = err->retry_at;
        report_refusal(job, err, result);
    }
    else if (stuck && err->kind == BASE_ERROR_CA_DOWN) {
        report_interruption(job, err, result);
    }
    else if (!stuck && (result->scope = find_scope(job, err)) != MANAGER_ORDER_SCOPE_NAME) {
        result->next = err->retry_at;
    }
    else {
        result->answered = job->under_way;
        note_failure(job, err, result);
        report_failure(job, err, result);
    }
}

/* May the name have a certificate at all? Endpoints are asked only now that one is needed. */
static apr_status_t check_policy(const manager_job_t *job, base_error_t *err)
{
    apr_time_t until = 0;
    apr_status_t rv = manager_policy_confirm(job->name, job->context->ask, job->task->client, now_of(job),
                                             &until, job->pool, err);

    if (rv != APR_SUCCESS)
        err->retry_at = until;
    return rv;
}

/* Ask for renewal information, and see what that changes. */
static void ask_about(manager_job_t *job, const crypto_bundle_t *bundle, manager_order_result_t *result)
{
    manager_renewal_ask(&job->ledger, acme_account_client(job->ca->account), job->name, bundle, now_of(job),
                        random_bits(), job->pool);
    manager_ledger_store(&job->ledger, job->context->cache, job->cache_key, job->pool);
    plan(job->context, job->name, bundle, &job->ledger, result);
}

static void order(manager_job_t *job, manager_order_result_t *result)
{
    const manager_order_context_t *context = job->context;
    crypto_bundle_t *bundle = NULL;
    base_error_t err;
    char text[120];
    apr_status_t rv;

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
}

/* A name that no line lists needs no certificate of its own while that of a wildcard above it serves.
 * @param until set to its end */
static int is_covered(const manager_job_t *job, apr_time_t *until)
{
    char wildcard[BASE_HOSTNAME_SIZE];
    manager_policy_name_t cover = *job->name;
    crypto_bundle_t *bundle = NULL;
    base_error_t ignored;
    int damaged = 0;

    if (job->name->vhost == NULL
        || (cover.name = base_identifier_wildcard_of(wildcard, job->name->name)) == NULL
        || load_certificate(&bundle, &damaged, job->context, &cover, job->pool, &ignored) != APR_SUCCESS)
        return 0;
    *until = bundle->not_after;
    base_log(BASE_LOG_INFO, "AC0136", job->name->name, "not ordered: the certificate of %s serves it; it is "
             "looked at again when that ends", wildcard);
    crypto_bundle_free(bundle);
    return 1;
}

/* Under the name's lock. */
static void run_locked(manager_job_t *job, manager_order_result_t *result)
{
    const manager_order_context_t *context = job->context;
    crypto_bundle_t *bundle = NULL;
    apr_time_t covered_until = 0;

    base_step(BASE_STEP_LOCKED);
    examine(context, job->name, result, &job->ledger, &bundle, job->pool);
    if (result->next <= now_of(job) && result->due > now_of(job) && result->issuer == job->task->ca)
        ask_about(job, bundle, result);
    job->lifetime = result->not_after - result->not_before;
    job->damaged = result->damaged;
    if (bundle != NULL && result->issuer == job->task->ca && !acme_of(job)->no_renewal_info)
        job->replaces = crypto_cert_renewal_id(bundle->leaf, job->pool);
    crypto_bundle_free(bundle);
    if (result->due <= now_of(job) && result->next <= now_of(job) && is_covered(job, &covered_until))
        result->next = result->due = covered_until;
    if (result->due <= now_of(job) && result->next <= now_of(job)) {
        order(job, result);
        return;
    }
    /* Somebody else was faster, or has just failed: every child may look at the cache anew. */
    shared_versions_raise(context->versions, job->name->name);
    if (result->problem.kind == BASE_ERROR_NONE)
        manager_saved_forget(job);
}

/* Without the lock two processes could order the same name, so nobody does. The ledger is
 * written by the lock's holder only, so the wait does not grow. */
static void settle_unlocked(manager_job_t *job, apr_status_t status, manager_order_result_t *result)
{
    apr_time_t now = now_of(job);
    apr_interval_time_t wait;
    char text[120], next[32];

    manager_order_look(job->context, job->name, result, job->pool);
    if (result->due > now) {
        /* Nothing has to be ordered; a question can wait until the cache gives out locks again. */
        if (result->next <= now)
            result->next = result->due < now + UNLOCKED_RETRY ? result->due : now + UNLOCKED_RETRY;
        return;
    }
    wait = result->not_after > 0 ? (result->not_after - result->not_before) / LIFETIME_PART
                                 : UNLOCKED_RETRY;
    wait = wait < UNLOCKED_RETRY ? wait : UNLOCKED_RETRY;
    base_error_set(&result->problem, BASE_ERROR_LOCAL, status, "its lock in the cache cannot be taken: %s",
                   apr_strerror(status, text, sizeof(text)));
    result->next = now + (wait > CANCELLED_RETRY ? wait : CANCELLED_RETRY);
    base_log(failure_level(result, now), "AC0121", job->name->name, "not %s: %s; next try %s",
             result->not_after > 0 ? "renewed" : "obtained", result->problem.detail,
             base_log_moment(next, apr_time_sec(result->next), apr_time_sec(now)));
}

void manager_order_run(const manager_order_context_t *context, const manager_order_task_t *task,
                       manager_order_result_t *result, apr_pool_t *pool)
{
    char stem[BASE_IDENTIFIER_STEM_SIZE];
    manager_job_t job;
    cache_lock_t *lock = NULL;
    apr_status_t rv;

    memset(result, 0, sizeof(*result));
    memset(&job, 0, sizeof(job));
    job.context = context;
    job.task = task;
    job.name = task->name;
    job.ca = manager_ca_at(context->cas, task->ca);
    job.pool = pool;
    job.started = context->now();
    manager_policy_cache_key(job.name, job.cache_key);
    job.funded = task->funded;
    rv = cache_lock(context->cache, base_identifier_stem(stem, job.name->name), &lock);
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
    EVP_PKEY_free(job.key);
    result->refunded = job.funded;
    if (job.funded)
        return_budget(&job);
    result->saved = result->problem.kind != BASE_ERROR_NONE ? manager_saved_ca(context, job.name, pool) : -1;
}

void manager_order_note_visit(const manager_order_context_t *context, const manager_policy_name_t *name,
                              apr_time_t visited, apr_pool_t *pool)
{
    char key[MANAGER_POLICY_CACHE_KEY_SIZE], stem[BASE_IDENTIFIER_STEM_SIZE];
    cache_lock_t *lock = NULL;
    manager_ledger_t ledger;

    if (cache_lock(context->cache, base_identifier_stem(stem, name->name), &lock) != APR_SUCCESS)
        return;
    manager_ledger_load(&ledger, context->cache, manager_policy_cache_key(name, key), pool);
    ledger.visited = visited;
    manager_ledger_store(&ledger, context->cache, key, pool);
    cache_unlock(lock);
}
