/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "acme/account.h"

#include <stdarg.h>
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
#define ASK_EVERY apr_time_from_sec(3600)   /* whether an account is alive, by one process */
#define ONLY_EXISTING "{\"onlyReturnExisting\":true}"

struct acme_account_t {
    acme_client_t *client;
    cache_t *cache;
    const char *key_name;               /* in the shared space */
    const char *record_name;            /* in the private space; also the lock's */
    const char *pending_name;           /* in the private space: a key that is to follow this one */
    apr_pool_t *pool;                   /* of its own, locked allocator: any thread may make
                                         * sub-pools */
    apr_thread_mutex_t *mutex;          /* guards all that follows; not held over disk, network */
    EVP_PKEY *key;                      /* who signs with it holds a reference */
    int stale;                          /* the cache has another key than key: to be read again */
    apr_time_t asked;                   /* when the CA was asked whether it is alive, 0: never */
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
    int reload;                         /* the key is read from the cache, not from memory */
    EVP_PKEY *key;                      /* owned until handed to the account */
    int is_made;                        /* it was made just now: no CA can know it */
    int is_fresh;                       /* it was made for this CA, and never came to be its account */
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
    a->pending_name = apr_pstrcat(pool, a->record_name, "+key", NULL);
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
    acme_account_t *account = work->account;
    const char *pem = work->config->account_pem;

    if (work->key != NULL) {
        return APR_SUCCESS;
    }
    if (!work->reload) {
        apr_thread_mutex_lock(account->mutex);
        if (account->key != NULL) {
            EVP_PKEY_up_ref(account->key);
            work->key = account->key;
        }
        apr_thread_mutex_unlock(account->mutex);
        if (work->key != NULL) {
            return APR_SUCCESS;
        }
    }
    if (pem != NULL) {
        return read_key(work, pem, strlen(pem), "of account=");
    }
    return load_key(work, account->key_name);
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
    work->is_fresh = 0;
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
        && strcmp(thumbprint, work->thumbprint) == 0) {
        if (acme_http_url_is_usable(url)) {
            work->url = url;
            work->email = base_json_string(json, "email");
        }
        work->is_fresh = url == NULL;
    }
}

static apr_status_t write_record(work_t *work)
{
    json_t *json = json_pack("{s:s, s:s*, s:s, s:s*}", "directory", work->config->directory_url,
                             "url", work->url, "thumbprint", work->thumbprint, "email",
                             work->email);
    const char *text = json != NULL ? base_json_dump(json, work->pool) : NULL;

    return text == NULL ? APR_EINVAL
                        : cache_put(work->account->cache, AUTOCERT_CACHE_PRIVATE,
                                    work->account->record_name, text, strlen(text), work->pool);
}

/* Losing the record costs one question to the CA: no error. */
static void store_record(work_t *work)
{
    if (write_record(work) != APR_SUCCESS) {
        base_log(BASE_LOG_WARNING, "AC0203", NULL, "%s: the account's URL could not be stored; "
                 "the CA is asked for it again after the next start", work->config->name);
    }
}

/* Under the lock: a new key, stored before it is used. The record without a URL that goes before it says that
 * the key is nobody's account yet, and so may still be exchanged for one that the CA can read; it
 * matters only where that happens. */
static apr_status_t make_new_key(work_t *work, crypto_key_type_t type)
{
    apr_status_t st;

    EVP_PKEY_free(work->key);
    work->key = NULL;
    work->url = work->email = NULL;
    st = crypto_key_generate(&work->key, type, work->err);
    if (st != APR_SUCCESS) {
        return st;
    }
    work->is_made = 1;
    work->thumbprint = crypto_jws_thumbprint(work->key, work->pool);
    write_record(work);
    return store_key(work, "made");
}

/* Under the lock: the legacy key under its new name, or a new one. */
static apr_status_t make_key(work_t *work)
{
    apr_status_t st = APR_NOTFOUND;

    if (work->config->first) {
        st = load_key(work, KEY_LEGACY);
        if (st == APR_SUCCESS) {
            return store_key(work, "copied " KEY_LEGACY " to");
        }
    }
    return st == APR_NOTFOUND ? make_new_key(work, CRYPTO_KEY_P256) : st;
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

/* Other words for a failure that otherwise stays what it is. */
__attribute__((format(printf, 2, 3)))
static void reword(base_error_t *err, const char *fmt, ...)
{
    char text[2 * BASE_ERROR_DETAIL_MAX];
    va_list args;

    va_start(args, fmt);
    apr_vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    base_error_copy_text(err->detail, sizeof(err->detail), text);
}

/* @param payload JSON text, NULL when there was no memory for it */
static apr_status_t post(work_t *work, EVP_PKEY *key, const char *url, const char *kid,
                         const char *payload, acme_client_answer_t *answer)
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
    return acme_client_post(work->account->client, &request, answer, work->pool, work->err);
}

