/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "manager/saved.h"
#include "test_acme_script.h"

#define KEY "a.example+order"
#define RSA_KEY "a.example+rsa+order"
#define NOW apr_time_from_sec(1700000000)
#define ORDER "https://ca.example/order/1"
#define CHALLENGE "https://ca.example/challenge/1"
#define TOKEN "abcdefghijklmnopqrstuvwx"

static const manager_policy_settings_t settings = { .key_types = { CRYPTO_KEY_P256, CRYPTO_KEY_RSA2048 },
                                                    .kinds = 2 };
static const manager_policy_settings_t other_curve = { .key_types = { CRYPTO_KEY_P384 }, .kinds = 1 };
static const manager_policy_name_t a_name = { .name = "a.example", .settings = &settings };
static const manager_policy_name_t rsa_name = { .name = "a.example", .settings = &settings, .kind = 1 };

/* Two CAs: the first is the scripted one, with an account. */
typedef struct fixture_t {
    script_fixture_t *script;
    manager_ca_config_t config, other_config;
    manager_ca_t ca, other_ca;
    manager_order_context_t context;
    acme_order_t order;
    manager_job_t job, again;
} fixture_t;

static fixture_t fixture;

/* A job as manager_order_run() begins it. */
static void begin_job(manager_job_t *job, const manager_policy_name_t *name, const manager_ca_t *ca)
{
    memset(job, 0, sizeof(*job));
    job->context = &fixture.context;
    job->name = name;
    job->ca = ca;
    job->pool = fixture.script->pool;
}

static int set_up(void **state)
{
    fixture_t *f = &fixture;
    apr_array_header_t *configs;

    memset(f, 0, sizeof(*f));
    f->script = script_set_up(state);
    *state = f;
    script_add(f->script->script, "POST /account", 201, "Location: /acct/1\r\n", "{}");
    assert_int_equal(acme_account_ensure(f->script->account, &f->script->err), APR_SUCCESS);
    f->config.acme = *f->script->config;
    f->other_config.acme = *f->script->config;
    f->other_config.acme.directory_url = "https://other.example/dir";
    f->ca.config = &f->config;
    f->other_ca.config = &f->other_config;
    f->ca.account = f->other_ca.account = f->script->account;
    configs = apr_array_make(f->script->pool, 2, sizeof(const manager_ca_config_t *));
    APR_ARRAY_PUSH(configs, const manager_ca_config_t *) = &f->other_config;
    APR_ARRAY_PUSH(configs, const manager_ca_config_t *) = &f->config;
    f->context.cache = f->script->cache;
    f->context.configs = configs;
    f->order.url = ORDER;
    begin_job(&f->job, &a_name, &f->ca);
    assert_int_equal(crypto_key_generate(&f->job.key, CRYPTO_KEY_P256, NULL), APR_SUCCESS);
    begin_job(&f->again, &a_name, &f->ca);
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;
    void *script = f->script;

    EVP_PKEY_free(f->job.key);
    EVP_PKEY_free(f->again.key);
    return script_tear_down(&script);
}

static void store(fixture_t *f)
{
    assert_int_equal(manager_saved_store(&f->job, &f->script->err), APR_SUCCESS);
}

/* As the next process reads it. */
static apr_status_t load(fixture_t *f, const char **url)
{
    *url = "untouched";
    return manager_saved_load(&f->again, url);
}

static int has_record(fixture_t *f, const char *key)
{
    autocert_cache_stat_t st;

    return cache_stat(f->script->cache, AUTOCERT_CACHE_PRIVATE, key, &st, f->script->pool) == APR_SUCCESS;
}

static const char *text_of(EVP_PKEY *key)
{
    char *pem = NULL;
    apr_size_t len = 0;

    assert_non_null(key);
    assert_int_equal(crypto_key_write(&pem, &len, key, fixture.script->pool, NULL), APR_SUCCESS);
    return apr_pstrndup(fixture.script->pool, pem, len);
}

static int is_same_key(EVP_PKEY *a, EVP_PKEY *b)
{
    return strcmp(text_of(a), text_of(b)) == 0;
}

/* Nothing is taken, and the job is as before, but for the challenge whose answer is to be withdrawn. */
static void assert_not_taken(fixture_t *f)
{
    manager_job_t before = f->again;
    const char *url;

    assert_int_equal(load(f, &url), APR_NOTFOUND);
    assert_null(url);
    before.asked = f->again.asked;
    before.asked_type = f->again.asked_type;
    before.asked_token = f->again.asked_token;
    assert_memory_equal(&f->again, &before, sizeof(before));
}

