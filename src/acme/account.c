/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/account.h"

#include <string.h>

#include <apr_allocator.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>

#include "acme/account_store.h"
#include "acme/account_work.h"
#include "acme/key_change.h"
#include "acme/refusal.h"
#include "acme/registration.h"
#include "base/json.h"
#include "base/log.h"
#include "crypto/jws.h"

#define THUMBPRINT_SIZE 64              /* 43 letters and a NUL fit */
#define STEP apr_time_from_msec(50)     /* between two looks at who is working */
#define ASK_EVERY apr_time_from_sec(3600)   /* whether an account is alive, by one process */

struct acme_account_t {
    acme_client_t *client;
    acme_account_places_t places;
    apr_pool_t *pool;                   /* of its own, locked allocator: any thread may make
                                         * sub-pools */
    apr_thread_mutex_t *mutex;          /* guards all that follows; not held over disk, network */
    EVP_PKEY *key;                      /* who signs with it holds a reference */
    int stale;                          /* the cache has another key than key: to be read again */
    apr_time_t asked;                   /* when the CA was asked how it is, 0: never */
    int closed;                         /* the CA said that it serves it no more */
    char thumbprint[THUMBPRINT_SIZE];
    char url[ACME_HTTP_URL_MAX + 1];    /* "" when not known */
    int working;                        /* a thread is looking for the account */
    unsigned int round;                 /* how often one has ended looking */
    base_error_t last;                  /* how it ended */
};

/* What run() does. */
typedef apr_status_t task_t(acme_account_t *account, acme_account_work_t *work);

static apr_status_t free_key(void *data)
{
    acme_account_t *account = data;

    EVP_PKEY_free(account->key);
    account->key = NULL;
    return APR_SUCCESS;
}

apr_status_t acme_account_create(acme_account_t **account, acme_client_t *client, cache_t *cache,
                                 apr_pool_t *pool)
{
    const acme_client_config_t *config = acme_client_config(client);
    acme_account_t *a = apr_pcalloc(pool, sizeof(*a));
    apr_allocator_t *allocator;
    apr_thread_mutex_t *lock;
    apr_status_t st;

    a->client = client;
    a->places.cache = cache;
    a->places.record_name = apr_pstrcat(pool, "account+", config->id, NULL);
    a->places.key_name = acme_account_store_key_name(cache, config, a->places.record_name, pool);
    a->places.pending_name = apr_pstrcat(pool, a->places.record_name, "+key", NULL);
    st = apr_thread_mutex_create(&a->mutex, APR_THREAD_MUTEX_DEFAULT, pool);
    if (st == APR_SUCCESS) {
        st = apr_allocator_create(&allocator);
    }
    if (st != APR_SUCCESS) {
        return st;
    }
    st = apr_pool_create_ex(&a->pool, pool, NULL, allocator);
    if (st != APR_SUCCESS) {
        apr_allocator_destroy(allocator);
        return st;
    }
    apr_allocator_owner_set(allocator, a->pool);
    st = apr_thread_mutex_create(&lock, APR_THREAD_MUTEX_DEFAULT, pool);
    if (st != APR_SUCCESS) {
        return st;
    }
    apr_allocator_mutex_set(allocator, lock);
    apr_pool_cleanup_register(pool, a, free_key, apr_pool_cleanup_null);
    *account = a;
    return APR_SUCCESS;
}

acme_client_t *acme_account_client(acme_account_t *account)
{
    return account->client;
}

const char *acme_account_url(acme_account_t *account, apr_pool_t *pool)
{
    const char *url = NULL;

    apr_thread_mutex_lock(account->mutex);
    if (account->url[0] != '\0') {
        url = apr_pstrdup(pool, account->url);
    }
    apr_thread_mutex_unlock(account->mutex);
    return url;
}

const char *acme_account_key_authorization(acme_account_t *account, const char *token,
                                           apr_pool_t *pool)
{
    const char *text = NULL;

    apr_thread_mutex_lock(account->mutex);
    if (account->thumbprint[0] != '\0') {
        text = apr_pstrcat(pool, token, ".", account->thumbprint, NULL);
    }
    apr_thread_mutex_unlock(account->mutex);
    return text;
}