/* Tell the CA the contact that is configured now. Not being able to must not stop orders;
 * an account that is gone is found out by them. */
static void update_contact(work_t *work)
{
    acme_client_answer_t answer;
    json_t *payload = json_pack("{s:o}", "contact", make_contact(work->config, work->pool));

    if (post(work, work->key, work->url, work->url,
             payload != NULL ? base_json_dump(payload, work->pool) : NULL, &answer) != APR_SUCCESS) {
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

/* For what a human can only get out of by another account. */
static void reword_as_dead(const acme_account_t *account, const char *url, base_error_t *err)
{
    const acme_client_config_t *config = acme_client_config(account->client);
    char words[BASE_ERROR_DETAIL_MAX];

    apr_cpystrn(words, err->detail, sizeof(words));
    err->kind = BASE_ERROR_OPERATOR;
    if (config->account_pem != NULL) {
        reword(err, "the CA has closed the account %.120s for good (%.120s): give account= another key",
               url != NULL ? url : "of this key", words);
    }
    else {
        reword(err, "the CA has closed the account %.120s for good (%.120s): remove %s from the cache, "
               "and a new one is made", url != NULL ? url : "of this key", words, account->key_name);
    }
}

/* Non-zero when the CA's words say it of the account, not of this request. */
static int mentions_dead(const base_error_t *err)
{
    return strcmp(err->type, "unauthorized") == 0 && strcasestr(err->detail, "account") != NULL
           && (strcasestr(err->detail, "deactivated") != NULL
               || strcasestr(err->detail, "revoked") != NULL);
}

/* Take the account that newAccount answered with. */
static apr_status_t accept_account(work_t *work, const acme_client_answer_t *answer)
{
    const char *status = base_json_string(answer->json, "status");
    int is_new = answer->http->status == 201;

    if (status != NULL && strcmp(status, "valid") != 0) {
        apr_status_t st = base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES,
                                         "it is %.40s", status);

        reword_as_dead(work->account, answer->location, work->err);
        return st;
    }
    if (answer->location == NULL) {
        return base_error_set(work->err, BASE_ERROR_CA_DOWN, APR_EGENERAL,
                              "the CA made an account but did not say where (no Location)");
    }
    work->url = answer->location;
    work->email = is_new ? work->config->email : NULL;
    base_log(BASE_LOG_NOTICE, "AC0207", NULL, "%s: %s the account %s%s%s", work->config->name,
             is_new ? "made" : "found", work->url,
             work->directory.terms_of_service != NULL ? ", agreed to " : "",
             work->directory.terms_of_service != NULL ? work->directory.terms_of_service : "");
    store_record(work);
    return APR_SUCCESS;
}

/* Whether the key has an account, which is made by no means. @return APR_NOTFOUND, err set, without one */
static apr_status_t find_account(work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st = post(work, work->key, work->directory.new_account, NULL, ONLY_EXISTING, &answer);

    if (st == APR_SUCCESS) {
        return accept_account(work, &answer);
    }
    /* Some CAs want the binding even for this question: then there is no account either. */
    return strcmp(work->err->type, "accountDoesNotExist") == 0
           || strcmp(work->err->type, "externalAccountRequired") == 0 ? APR_NOTFOUND : st;
}

/* The payload of newAccount; NULL when it cannot be made. */
static const char *write_registration(work_t *work)
{
    const acme_client_config_t *config = work->config;
    json_t *payload = json_object(), *binding;
    const char *jws = NULL;

    if (payload == NULL) {
        base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOMEM, "no memory for the account");
        return NULL;
    }
    if (work->directory.terms_of_service != NULL) {
        json_object_set_new(payload, "termsOfServiceAgreed", json_true());
    }
    if (config->email != NULL) {
        json_object_set_new(payload, "contact", make_contact(config, work->pool));
    }
    if (config->eab_kid != NULL) {
        if (crypto_jws_sign_binding(&jws, work->key, config->eab_kid, config->eab_key,
                                    work->directory.new_account, work->pool, work->err) != APR_SUCCESS) {
            json_decref(payload);
            return NULL;
        }
        binding = base_json_parse_object(jws, strlen(jws), work->pool);
        json_object_set(payload, "externalAccountBinding", binding);
    }
    return base_json_dump(payload, work->pool);
}

