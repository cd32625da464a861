/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/account.h"

#include <string.h>

#include <apr_allocator.h>
#include <apr_strings.h>
#include <apr_thread_mutex.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/json.h"
#include "base/log.h"
#include "crypto/jws.h"
#include "crypto/key.h"

#define KEY_FIRST "acme_account+key"    /* Go's name, for the first CA */
#define KEY_LEGACY "acme_account.key"   /* Go's name before 2018 */
#define THUMBPRINT_SIZE 64              /* 43 letters and a NUL fit */
#define STEP apr_time_from_msec(50)     /* between two looks at who is working */
#define LOCK_STEP apr_time_from_msec(100)
#define LOCK_TRIES 300                  /* 30 s for another process */

struct acme_account_t {
    acme_client_t *client;
    cache_t *cache;
    const char *key_name;               /* in the shared space */
    const char *record_name;            /* in the private space; also the lock's */
    apr_pool_t *pool;                   /* of its own, locked allocator: any thread may make
                                         * sub-pools */
    apr_thread_mutex_t *mutex;          /* guards all that follows; not held over disk, network */
    EVP_PKEY *key;                      /* never replaced once there */
    char thumbprint[THUMBPRINT_SIZE];
    char url[ACME_HTTP_URL_MAX + 1];    /* "" when not known */
    int working;                        /* a thread is looking for the account */
    unsigned int round;                 /* how often one has ended looking */
    base_error_t last;                  /* how it ended */
};

/* One thread's look for the account. */
typedef struct work_t {
    acme_account_t *account;
    const acme_client_config_t *config;
    acme_client_directory_t directory;
    EVP_PKEY *key;                      /* owned until handed to the account */
    const char *thumbprint;
    const char *url;                    /* NULL when not known */
    const char *email;                  /* the contact the CA has by our record, NULL: none */
    cache_lock_t *lock;
    apr_pool_t *pool;
    base_error_t *err;
} work_t;

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
    a->cache = cache;
    a->key_name = config->first ? KEY_FIRST : apr_pstrcat(pool, KEY_FIRST "+", config->id, NULL);
    a->record_name = apr_pstrcat(pool, "account+", config->id, NULL);
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

/* ---- key ---- */

/* Read a key and see whether it can sign JWS. */
static apr_status_t read_key(work_t *work, const char *pem, apr_size_t len, const char *where)
{
    EVP_PKEY *key = NULL;
    base_error_t why;

    base_error_clear(&why);
    if (crypto_key_read(&key, pem, len, &why) != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, APR_EGENERAL,
                              "the account key %s cannot be read: %.200s; put the right file "
                              "there, or remove it to get a new account", where, why.detail);
    }
    if (crypto_jws_algorithm(key) == NULL) {
        EVP_PKEY_free(key);
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EGENERAL,
                              "the account key %s is of a kind that ACME does not know: "
                              "use P-256, P-384 or RSA", where);
    }
    work->key = key;
    return APR_SUCCESS;
}

/* Read a cached key. @return APR_NOTFOUND when there is none; an empty one is none */
static apr_status_t load_key(work_t *work, const char *name)
{
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t st = cache_get(work->account->cache, AUTOCERT_CACHE_SHARED, name, &pem, &len,
                                work->pool);

    if (APR_STATUS_IS_ENOENT(st) || st == APR_NOTFOUND) {
        return APR_NOTFOUND;
    }
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                              "the account key %s cannot be read from the cache", name);
    }
    if (len == 0) {
        base_log(BASE_LOG_WARNING, "AC0201", NULL, "%s: the account key %s in the cache is empty "
                 "and taken as missing", work->config->name, name);
        return APR_NOTFOUND;
    }
    st = read_key(work, pem, len, name);
    OPENSSL_cleanse(pem, len);
    return st;
}

static apr_status_t store_key(work_t *work, const char *what)
{
    acme_account_t *account = work->account;
    char *pem = NULL;
    apr_size_t len = 0;
    apr_status_t st = crypto_key_write(&pem, &len, work->key, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    st = cache_put(account->cache, AUTOCERT_CACHE_SHARED, account->key_name, pem, len,
                   work->pool);
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                              "the account key %s cannot be stored in the cache",
                              account->key_name);
    }
    base_log(BASE_LOG_INFO, "AC0202", NULL, "%s: %s the account key %s", work->config->name,
             what, account->key_name);
    return APR_SUCCESS;
}