/* What must be changed is changed under the lock, after another look. */
static apr_status_t complete(acme_account_work_t *work)
{
    apr_status_t st = acme_account_work_lock(work);

    if (st != APR_SUCCESS) {
        return work->url != NULL && work->err->kind == BASE_ERROR_BUSY ? APR_SUCCESS : st;
    }
    acme_account_store_read_anew(work);
    st = acme_account_store_find_key(work);
    if (st == APR_NOTFOUND) {
        /* Once our terms are refused no key is left behind either. */
        st = acme_registration_check_terms(work);
        if (st == APR_SUCCESS) {
            st = acme_account_store_make_key(work);
        }
    }
    if (st == APR_SUCCESS) {
        acme_account_store_find_record(work);
        st = acme_key_change_is_pending(work) ? acme_key_change_settle(work) : APR_SUCCESS;
    }
    if (st == APR_SUCCESS) {
        st = acme_registration_check_terms(work);
    }
    if (st == APR_SUCCESS && work->url == NULL) {
        st = acme_registration_create(work);
    }
    if (st == APR_SUCCESS && !acme_registration_is_contact_told(work)) {
        acme_registration_update_contact(work);
    }
    return st;
}

/* The key in memory, if there is one that holds. */
static void recall_key(acme_account_t *account, acme_account_work_t *work)
{
    if (work->reload) {
        return;
    }
    apr_thread_mutex_lock(account->mutex);
    if (account->key != NULL) {
        EVP_PKEY_up_ref(account->key);
        work->key = account->key;
    }
    apr_thread_mutex_unlock(account->mutex);
}

static apr_status_t look_for_account(acme_account_t *account, acme_account_work_t *work)
{
    apr_status_t st = acme_client_directory(work->client, &work->directory, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    recall_key(account, work);
    st = acme_account_store_find_key(work);
    if (st == APR_SUCCESS) {
        acme_account_store_find_record(work);
        st = acme_registration_check_terms(work);
    }
    else if (st == APR_NOTFOUND) {
        st = APR_SUCCESS;
    }
    if (st == APR_SUCCESS
        && (work->url == NULL || !acme_registration_is_contact_told(work)
            || acme_key_change_is_pending(work))) {
        st = complete(work);
    }
    return st;
}

/* Make what was found known to all threads. */
static void publish(acme_account_t *account, acme_account_work_t *work)
{
    EVP_PKEY *old;

    apr_thread_mutex_lock(account->mutex);
    old = account->key;
    account->key = work->key;
    account->closed = 0;
    apr_cpystrn(account->url, work->url, sizeof(account->url));
    apr_cpystrn(account->thumbprint, work->thumbprint, sizeof(account->thumbprint));
    if (work->reload) {
        account->stale = 0;
    }
    apr_thread_mutex_unlock(account->mutex);
    EVP_PKEY_free(old);
    work->key = NULL;
    base_error_clear(work->err);
    base_log(BASE_LOG_DEBUG, "AC0208", NULL, "%s: using the account %s", work->config->name,
             work->url);
}

static apr_status_t change_key(acme_account_t *account, acme_account_work_t *work)
{
    (void)account;
    return acme_key_change_roll(work);
}

/* One piece of work, from nothing to what is known of it; the mutex is not held. */
static apr_status_t run(acme_account_t *account, task_t *task, base_error_t *err)
{
    acme_account_work_t work = { 0 };
    apr_status_t st;

    work.client = account->client;
    work.places = &account->places;
    work.config = acme_client_config(account->client);
    work.err = err;
    apr_thread_mutex_lock(account->mutex);
    work.reload = account->stale;
    apr_thread_mutex_unlock(account->mutex);
    st = apr_pool_create(&work.pool, account->pool);
    if (st != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_LOCAL, st, "no memory for the account");
    }
    st = task(account, &work);
    cache_unlock(work.lock);
    if (st == APR_SUCCESS) {
        publish(account, &work);
    }
    EVP_PKEY_free(work.key);
    apr_pool_destroy(work.pool);
    return st;
}