/* Non-zero when the CA cannot read the signatures of our usual keys, but those of RSA ones. */
static int wants_rsa(const base_error_t *err, const acme_client_answer_t *answer)
{
    json_t *list = base_json_array(answer->problem, "algorithms");
    int has_rsa = 0, has_ec = 0;
    size_t i;

    for (i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));

        has_rsa |= word != NULL && strcmp(word, "RS256") == 0;
        has_ec |= word != NULL && strcmp(word, "ES256") == 0;
    }
    return strcmp(err->type, "badSignatureAlgorithm") == 0 && has_rsa && !has_ec;
}

#define DEMAND_BINDING "the CA makes accounts only for its customers (external account binding): get a key " \
    "id and a MAC key from it, write them into a file and that into the configuration: " \
    "\"AutocertCA ... eab=FILE\""

/* Say what is to be done about a refusal to make an account. */
static void explain_refusal(work_t *work)
{
    base_error_t *err = work->err;
    char words[BASE_ERROR_DETAIL_MAX];
    static const char *const of_binding[] = {
        "unauthorized", "malformed", "externalAccountRequired", "badPublicKey"
    };
    size_t i;

    apr_cpystrn(words, err->detail, sizeof(words));
    if (mentions_dead(err)) {
        reword_as_dead(work->account, NULL, err);
        return;
    }
    if (work->config->eab_kid == NULL) {
        if (strcmp(err->type, "externalAccountRequired") == 0) {
            reword(err, DEMAND_BINDING " (%.150s)", words);
        }
        return;
    }
    for (i = 0; i < sizeof(of_binding) / sizeof(of_binding[0]); i++) {
        if (strcmp(err->type, of_binding[i]) == 0) {
            reword(err, "the CA did not make an account with the external account binding of key id "
                   "%.100s: %.250s; if it was used before or is wrong, get a new one and change the file "
                   "of eab=", work->config->eab_kid, words);
            return;
        }
    }
}

static apr_status_t register_account(work_t *work, acme_client_answer_t *answer)
{
    const char *payload = write_registration(work);

    memset(answer, 0, sizeof(*answer));
    if (payload == NULL) {
        return work->err->status;
    }
    return post(work, work->key, work->directory.new_account, NULL, payload, answer);
}

/* A known key gets its old account back, contact unchanged (RFC 8555 section 7.3.1). Bindings are often
 * good for one time only: one is not spent on an account that is there, such as one whose making was
 * not noted before a crash. */
static apr_status_t create_account(work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st;

    if ((work->config->eab_kid != NULL || work->directory.external_account_required) && !work->is_made) {
        st = find_account(work);
        if (st != APR_NOTFOUND) {
            return st;
        }
    }
    if (work->directory.external_account_required && work->config->eab_kid == NULL) {
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_EACCES, "%s", DEMAND_BINDING);
    }
    st = register_account(work, &answer);
    if (st != APR_SUCCESS && (work->is_made || work->is_fresh) && !crypto_key_is_rsa(work->key)
        && wants_rsa(work->err, &answer)) {
        base_log(BASE_LOG_WARNING, "AC0238", NULL, "%s: the CA takes only RSA account keys; the new account "
                 "gets one", work->config->name);
        st = make_new_key(work, CRYPTO_KEY_RSA2048);
        if (st == APR_SUCCESS) {
            st = register_account(work, &answer);
        }
    }
    if (st != APR_SUCCESS) {
        explain_refusal(work);
        return st;
    }
    return accept_account(work, &answer);
}

/* ---- another key for the account (RFC 8555 section 7.3.5) ---- */

/* A key that the CA was asked, or was to be asked, to take for the account. */
typedef struct pending_t {
    EVP_PKEY *key;
    const char *thumbprint;
    const char *old;                    /* thumbprint of the key it is to follow */
    const char *url;                    /* of the account */
} pending_t;