/* --- Round trips --- */

static void test_an_intention(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.placed_at = NOW;
    store(f);
    assert_int_equal(load(f, &url), APR_SUCCESS);
    assert_null(url);
    assert_true(f->again.placed_at == NOW);
    assert_true(is_same_key(f->again.key, f->job.key));
    assert_null(f->again.asked);
    assert_null(f->again.asked_type);
    assert_null(f->again.asked_token);
    assert_true(f->again.asked_at == 0);
    assert_int_equal(f->again.interruptions, 0);
}

static void test_an_order(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.placed_at = NOW;
    f->job.order = &f->order;
    f->job.asked = CHALLENGE;
    f->job.asked_type = "http-01";
    f->job.asked_token = TOKEN;
    f->job.asked_at = NOW + apr_time_from_sec(5);
    f->job.interruptions = 2;
    store(f);
    assert_int_equal(load(f, &url), APR_SUCCESS);
    assert_string_equal(url, ORDER);
    assert_true(is_same_key(f->again.key, f->job.key));
    assert_true(f->again.placed_at == NOW);
    assert_string_equal(f->again.asked, CHALLENGE);
    assert_string_equal(f->again.asked_type, "http-01");
    assert_string_equal(f->again.asked_token, TOKEN);
    assert_true(f->again.asked_at == NOW + apr_time_from_sec(5));
    assert_int_equal(f->again.interruptions, 2);
}

/* What is known later replaces what was known before. */
static void test_an_intention_becomes_an_order(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.placed_at = NOW;
    store(f);
    f->job.order = &f->order;
    store(f);
    assert_int_equal(load(f, &url), APR_SUCCESS);
    assert_string_equal(url, ORDER);
    assert_null(f->again.asked);
}

/* Two kinds of key of one name are two orders. */
static void test_each_kind_has_its_own(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.order = &f->order;
    store(f);
    assert_true(has_record(f, KEY));
    assert_false(has_record(f, RSA_KEY));
    f->again.name = &rsa_name;
    assert_not_taken(f);
    EVP_PKEY_free(f->job.key);
    f->job.key = NULL;
    assert_int_equal(crypto_key_generate(&f->job.key, CRYPTO_KEY_RSA2048, NULL), APR_SUCCESS);
    f->job.name = &rsa_name;
    store(f);
    assert_true(has_record(f, RSA_KEY));
    assert_int_equal(load(f, &url), APR_SUCCESS);
    assert_true(is_same_key(f->again.key, f->job.key));
}

/* --- What this job cannot go on with --- */

static void test_none(void **state)
{
    fixture_t *f = *state;

    assert_not_taken(f);
}

static void test_another_ca(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.placed_at = NOW;
    f->job.order = &f->order;
    store(f);
    f->again.ca = &f->other_ca;
    assert_not_taken(f);
    assert_null(f->again.asked_token);
    /* it is there still, for a job that goes to its CA */
    f->again.ca = &f->ca;
    assert_int_equal(load(f, &url), APR_SUCCESS);
}

static void test_another_account(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.order = &f->order;
    f->job.asked = CHALLENGE;
    f->job.asked_type = "http-01";
    f->job.asked_token = TOKEN;
    store(f);
    script_drop(f->script->script, "POST /account");
    script_add(f->script->script, "POST /account", 201, "Location: /acct/2\r\n", "{}");
    acme_account_forget(f->script->account, acme_account_url(f->script->account, f->script->pool));
    /* nobody knows yet which one it is */
    assert_not_taken(f);
    assert_int_equal(acme_account_ensure(f->script->account, &f->script->err), APR_SUCCESS);
    assert_not_taken(f);
    /* what it left published is to be withdrawn all the same */
    assert_string_equal(f->again.asked_type, "http-01");
    assert_string_equal(f->again.asked_token, TOKEN);
    store(f);
    assert_int_equal(load(f, &url), APR_SUCCESS);
}

static void test_another_type_of_key(void **state)
{
    static const manager_policy_name_t name = { .name = "a.example", .settings = &other_curve };
    fixture_t *f = *state;

    f->job.order = &f->order;
    store(f);
    f->again.name = &name;
    assert_not_taken(f);
}