apr_status_t acme_account_ensure(acme_account_t *account, base_error_t *err)
{
    const base_stop_t *stop = acme_client_stop(account->client);
    base_error_t local;
    unsigned int round = 0;
    int waited = 0;
    apr_status_t st;

    err = err != NULL ? err : &local;
    for (;;) {
        apr_thread_mutex_lock(account->mutex);
        if (account->url[0] != '\0' && !account->stale) {
            apr_thread_mutex_unlock(account->mutex);
            base_error_clear(err);
            return APR_SUCCESS;
        }
        if (waited && account->round != round
            && !(account->stale && account->last.kind == BASE_ERROR_NONE)) {
            /* Who we waited for failed just now; one more try would fail the same way. */
            *err = account->last;
            apr_thread_mutex_unlock(account->mutex);
            return err->kind != BASE_ERROR_NONE ? err->status
                   : base_error_set(err, BASE_ERROR_GONE, APR_NOTFOUND,
                                    "the account is gone again");
        }
        if (!account->working) {
            account->working = 1;
            apr_thread_mutex_unlock(account->mutex);
            break;
        }
        round = account->round;
        waited = 1;
        apr_thread_mutex_unlock(account->mutex);
        if (base_stop_wait(stop, STEP) != APR_SUCCESS) {
            return base_error_set(err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
        }
    }
    st = run(account, look_for_account, err);
    apr_thread_mutex_lock(account->mutex);
    account->working = 0;
    account->round++;
    account->last = *err;
    apr_thread_mutex_unlock(account->mutex);
    return st;
}

void acme_account_forget(acme_account_t *account, const char *url)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    apr_pool_t *pool;

    /* The record too, or ensure() would find the refused URL there again. */
    if (apr_pool_create(&pool, account->pool) == APR_SUCCESS) {
        acme_account_store_forget_record(&account->places, config, url, pool);
        apr_pool_destroy(pool);
    }
    apr_thread_mutex_lock(account->mutex);
    if (strcmp(account->url, url) == 0) {
        account->url[0] = '\0';
    }
    apr_thread_mutex_unlock(account->mutex);
}

apr_status_t acme_account_roll_key(acme_account_t *account, base_error_t *err)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    if (config->account_pem != NULL) {
        return base_error_set(err, BASE_ERROR_OPERATOR, APR_EACCES, "the account key is that of account=, "
                              "whose file is not changed here");
    }
    st = acme_account_ensure(account, err);
    if (st == APR_SUCCESS) {
        st = run(account, change_key, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_NOTICE, "AC0235", NULL, "%s: the account has a new key, %s; back it up",
                 config->name, account->places.key_name);
    }
    return st;
}

/* ---- requests ---- */

static void mark_stale(acme_account_t *account)
{
    apr_thread_mutex_lock(account->mutex);
    account->stale = 1;
    apr_thread_mutex_unlock(account->mutex);
}

/* Was the account's key changed by somebody else (roll_key() in another process), or may it have been? Then
 * ensure() finds the right one. @param key that was refused */
static int follow_key(acme_account_t *account, EVP_PKEY *key, apr_pool_t *pool)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    autocert_cache_stat_t stat;
    EVP_PKEY *theirs = NULL;
    const char *ours, *other;
    int changed, pending;

    if (config->account_pem != NULL) {
        return 0;
    }
    ours = crypto_jws_thumbprint(key, pool);
    apr_thread_mutex_lock(account->mutex);
    changed = ours != NULL && strcmp(ours, account->thumbprint) != 0;
    apr_thread_mutex_unlock(account->mutex);
    if (changed) {
        /* Another thread has noticed before us. */
        return 1;
    }
    /* In this order: a change that is over removed the pending key after it had stored the new one. */
    pending = cache_stat(account->places.cache, AUTOCERT_CACHE_PRIVATE, account->places.pending_name, &stat,
                         pool) == APR_SUCCESS;
    if (ours != NULL && acme_account_store_peek_key(&account->places, config, &theirs, pool) == APR_SUCCESS) {
        other = crypto_jws_thumbprint(theirs, pool);
        changed = other != NULL && strcmp(ours, other) != 0;
    }
    EVP_PKEY_free(theirs);
    if (changed || pending) {
        base_log(BASE_LOG_INFO, "AC0237", NULL, "%s: the CA does not take the account key any more, and the "
                 "cache has %s; looked at again", config->name, changed ? "another" : "one to follow it");
        changed = 1;
        mark_stale(account);
    }
    return changed;
}

/* How an account is at the CA. */
typedef enum { ACCOUNT_FINE, ACCOUNT_CLOSED, ACCOUNT_LOST } condition_t;

/* Is it time to ask the CA how the account is? */
static int may_ask(acme_account_t *account)
{
    apr_time_t now = acme_client_now(account->client);
    int recently;

    apr_thread_mutex_lock(account->mutex);
    recently = account->asked != 0 && now >= account->asked && now - account->asked < ASK_EVERY;
    if (!recently) {
        account->asked = now;
    }
    apr_thread_mutex_unlock(account->mutex);
    return !recently;
}