/* A line of JSON, then the key as PEM: whoever finds it can use it. */
static apr_status_t store_pending(work_t *work, const pending_t *pending)
{
    acme_account_t *account = work->account;
    json_t *json = json_pack("{s:s, s:s, s:s}", "directory", work->config->directory_url, "url",
                             pending->url, "old", pending->old);
    const char *head = json != NULL ? base_json_dump(json, work->pool) : NULL;
    char *pem = NULL, *text;
    apr_size_t len = 0;
    apr_status_t st = crypto_key_write(&pem, &len, pending->key, work->pool, work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    text = apr_pstrcat(work->pool, head != NULL ? head : "", "\n", pem, NULL);
    st = head == NULL ? APR_ENOMEM
                      : cache_put(account->cache, AUTOCERT_CACHE_PRIVATE, account->pending_name, text,
                                  strlen(text), work->pool);
    OPENSSL_cleanse(text, strlen(text));
    if (st != APR_SUCCESS) {
        return base_error_set(work->err, BASE_ERROR_LOCAL, st, "the account's new key cannot be stored in "
                              "the cache, so the CA is not asked for the change");
    }
    return st;
}

static void remove_pending(work_t *work)
{
    cache_remove(work->account->cache, AUTOCERT_CACHE_PRIVATE, work->account->pending_name, work->pool);
}

static int has_pending(const work_t *work)
{
    autocert_cache_stat_t stat;

    return work->config->account_pem == NULL
           && cache_stat(work->account->cache, AUTOCERT_CACHE_PRIVATE, work->account->pending_name, &stat,
                         work->pool) == APR_SUCCESS;
}

/* @return APR_NOTFOUND when there is none for this directory, or none that can be read */
static apr_status_t load_pending(work_t *work, pending_t *pending)
{
    char *data = NULL, *end;
    apr_size_t len = 0;
    apr_status_t st = APR_NOTFOUND;
    const char *directory;
    json_t *json;

    memset(pending, 0, sizeof(*pending));
    if (cache_get(work->account->cache, AUTOCERT_CACHE_PRIVATE, work->account->pending_name, &data, &len,
                  work->pool) != APR_SUCCESS) {
        return APR_NOTFOUND;
    }
    end = memchr(data, '\n', len);
    if (end != NULL) {
        json = base_json_parse_object(data, (apr_size_t)(end - data), work->pool);
        directory = base_json_string(json, "directory");
        pending->url = base_json_string(json, "url");
        pending->old = base_json_string(json, "old");
        if (directory != NULL && strcmp(directory, work->config->directory_url) == 0
            && pending->old != NULL && acme_http_url_is_usable(pending->url)) {
            st = crypto_key_read(&pending->key, end, len - (apr_size_t)(end - data), NULL);
        }
    }
    OPENSSL_cleanse(data, len);
    if (st == APR_SUCCESS) {
        pending->thumbprint = crypto_jws_thumbprint(pending->key, work->pool);
    }
    return st == APR_SUCCESS && pending->thumbprint != NULL ? st : APR_NOTFOUND;
}

/* The CA knows the account by the pending key: that is the account's from now on. What was pending goes
 * last, so that each step can be done again. */
static apr_status_t adopt_pending(work_t *work, pending_t *pending)
{
    EVP_PKEY *old = work->key;
    apr_status_t st = APR_SUCCESS;

    work->key = pending->key;
    if (strcmp(work->thumbprint, pending->thumbprint) != 0) {
        st = store_key(work, "changed");
    }
    if (st != APR_SUCCESS) {
        work->key = old;
        return st;
    }
    EVP_PKEY_free(old);
    pending->key = NULL;
    /* The contact is told to the CA once more rather than lost. */
    if (work->url == NULL || strcmp(work->url, pending->url) != 0) {
        work->email = NULL;
    }
    work->url = pending->url;
    work->thumbprint = pending->thumbprint;
    store_record(work);
    remove_pending(work);
    return APR_SUCCESS;
}

/* Non-zero when the CA had a look at the request and said no. */
static int is_no(const base_error_t *err)
{
    return err->kind == BASE_ERROR_OPERATOR || err->kind == BASE_ERROR_GONE;
}

/* Does the CA take this key for the account? Asked in two ways: not every CA lets an account be read, and
 * changed terms may stand before it. */
static apr_status_t probe_key(work_t *work, EVP_PKEY *key, const char *url)
{
    acme_client_answer_t answer;
    base_error_t refusal;
    apr_status_t st = post(work, key, url, url, "", &answer);

    if (st == APR_SUCCESS || !is_no(work->err) || strcmp(work->err->type, "accountDoesNotExist") == 0) {
        return st;
    }
    refusal = *work->err;
    st = post(work, key, work->directory.new_account, NULL, ONLY_EXISTING, &answer);
    if (st == APR_SUCCESS && answer.location != NULL && strcmp(answer.location, url) == 0) {
        return APR_SUCCESS;
    }
    if (st == APR_SUCCESS || is_no(work->err)) {
        *work->err = refusal;
        st = refusal.status;
    }
    return st;
}

/* Under the lock, with the key of the cache: which of two keys the CA has is found out from itself. A pending
 * one is given up only when the CA is seen to take the other one, or to have lost the account. */
static apr_status_t decide_pending(work_t *work, pending_t *pending)
{
    apr_status_t st;

    if (strcmp(pending->thumbprint, work->thumbprint) == 0) {
        return adopt_pending(work, pending);
    }
    if (strcmp(pending->old, work->thumbprint) != 0) {
        base_log(BASE_LOG_WARNING, "AC0236", NULL, "%s: the account key was replaced while a change of it "
                 "was not finished; the change is given up", work->config->name);
        remove_pending(work);
        return APR_SUCCESS;
    }
    st = probe_key(work, pending->key, pending->url);
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_NOTICE, "AC0236", NULL, "%s: the CA has made the change of the account key that "
                 "was not finished here; the new key is used", work->config->name);
        return adopt_pending(work, pending);
    }
    if (!is_no(work->err)) {
        return st;
    }
    st = probe_key(work, work->key, pending->url);
    if (st == APR_SUCCESS || strcmp(work->err->type, "accountDoesNotExist") == 0) {
        base_log(BASE_LOG_NOTICE, "AC0236", NULL, "%s: the CA has not made the change of the account key "
                 "that was not finished here; the old key stays", work->config->name);
        remove_pending(work);
        base_error_clear(work->err);
        return APR_SUCCESS;
    }
    if (mentions_dead(work->err)) {
        reword_as_dead(work->account, pending->url, work->err);
    }
    return st;
}