/* The key that exists already, wherever it is. @return APR_NOTFOUND without one */
static apr_status_t find_key(work_t *work)
{
    const char *pem = work->config->account_pem;

    if (work->key != NULL) {
        return APR_SUCCESS;
    }
    if (work->account->key != NULL) {
        /* Only the working thread ever sets it. */
        EVP_PKEY_up_ref(work->account->key);
        work->key = work->account->key;
        return APR_SUCCESS;
    }
    if (pem != NULL) {
        return read_key(work, pem, strlen(pem), "of account=");
    }
    return load_key(work, work->account->key_name);
}

/* Under the lock: the legacy key under its new name, or a new one, stored before it is used. */
static apr_status_t make_key(work_t *work)
{
    apr_status_t st = APR_NOTFOUND;

    if (work->config->first) {
        st = load_key(work, KEY_LEGACY);
        if (st == APR_SUCCESS) {
            return store_key(work, "copied " KEY_LEGACY " to");
        }
    }
    if (st == APR_NOTFOUND) {
        st = crypto_key_generate(&work->key, CRYPTO_KEY_P256, work->err);
        if (st == APR_SUCCESS) {
            st = store_key(work, "made");
        }
    }
    return st;
}

/* ---- record ---- */

/* Look into the private record: only one of this directory and this key counts. */
static void find_record(work_t *work)
{
    acme_account_t *account = work->account;
    char *data = NULL;
    apr_size_t len = 0;
    const char *directory, *thumbprint, *url;
    json_t *json;

    work->url = NULL;
    work->email = NULL;
    work->thumbprint = crypto_jws_thumbprint(work->key, work->pool);
    if (cache_get(account->cache, AUTOCERT_CACHE_PRIVATE, account->record_name, &data, &len,
                  work->pool) != APR_SUCCESS) {
        return;
    }
    json = base_json_parse_object(data, len, work->pool);
    directory = base_json_string(json, "directory");
    thumbprint = base_json_string(json, "thumbprint");
    url = base_json_string(json, "url");
    if (directory != NULL && strcmp(directory, work->config->directory_url) == 0
        && thumbprint != NULL && work->thumbprint != NULL
        && strcmp(thumbprint, work->thumbprint) == 0 && acme_http_url_is_usable(url)) {
        work->url = url;
        work->email = base_json_string(json, "email");
    }
}

/* Losing the record costs one question to the CA: no error. */
static void store_record(work_t *work)
{
    acme_account_t *account = work->account;
    json_t *json = json_pack("{s:s, s:s, s:s, s:s*}", "directory", work->config->directory_url,
                             "url", work->url, "thumbprint", work->thumbprint, "email",
                             work->email);
    const char *text = json != NULL ? base_json_dump(json, work->pool) : NULL;
    apr_status_t st = APR_EINVAL;

    if (text != NULL) {
        st = cache_put(account->cache, AUTOCERT_CACHE_PRIVATE, account->record_name, text,
                       strlen(text), work->pool);
    }
    if (st != APR_SUCCESS) {
        base_log(BASE_LOG_WARNING, "AC0203", NULL, "%s: the account's URL could not be stored; "
                 "the CA is asked for it again after the next start", work->config->name);
    }
}

static int is_same_email(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* ---- the CA ---- */

/* Non-zero when the terms are among those agreed to. */
static int is_agreed(const acme_client_config_t *config, const char *terms)
{
    int i;

    if (config->tos_any) {
        return 1;
    }
    for (i = 0; config->tos_urls != NULL && i < config->tos_urls->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(config->tos_urls, i, const char *), terms) == 0) {
            return 1;
        }
    }
    return 0;
}

/* An account that agreed once is not shut out when the CA publishes new terms: the CA says
 * itself (userActionRequired) when it insists. But nothing at all is sent without a word of
 * agreement in the configuration. */
static apr_status_t check_terms(work_t *work)
{
    const acme_client_config_t *config = work->config;
    const char *terms = work->directory.terms_of_service;
    int any_word = config->tos_any || (config->tos_urls != NULL && config->tos_urls->nelts > 0);

    if (terms == NULL || is_agreed(config, terms)) {
        return APR_SUCCESS;
    }
    if (any_word && work->url != NULL) {
        base_log(BASE_LOG_WARNING, "AC0204", NULL, "%s: the CA has new terms of service, %s, that "
                 "AutocertAcceptTOS does not list; the existing account is used on",
                 config->name, terms);
        return APR_SUCCESS;
    }
    return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES,
                          "the CA's terms of service are not agreed to: read %.160s and write "
                          "\"AutocertAcceptTOS on\" or \"AutocertAcceptTOS %.160s\"",
                          terms, terms);
}

/* The contact list, as RFC 8555 section 7.3 wants it; empty without an address. */
static json_t *make_contact(const acme_client_config_t *config, apr_pool_t *pool)
{
    if (config->email == NULL) {
        return json_array();
    }
    return json_pack("[s]", apr_pstrcat(pool, "mailto:", config->email, NULL));
}