/* The record of f->job with one member set to a JSON text, or left out. */
static void put_changed(fixture_t *f, const char *member, const char *value)
{
    apr_pool_t *pool = f->script->pool;
    char *data = NULL;
    const char *text;
    apr_size_t len = 0;
    json_t *record;

    store(f);
    assert_int_equal(cache_get(f->script->cache, AUTOCERT_CACHE_PRIVATE, KEY, &data, &len, pool),
                     APR_SUCCESS);
    record = json_loadb(data, len, 0, NULL);
    assert_non_null(record);
    if (value != NULL) {
        json_object_set_new(record, member, json_loads(value, JSON_DECODE_ANY, NULL));
    }
    else {
        json_object_del(record, member);
    }
    text = base_json_dump(record, pool);
    assert_int_equal(cache_put(f->script->cache, AUTOCERT_CACHE_PRIVATE, KEY, text, strlen(text), pool),
                     APR_SUCCESS);
}

static void test_records_that_cannot_be(void **state)
{
    static const char *const records[] = { "", "{", "[]", "null", "{}", "{\"v\":1}", "\xff\xfe" };
    static const struct {
        const char *member, *value;
    } changes[] = {
        { "v", NULL }, { "v", "2" }, { "v", "\"1\"" },
        { "ca", NULL }, { "ca", "7" }, { "ca", "\"\"" },
        { "account", NULL }, { "account", "[]" }, { "account", "\"\"" },
        { "key", NULL }, { "key", "7" }, { "key", "\"\"" }, { "key", "\"-----BEGIN PRIVATE KEY-----\"" },
        { "key", "\"-----BEGIN EC PRIVATE KEY-----\\nMAo=\\n-----END EC PRIVATE KEY-----\\n\"" },
        { "key", "\"-----BEGIN CERTIFICATE-----\\nMAo=\\n-----END CERTIFICATE-----\\n\"" },
        { "order", NULL }      /* nor was there an intention */
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        cache_put(f->script->cache, AUTOCERT_CACHE_PRIVATE, KEY, records[i], strlen(records[i]),
                  f->script->pool);
        assert_not_taken(f);
        assert_int_equal(manager_saved_ca(&f->context, &a_name, f->script->pool), -1);
    }
    f->job.order = &f->order;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        put_changed(f, changes[i].member, changes[i].value);
        assert_not_taken(f);
    }
}

/* Members that are no good are not there. */
static void test_members_that_cannot_be(void **state)
{
    static const char *const moments[] = { "-1", "9223372036854775807", "\"1700000000\"", "1.5", "null" };
    static const char *const counts[] = { "-1", "-2147483648", "2147483648", "9223372036854775807" };
    fixture_t *f = *state;
    const char *url;

    f->job.order = &f->order;
    f->job.placed_at = f->job.asked_at = NOW;
    f->job.asked = CHALLENGE;
    f->job.asked_type = "http-01";
    f->job.asked_token = TOKEN;
    for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
        put_changed(f, "placed", moments[i]);
        assert_int_equal(load(f, &url), APR_SUCCESS);
        assert_true(f->again.placed_at == 0);
        EVP_PKEY_free(f->again.key);
        put_changed(f, "asked_at", moments[i]);
        assert_int_equal(load(f, &url), APR_SUCCESS);
        assert_true(f->again.placed_at == NOW);
        assert_true(f->again.asked_at == 0);
        EVP_PKEY_free(f->again.key);
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        put_changed(f, "interruptions", counts[i]);
        assert_int_equal(load(f, &url), APR_SUCCESS);
        assert_true(f->again.interruptions > 3 && f->again.interruptions < 1000000);
        EVP_PKEY_free(f->again.key);
    }
    /* a challenge without a URL is none */
    put_changed(f, "asked", "[]");
    assert_int_equal(load(f, &url), APR_SUCCESS);
    assert_null(f->again.asked);
    assert_null(f->again.asked_type);
    assert_null(f->again.asked_token);
    /* neither URL nor the time of an intention */
    f->job.order = NULL;
    EVP_PKEY_free(f->again.key);
    begin_job(&f->again, &a_name, &f->ca);
    put_changed(f, "placed", "-1");
    assert_not_taken(f);
}

/* --- Its end --- */