static apr_status_t settle_pending(work_t *work)
{
    pending_t pending;
    apr_status_t st = load_pending(work, &pending);

    if (st == APR_SUCCESS) {
        st = decide_pending(work, &pending);
    }
    else {
        st = APR_SUCCESS;
    }
    EVP_PKEY_free(pending.key);
    return st;
}

/* Signed twice: by the new key, that we have it; by the old one, that it may follow. */
static const char *write_key_change(work_t *work, const pending_t *pending)
{
    crypto_jws_header_t header = { NULL, work->directory.key_change, NULL };
    const char *jwk = crypto_jws_jwk(work->key, work->pool), *inner = NULL, *text;
    json_t *json = jwk == NULL ? NULL
                   : json_pack("{s:s, s:o}", "account", pending->url, "oldKey", json_loads(jwk, 0, NULL));

    text = json != NULL ? base_json_dump(json, work->pool) : NULL;
    if (text == NULL || crypto_jws_sign(&inner, pending->key, &header, text, work->pool, work->err)
                            != APR_SUCCESS) {
        return NULL;
    }
    return inner;
}

/* Ask for it. Whatever came back instead of a yes, the CA is asked afterwards which key it has now: a request
 * may have been done although its answer was lost, and may have been refused only when repeated. */
static apr_status_t ask_for_change(work_t *work, pending_t *pending, acme_client_answer_t *answer)
{
    base_error_t refusal;
    apr_status_t st = post(work, work->key, work->directory.key_change, pending->url,
                           write_key_change(work, pending), answer);

    if (st == APR_SUCCESS) {
        return adopt_pending(work, pending);
    }
    refusal = *work->err;
    if (refusal.kind == BASE_ERROR_CANCELLED) {
        return st;
    }
    st = settle_pending(work);
    if (st != APR_SUCCESS) {
        /* Not what a repeated request was told counts, but that nobody knows yet. */
        reword(work->err, "%.300s; whether the CA has changed the key all the same is found out by the next "
               "request", refusal.detail);
        return work->err->status;
    }
    if (strcmp(work->thumbprint, pending->thumbprint) == 0) {
        return APR_SUCCESS;
    }
    *work->err = refusal;
    return work->err->status;
}