static apr_status_t post(work_t *work, const char *url, const char *kid, json_t *payload,
                         acme_client_answer_t *answer)
{
    acme_client_request_t request = { 0 };

    request.url = url;
    request.kid = kid;
    request.key = work->key;
    request.payload = payload != NULL ? base_json_dump(payload, work->pool) : NULL;
    if (request.payload == NULL) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOMEM,
                              "the account's request cannot be written as JSON");
    }
    return acme_client_post(work->account->client, &request, answer, work->pool, work->err);
}

/* Tell the CA the contact that is configured now. Not being able to must not stop orders;
 * an account that is gone is found out by them. */
static void update_contact(work_t *work)
{
    acme_client_answer_t answer;
    json_t *payload = json_pack("{s:o}", "contact", make_contact(work->config, work->pool));

    if (post(work, work->url, work->url, payload, &answer) != APR_SUCCESS) {
        base_log(BASE_LOG_WARNING, "AC0205", NULL, "%s: the account's contact could not be "
                 "changed: %s; tried again after the next start", work->config->name,
                 work->err->detail);
        return;
    }
    work->email = work->config->email;
    base_log(BASE_LOG_INFO, "AC0206", NULL, "%s: the account's contact is %s now",
             work->config->name, work->email != NULL ? work->email : "empty");
    store_record(work);
}

/* A known key gets its old account back, contact unchanged (RFC 8555 section 7.3.1). */
static apr_status_t create_account(work_t *work)
{
    const acme_client_config_t *config = work->config;
    acme_client_answer_t answer;
    json_t *payload = json_object();
    const char *status;
    apr_status_t st;

    if (payload != NULL && work->directory.terms_of_service != NULL) {
        json_object_set_new(payload, "termsOfServiceAgreed", json_true());
    }
    if (payload != NULL && config->email != NULL) {
        json_object_set_new(payload, "contact", make_contact(config, work->pool));
    }
    st = post(work, work->directory.new_account, NULL, payload, &answer);
    if (st != APR_SUCCESS) {
        return st;
    }
    status = base_json_string(answer.json, "status");
    if (status != NULL && strcmp(status, "valid") != 0) {
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES,
                              "the account of this key is %.40s at the CA: remove %s from the "
                              "cache to get a new one", status, work->account->key_name);
    }
    if (answer.location == NULL) {
        return base_error_set(work->err, BASE_ERROR_CA_DOWN, APR_EGENERAL,
                              "the CA made an account but did not say where (no Location)");
    }
    work->url = answer.location;
    work->email = answer.http->status == 201 ? config->email : NULL;
    base_log(BASE_LOG_NOTICE, "AC0207", NULL, "%s: %s the account %s%s%s", config->name,
             answer.http->status == 201 ? "made" : "found", work->url,
             work->directory.terms_of_service != NULL ? ", agreed to " : "",
             work->directory.terms_of_service != NULL ? work->directory.terms_of_service : "");
    store_record(work);
    return APR_SUCCESS;
}

/* ---- putting it together ---- */

static apr_status_t take_lock(work_t *work)
{
    acme_account_t *account = work->account;
    const base_stop_t *stop = acme_client_stop(account->client);
    apr_status_t st;
    int i;

    for (i = 0; i < LOCK_TRIES; i++) {
        st = cache_lock(account->cache, account->record_name, &work->lock);
        if (st == APR_SUCCESS) {
            return st;
        }
        work->lock = NULL;
        if (!APR_STATUS_IS_EBUSY(st)) {
            return base_error_set(work->err, BASE_ERROR_LOCAL, st,
                                  "the lock %s in the cache cannot be taken",
                                  account->record_name);
        }
        if (base_stop_wait(stop, LOCK_STEP) != APR_SUCCESS) {
            return base_error_set(work->err, BASE_ERROR_CANCELLED, APR_EINTR, "asked to stop");
        }
    }
    return base_error_set(work->err, BASE_ERROR_BUSY, APR_EBUSY,
                          "another process is busy with the account at %s", work->config->name);
}

/* What must be changed is changed under the lock, after another look. */
static apr_status_t complete(work_t *work)
{
    apr_status_t st = take_lock(work);

    if (st != APR_SUCCESS) {
        return work->url != NULL && work->err->kind == BASE_ERROR_BUSY ? APR_SUCCESS : st;
    }
    st = find_key(work);
    if (st == APR_NOTFOUND) {
        /* Once our terms are refused no key is left behind either. */
        st = check_terms(work);
        if (st == APR_SUCCESS) {
            st = make_key(work);
        }
    }
    if (st == APR_SUCCESS) {
        find_record(work);
        st = check_terms(work);
    }
    if (st == APR_SUCCESS && work->url == NULL) {
        st = create_account(work);
    }
    if (st == APR_SUCCESS && !is_same_email(work->email, work->config->email)) {
        update_contact(work);
    }
    return st;
}