static void test_forget(void **state)
{
    fixture_t *f = *state;
    const char *url;

    f->job.order = &f->order;
    f->job.placed_at = NOW;
    f->job.asked = CHALLENGE;
    f->job.asked_type = "http-01";
    f->job.asked_token = TOKEN;
    f->job.interruptions = 2;
    store(f);
    assert_int_equal(load(f, &url), APR_SUCCESS);
    f->again.order = &f->order;
    manager_saved_forget(&f->again);
    assert_false(has_record(f, KEY));
    assert_null(f->again.key);
    assert_null(f->again.order);
    assert_null(f->again.asked);
    assert_null(f->again.asked_type);
    assert_null(f->again.asked_token);
    assert_true(f->again.placed_at == 0);
    assert_int_equal(f->again.interruptions, 0);
    /* nothing to forget is fine */
    manager_saved_forget(&f->again);
    assert_not_taken(f);
}

static void test_whose_it_is(void **state)
{
    fixture_t *f = *state;
    apr_pool_t *pool = f->script->pool;

    assert_false(manager_saved_exists(&f->context, &a_name, pool));
    assert_int_equal(manager_saved_ca(&f->context, &a_name, pool), -1);
    f->job.placed_at = NOW;
    store(f);
    assert_true(manager_saved_exists(&f->context, &a_name, pool));
    assert_int_equal(manager_saved_ca(&f->context, &a_name, pool), 1);
    assert_false(manager_saved_exists(&f->context, &rsa_name, pool));
    assert_int_equal(manager_saved_ca(&f->context, &rsa_name, pool), -1);
    f->job.ca = &f->other_ca;
    store(f);
    assert_int_equal(manager_saved_ca(&f->context, &a_name, pool), 0);
    /* a CA that left the configuration */
    f->other_config.acme.directory_url = "https://third.example/dir";
    assert_int_equal(manager_saved_ca(&f->context, &a_name, pool), -1);
    assert_true(manager_saved_exists(&f->context, &a_name, pool));
}

static void test_tidy(void **state)
{
    fixture_t *f = *state;
    cache_lock_t *lock = NULL;

    f->job.order = &f->order;
    store(f);
    /* somebody is at work */
    assert_int_equal(cache_lock(f->script->cache, "a.example", &lock), APR_SUCCESS);
    manager_saved_tidy(&f->context, &a_name, f->script->pool);
    assert_true(has_record(f, KEY));
    cache_unlock(lock);
    /* the other kind of key is another order */
    manager_saved_tidy(&f->context, &rsa_name, f->script->pool);
    assert_true(has_record(f, KEY));
    manager_saved_tidy(&f->context, &a_name, f->script->pool);
    assert_false(has_record(f, KEY));
    /* and the lock was given back */
    assert_int_equal(cache_lock(f->script->cache, "a.example", &lock), APR_SUCCESS);
    cache_unlock(lock);
}

static void test_what_cannot_be_stored(void **state)
{
    static const manager_policy_name_t bad = { .name = "../a", .settings = &settings };
    fixture_t *f = *state;

    f->job.placed_at = NOW;
    f->job.name = &bad;
    assert_int_not_equal(manager_saved_store(&f->job, &f->script->err), APR_SUCCESS);
    assert_int_equal(f->script->err.kind, BASE_ERROR_LOCAL);
    assert_non_null(strstr(f->script->err.detail, "cannot be saved in the cache"));
    f->job.name = &a_name;
    acme_account_forget(f->script->account, acme_account_url(f->script->account, f->script->pool));
    assert_int_not_equal(manager_saved_store(&f->job, &f->script->err), APR_SUCCESS);
    assert_int_equal(f->script->err.kind, BASE_ERROR_LOCAL);
    assert_false(has_record(f, KEY));
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(test_an_intention),
        WITH_SERVER(test_an_order),
        WITH_SERVER(test_an_intention_becomes_an_order),
        WITH_SERVER(test_each_kind_has_its_own),
        WITH_SERVER(test_none),
        WITH_SERVER(test_another_ca),
        WITH_SERVER(test_another_account),
        WITH_SERVER(test_another_type_of_key),
        WITH_SERVER(test_records_that_cannot_be),
        WITH_SERVER(test_members_that_cannot_be),
        WITH_SERVER(test_forget),
        WITH_SERVER(test_whose_it_is),
        WITH_SERVER(test_tidy),
        WITH_SERVER(test_what_cannot_be_stored),
    };

    return SERVER_RUN_TESTS(tests);
}