static apr_status_t change_key(work_t *work, crypto_key_type_t type, acme_client_answer_t *answer)
{
    pending_t pending = { NULL, NULL, work->thumbprint, work->url };
    apr_status_t st = crypto_key_generate(&pending.key, type, work->err);

    memset(answer, 0, sizeof(*answer));
    if (st == APR_SUCCESS) {
        pending.thumbprint = crypto_jws_thumbprint(pending.key, work->pool);
        st = store_pending(work, &pending);
    }
    if (st == APR_SUCCESS) {
        st = ask_for_change(work, &pending, answer);
    }
    EVP_PKEY_free(pending.key);
    return st;
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

/* What another process may have changed is read again under the lock. */
static void read_anew(work_t *work)
{
    EVP_PKEY_free(work->key);
    work->key = NULL;
    work->reload = 1;
}

/* What must be changed is changed under the lock, after another look. */
static apr_status_t complete(work_t *work)
{
    apr_status_t st = take_lock(work);

    if (st != APR_SUCCESS) {
        return work->url != NULL && work->err->kind == BASE_ERROR_BUSY ? APR_SUCCESS : st;
    }
    read_anew(work);
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
        st = has_pending(work) ? settle_pending(work) : APR_SUCCESS;
    }
    if (st == APR_SUCCESS) {
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
        && (work->url == NULL || !is_same_email(work->email, work->config->email)
            || has_pending(work))) {
        st = complete(work);
    }
    return st;
}

/* Under the lock. */
static apr_status_t roll_locked(work_t *work)
{
    acme_client_answer_t answer;
    apr_status_t st;

    read_anew(work);
    st = find_key(work);
    if (st != APR_SUCCESS) {
        return st != APR_NOTFOUND ? st
               : base_error_set(work->err, BASE_ERROR_LOCAL, APR_ENOENT, "the account key %s is not in the "
                                "cache any more", work->account->key_name);
    }
    find_record(work);
    st = has_pending(work) ? settle_pending(work) : APR_SUCCESS;
    if (st == APR_SUCCESS && work->url == NULL) {
        /* Another process changed it, or could not note it: the CA knows. */
        st = find_account(work);
    }
    if (st != APR_SUCCESS) {
        return st == APR_NOTFOUND ? work->err->status : st;
    }
    st = change_key(work, CRYPTO_KEY_P256, &answer);
    if (st != APR_SUCCESS && crypto_key_is_rsa(work->key) && wants_rsa(work->err, &answer)
        && !has_pending(work)) {
        st = change_key(work, CRYPTO_KEY_RSA2048, &answer);
    }
    return st;
}

static apr_status_t roll(work_t *work)
{
    apr_status_t st = acme_client_directory(work->account->client, &work->directory, work->pool,
                                            work->err);

    if (st != APR_SUCCESS) {
        return st;
    }
    if (work->directory.key_change == NULL) {
        return base_error_set(work->err, BASE_ERROR_OPERATOR, APR_ENOTIMPL, "this CA cannot change account "
                              "keys (its directory has no keyChange)");
    }
    st = take_lock(work);
    return st == APR_SUCCESS ? roll_locked(work) : st;
}

/* Make what was found known to all threads. */
static void publish(work_t *work)
{
    acme_account_t *account = work->account;
    EVP_PKEY *old;

    apr_thread_mutex_lock(account->mutex);
    old = account->key;
    account->key = work->key;
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

/* One piece of work, from nothing to what is known of it; the mutex is not held. */
static apr_status_t run(acme_account_t *account, apr_status_t (*task)(work_t *work), base_error_t *err)
{
    work_t work = { 0 };
    apr_status_t st;

    work.account = account;
    work.config = acme_client_config(account->client);
    work.err = err;
    apr_thread_mutex_lock(account->mutex);
    work.reload = account->stale;
    apr_thread_mutex_unlock(account->mutex);
    st = apr_pool_create(&work.pool, account->pool);
    if (st != APR_SUCCESS) {
        return base_error_set(err, BASE_ERROR_LOCAL, st, "no memory for the account");
    }
    st = task(&work);
    cache_unlock(work.lock);
    if (st == APR_SUCCESS) {
        publish(&work);
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
        st = run(account, roll, err);
    }
    if (st == APR_SUCCESS) {
        base_log(BASE_LOG_NOTICE, "AC0235", NULL, "%s: the account has a new key, %s; back it up",
                 config->name, account->key_name);
    }
    return st;
}

/* ---- requests ---- */

/* Non-zero for answers that a request gets when its key is not the account's. */
static int is_refused(const base_error_t *err)
{
    static const char *const types[] = {
        "unauthorized", "malformed", "badPublicKey", "badSignatureAlgorithm", "accountDoesNotExist"
    };
    size_t i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(err->type, types[i]) == 0) {
            return is_no(err);
        }
    }
    return is_no(err) && (err->http_status == 401 || err->http_status == 403);
}