/* Ask the CA whether the key has an account that is in order: not all say so in their refusals. */
static condition_t ask_condition(acme_account_t *account, EVP_PKEY *key, apr_pool_t *pool)
{
    acme_client_request_t request = { 0 };
    acme_client_directory_t directory;
    acme_client_answer_t answer;
    base_error_t err;
    const char *status;

    if (!may_ask(account) || acme_client_directory(account->client, &directory, pool, &err) != APR_SUCCESS) {
        return ACCOUNT_FINE;
    }
    request.url = directory.new_account;
    request.key = key;
    request.payload = ACME_ACCOUNT_ONLY_EXISTING;
    if (acme_client_post(account->client, &request, &answer, pool, &err) != APR_SUCCESS) {
        return strcmp(err.type, "unauthorized") == 0 ? ACCOUNT_CLOSED
               : strcmp(err.type, "accountDoesNotExist") == 0 ? ACCOUNT_LOST : ACCOUNT_FINE;
    }
    status = base_json_string(answer.json, "status");
    return status != NULL && strcmp(status, "valid") != 0 ? ACCOUNT_CLOSED : ACCOUNT_FINE;
}

/* Words for a human, who alone can end this. */
static void close_account(acme_account_t *account, const char *url, apr_pool_t *pool, base_error_t *err)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    EVP_PKEY *cached = NULL;

    apr_thread_mutex_lock(account->mutex);
    account->closed = 1;
    apr_thread_mutex_unlock(account->mutex);
    acme_refusal_reword_as_dead(err, config, account->places.key_name, url);
    /* Somebody has followed that advice already: memory must not keep the old one alive. */
    if (config->account_pem == NULL
        && acme_account_store_peek_key(&account->places, config, &cached, pool) == APR_NOTFOUND) {
        mark_stale(account);
    }
    EVP_PKEY_free(cached);
}

/* A refused request, and no other key to try: is it the account that is refused? A CA that lost its memory
 * may answer 500 without a word instead of accountDoesNotExist. */
static void judge_account(acme_account_t *account, EVP_PKEY *key, const char *url, apr_pool_t *pool,
                          base_error_t *err)
{
    int refused = strcmp(err->type, "unauthorized") == 0;
    condition_t condition = ACCOUNT_FINE;

    if (strcmp(err->type, "accountDoesNotExist") == 0) {
        condition = ACCOUNT_LOST;
    }
    else if (refused && acme_refusal_mentions_dead(err)) {
        condition = ACCOUNT_CLOSED;
    }
    else if (refused || (err->http_status == 500 && err->type[0] == '\0')) {
        condition = ask_condition(account, key, pool);
    }
    if (condition == ACCOUNT_CLOSED) {
        close_account(account, url, pool, err);
    }
    else if (condition == ACCOUNT_LOST) {
        err->kind = BASE_ERROR_GONE;
        acme_account_forget(account, url);
    }
}

int acme_account_is_closed(acme_account_t *account)
{
    int closed;

    apr_thread_mutex_lock(account->mutex);
    closed = account->closed;
    apr_thread_mutex_unlock(account->mutex);
    return closed;
}

/* What to sign with: a reference to the key, and the account's URL. */
static apr_status_t take_identity(acme_account_t *account, acme_client_request_t *request, apr_pool_t *pool,
                                  base_error_t *err)
{
    apr_status_t st = acme_account_ensure(account, err);

    request->key = NULL;
    request->kid = NULL;
    if (st != APR_SUCCESS) {
        return st;
    }
    apr_thread_mutex_lock(account->mutex);
    if (account->url[0] != '\0') {
        EVP_PKEY_up_ref(account->key);
        request->key = account->key;
        request->kid = apr_pstrdup(pool, account->url);
    }
    apr_thread_mutex_unlock(account->mutex);
    return request->key != NULL ? APR_SUCCESS
           : base_error_set(err, BASE_ERROR_GONE, APR_NOTFOUND, "the account is gone again");
}

apr_status_t acme_account_post(acme_account_t *account, acme_client_request_t *request,
                               acme_client_answer_t *answer, apr_pool_t *pool,
                               base_error_t *err)
{
    base_error_t local;
    apr_status_t st;
    int again = 1, followed;

    err = err != NULL ? err : &local;
    memset(answer, 0, sizeof(*answer));
    do {
        st = take_identity(account, request, pool, err);
        if (st != APR_SUCCESS) {
            return st;
        }
        st = acme_client_post(account->client, request, answer, pool, err);
        followed = st != APR_SUCCESS && again && acme_refusal_is_of_key(err)
                   && follow_key(account, request->key, pool);
        if (st != APR_SUCCESS && !followed) {
            judge_account(account, request->key, request->kid, pool, err);
        }
        EVP_PKEY_free(request->key);
        request->key = NULL;
        again = 0;
    } while (followed);
    return st;
}