static apr_status_t look_for_account(work_t *work)
{
    apr_status_t st = acme_client_directory(work->account->client, &work->directory, work->pool,
                                            work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    st = find_key(work);
    if (st == APR_SUCCESS) {
        find_record(work);
        st = check_terms(work);
    }
    else if (st == APR_NOTFOUND) {
        st = APR_SUCCESS;
    }
    if (st == APR_SUCCESS
        && (work->url == NULL || !is_same_email(work->email, work->config->email))) {
        st = complete(work);
    }
    return st;
}

/* The work of the one thread that looks; the mutex is not held. */
static apr_status_t run(acme_account_t *account, base_error_t *err)
{
    work_t work = { 0 };
    apr_status_t st;

    work.account = account;
    work.config = acme_client_config(account->client);
    work.err = err;
    st = apr_pool_create(&work.pool, account->pool);
    if (st != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_LOCAL, st, "no memory for the account");
    }
    st = look_for_account(&work);
    cache_unlock(work.lock);
    if (st == APR_SUCCESS) {
        apr_thread_mutex_lock(account->mutex);
        if (account->key == NULL) {
            account->key = work.key;
            work.key = NULL;
        }
        apr_cpystrn(account->url, work.url, sizeof(account->url));
        apr_cpystrn(account->thumbprint, work.thumbprint, sizeof(account->thumbprint));
        apr_thread_mutex_unlock(account->mutex);
        base_error_clear(err);
        base_log(BASE_LOG_DEBUG, "AC0208", NULL, "%s: using the account %s", work.config->name,
                 work.url);
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
        if (account->url[0] != '\0') {
            apr_thread_mutex_unlock(account->mutex);
            base_error_clear(err);
            return APR_SUCCESS;
        }
        if (waited && account->round != round) {
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
    st = run(account, err);
    apr_thread_mutex_lock(account->mutex);
    account->working = 0;
    account->round++;
    account->last = *err;
    apr_thread_mutex_unlock(account->mutex);
    return st;
}

/* The record too, or ensure() would find the refused URL there again. */
static void forget_record(acme_account_t *account, const char *url)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    apr_pool_t *pool;
    char *data = NULL;
    apr_size_t len = 0;

    if (apr_pool_create(&pool, account->pool) != APR_SUCCESS) {
        return;
    }
    if (cache_get(account->cache, AUTOCERT_CACHE_PRIVATE, account->record_name, &data, &len,
                  pool) == APR_SUCCESS) {
        json_t *json = base_json_parse_object(data, len, pool);
        const char *stored = base_json_string(json, "url");

        if (stored != NULL && strcmp(stored, url) == 0) {
            cache_remove(account->cache, AUTOCERT_CACHE_PRIVATE, account->record_name, pool);
            base_log(BASE_LOG_WARNING, "AC0209", NULL, "%s: the CA does not know the account %s "
                     "any more; the next order registers again", config->name, url);
        }
    }
    apr_pool_destroy(pool);
}

void acme_account_forget(acme_account_t *account, const char *url)
{
    forget_record(account, url);
    apr_thread_mutex_lock(account->mutex);
    if (strcmp(account->url, url) == 0) {
        account->url[0] = '\0';
    }
    apr_thread_mutex_unlock(account->mutex);
}

apr_status_t acme_account_post(acme_account_t *account, acme_client_request_t *request,
                               acme_client_answer_t *answer, apr_pool_t *pool,
                               base_error_t *err)
{
    base_error_t local;
    apr_status_t st;

    err = err != NULL ? err : &local;
    memset(answer, 0, sizeof(*answer));
    request->kid = acme_account_url(account, pool);
    if (request->kid == NULL) {
        st = acme_account_ensure(account, err);
        if (st != APR_SUCCESS) {
            return st;
        }
        request->kid = acme_account_url(account, pool);
    }
    if (request->kid == NULL) {
        return base_error_set(err, BASE_ERROR_GONE, APR_NOTFOUND, "the account is gone again");
    }
    request->key = account->key;
    st = acme_client_post(account->client, request, answer, pool, err);
    if (st != APR_SUCCESS && strcmp(err->type, "accountDoesNotExist") == 0) {
        acme_account_forget(account, request->kid);
    }
    return st;
}