/* The key in the cache. @return APR_NOTFOUND without one */
static apr_status_t peek_key(acme_account_t *account, EVP_PKEY **key, apr_pool_t *pool)
{
    base_error_t err;
    work_t work = { 0 };
    apr_status_t st;

    work.account = account;
    work.config = acme_client_config(account->client);
    work.pool = pool;
    work.err = &err;
    st = load_key(&work, account->key_name);
    *key = work.key;
    return st;
}

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
    int changed;

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
    if (ours != NULL && peek_key(account, &theirs, pool) == APR_SUCCESS) {
        other = crypto_jws_thumbprint(theirs, pool);
        changed = other != NULL && strcmp(ours, other) != 0;
    }
    EVP_PKEY_free(theirs);
    if (changed || cache_stat(account->cache, AUTOCERT_CACHE_PRIVATE, account->pending_name, &stat, pool)
                       == APR_SUCCESS) {
        base_log(BASE_LOG_INFO, "AC0237", NULL, "%s: the CA does not take the account key any more, and the "
                 "cache has %s; looked at again", config->name, changed ? "another" : "one to follow it");
        changed = 1;
        mark_stale(account);
    }
    return changed;
}

/* Ask the CA whether the key has an account that is in order: not all say so in their refusals. */
static int ask_whether_dead(acme_account_t *account, EVP_PKEY *key, apr_pool_t *pool)
{
    acme_client_request_t request = { 0 };
    acme_client_directory_t directory;
    acme_client_answer_t answer;
    apr_time_t now = acme_client_now(account->client);
    base_error_t err;
    const char *status;
    int recently;

    apr_thread_mutex_lock(account->mutex);
    recently = account->asked != 0 && now >= account->asked && now - account->asked < ASK_EVERY;
    if (!recently) {
        account->asked = now;
    }
    apr_thread_mutex_unlock(account->mutex);
    if (recently || acme_client_directory(account->client, &directory, pool, &err) != APR_SUCCESS) {
        return 0;
    }
    request.url = directory.new_account;
    request.key = key;
    request.payload = ONLY_EXISTING;
    if (acme_client_post(account->client, &request, &answer, pool, &err) != APR_SUCCESS) {
        return strcmp(err.type, "unauthorized") == 0;
    }
    status = base_json_string(answer.json, "status");
    return status != NULL && strcmp(status, "valid") != 0;
}

/* A refused request, and no other key to try: is it the account that is refused? */
static void judge_account(acme_account_t *account, EVP_PKEY *key, const char *url, apr_pool_t *pool,
                          base_error_t *err)
{
    EVP_PKEY *cached = NULL;

    if (strcmp(err->type, "unauthorized") != 0
        || !(mentions_dead(err) || ask_whether_dead(account, key, pool))) {
        return;
    }
    reword_as_dead(account, url, err);
    /* Somebody has followed that advice already: memory must not keep the old one alive. */
    if (acme_client_config(account->client)->account_pem == NULL
        && peek_key(account, &cached, pool) == APR_NOTFOUND) {
        mark_stale(account);
    }
    EVP_PKEY_free(cached);
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
        followed = st != APR_SUCCESS && again && is_refused(err) && follow_key(account, request->key, pool);
        if (st != APR_SUCCESS && !followed && strcmp(err->type, "accountDoesNotExist") == 0) {
            acme_account_forget(account, request->kid);
        }
        else if (st != APR_SUCCESS && !followed) {
            judge_account(account, request->key, request->kid, pool, err);
        }
        EVP_PKEY_free(request->key);
        request->key = NULL;
        again = 0;
    } while (followed);
    return st;
}
