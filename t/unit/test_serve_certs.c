/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* The table of parsed certificates, over a cache in memory that counts its calls and can do
 * things in the middle of a read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include "base/log.h"
#include "manager/ledger.h"
#include "pairs.h"
#include "serve/certs.h"

#define SECOND apr_time_from_sec(1)
#define DAY apr_time_from_sec(86400)
#define NOW (apr_time_from_sec(1800000000))
#define BYTES_PLENTY (64u * 1024 * 1024)
#define RECORDS_MAX 1200
#define KEY_MAX 300
#define MANY_NAMES 500
#define THREADS 8
#define THREAD_NAMES 12
#define THREAD_TIME apr_time_from_msec(1500)

/* --- a cache in memory --- */

typedef struct record_t {
    char key[KEY_MAX];
    autocert_cache_space_t space;
    char *data;
    apr_size_t len;
    autocert_cache_stat_t st;
} record_t;

static struct {
    apr_thread_mutex_t *mutex;
    record_t record[RECORDS_MAX];
    int count;
    apr_uint64_t serial;
    apr_status_t broken;            /* what get() answers for shared keys when it is no success */
    int gets, stats;                /* calls for shared keys */
    void (*during_get)(void);       /* called once, after the value was read */
} store;

static record_t *find_record(autocert_cache_space_t space, const char *key)
{
    int i;

    for (i = 0; i < store.count; i++) {
        if (store.record[i].space == space && strcmp(store.record[i].key, key) == 0) {
            return &store.record[i];
        }
    }
    return NULL;
}

static apr_status_t mem_get(autocert_cache_t *cache, autocert_cache_space_t space,
                            const char *key, char **data, apr_size_t *len, apr_pool_t *pool)
{
    apr_status_t status = APR_NOTFOUND;
    void (*during_get)(void) = NULL;
    record_t *record;

    (void)cache;
    apr_thread_mutex_lock(store.mutex);
    record = find_record(space, key);
    if (record != NULL && record->data != NULL) {
        *data = apr_pstrmemdup(pool, record->data, record->len);
        *len = record->len;
        status = APR_SUCCESS;
    }
    if (space == AUTOCERT_CACHE_SHARED) {
        store.gets++;
        during_get = store.during_get;
        store.during_get = NULL;
        status = store.broken != APR_SUCCESS ? store.broken : status;
    }
    apr_thread_mutex_unlock(store.mutex);
    if (during_get != NULL) {
        during_get();
    }
    return status;
}

static apr_status_t mem_stat(autocert_cache_t *cache, autocert_cache_space_t space,
                             const char *key, autocert_cache_stat_t *st, apr_pool_t *pool)
{
    apr_status_t status = APR_NOTFOUND;
    record_t *record;

    (void)cache;
    (void)pool;
    apr_thread_mutex_lock(store.mutex);
    record = find_record(space, key);
    if (record != NULL && record->data != NULL) {
        *st = record->st;
        status = APR_SUCCESS;
    }
    store.stats += space == AUTOCERT_CACHE_SHARED;
    apr_thread_mutex_unlock(store.mutex);
    return status;
}

static apr_status_t mem_put(autocert_cache_t *cache, autocert_cache_space_t space,
                            const char *key, const char *data, apr_size_t len, apr_pool_t *pool)
{
    record_t *record;

    (void)cache;
    (void)pool;
    apr_thread_mutex_lock(store.mutex);
    record = find_record(space, key);
    if (record == NULL) {
        if (store.count == RECORDS_MAX) {
            apr_thread_mutex_unlock(store.mutex);
            return APR_ENOSPC;
        }
        record = &store.record[store.count++];
        apr_cpystrn(record->key, key, sizeof(record->key));
        record->space = space;
    }
    free(record->data);
    record->data = malloc(len + 1);
    memcpy(record->data, data, len);
    record->len = len;
    record->st.size = (apr_off_t)len;
    record->st.mtime = NOW;
    record->st.serial = ++store.serial;
    apr_thread_mutex_unlock(store.mutex);
    return APR_SUCCESS;
}

static apr_status_t mem_remove(autocert_cache_t *cache, autocert_cache_space_t space,
                               const char *key, apr_pool_t *pool)
{
    record_t *record;

    (void)cache;
    (void)pool;
    apr_thread_mutex_lock(store.mutex);
    record = find_record(space, key);
    if (record != NULL) {
        free(record->data);
        record->data = NULL;
    }
    apr_thread_mutex_unlock(store.mutex);
    return APR_SUCCESS;
}

static apr_status_t mem_list(autocert_cache_t *cache, autocert_cache_space_t space,
                             autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool)
{
    (void)cache;
    (void)space;
    (void)fn;
    (void)baton;
    (void)pool;
    return APR_SUCCESS;
}

static apr_status_t mem_lock(autocert_cache_t *cache, const char *key,
                             autocert_cache_lock_t **lock, apr_pool_t *pool)
{
    (void)cache;
    (void)key;
    *lock = apr_palloc(pool, 1);
    return APR_SUCCESS;
}

static void mem_unlock(autocert_cache_t *cache, autocert_cache_lock_t *lock)
{
    (void)cache;
    (void)lock;
}

static const char *mem_check(const char *argument, const autocert_cache_user_t *user,
                             const char **warning, apr_pool_t *pool)
{
    (void)argument;
    (void)user;
    (void)warning;
    (void)pool;
    return NULL;
}

static apr_status_t mem_prepare(const char *argument, const autocert_cache_user_t *user,
                                const char **warning, apr_pool_t *pool)
{
    (void)argument;
    (void)user;
    (void)warning;
    (void)pool;
    return APR_SUCCESS;
}

static apr_status_t mem_open(autocert_cache_t **cache, const char *argument, apr_pool_t *pool)
{
    (void)argument;
    *cache = apr_pcalloc(pool, 8);
    return APR_SUCCESS;
}

static void mem_close(autocert_cache_t *cache)
{
    (void)cache;
}

static const autocert_cache_provider_t mem_provider = {
    .check = mem_check, .prepare = mem_prepare, .open = mem_open, .get = mem_get,
    .put = mem_put, .remove = mem_remove, .list = mem_list, .stat = mem_stat,
    .lock = mem_lock, .unlock = mem_unlock, .close = mem_close,
};

/* --- what was served --- */

static long serial_of(const serve_certs_entry_t *entry)
{
    return entry == NULL ? 0 : ASN1_INTEGER_get(X509_get0_serialNumber(entry->bundle->leaf));
}

/* --- the log --- */

static char last_line[BASE_LOG_LINE_MAX];
static int line_count;

static void catch_line(void *baton, int level, const char *line)
{
    (void)baton;
    if (strncmp(line, "AC0310", 6) == 0) {
        line_count++;
        assert_int_equal(level, BASE_LOG_WARNING);
        apr_cpystrn(last_line, line, sizeof(last_line));
    }
}

static void assert_line_ends(const char *end)
{
    size_t len = strlen(last_line), end_len = strlen(end);

    assert_true(len > end_len);
    assert_string_equal(last_line + len - end_len, end);
}

/* --- the world of one test --- */

static struct {
    apr_pool_t *pool;
    cache_t *cache;
    shared_versions_t *versions;
    serve_certs_t *certs;
} world;

static const manager_policy_settings_t ec_settings = {.key_types = {CRYPTO_KEY_P256}, .kinds = 1};
static const manager_policy_settings_t rsa_settings = {.key_types = {CRYPTO_KEY_RSA2048}, .kinds = 1};
static const manager_policy_name_t a_name = {.name = "a.example.org", .settings = &ec_settings};
static const manager_policy_name_t b_name = {.name = "b.example.org", .settings = &ec_settings};
static const manager_policy_name_t a_rsa_name = {.name = "a.example.org", .settings = &rsa_settings};

static void make_table(apr_size_t bytes, int threads)
{
    assert_int_equal(serve_certs_create(&world.certs, world.cache, world.versions, bytes, threads,
                                        world.pool), APR_SUCCESS);
}

static void put_text(const char *key, const char *text)
{
    mem_put(NULL, AUTOCERT_CACHE_SHARED, key, text, strlen(text), NULL);
}

/* Put a certificate under a key; its serial number comes back. */
static long put_cert(const char *key, const char *name, apr_time_t from, apr_time_t to)
{
    char *pem = make_pem(name, leaf_key, from, to);

    put_text(key, pem);
    free(pem);
    return next_serial - 1;
}

static long put_good(const manager_policy_name_t *name)
{
    return put_cert(name->name, name->name, NOW - DAY, NOW + 90 * DAY);
}

/* What a handshake at this moment would serve, as a serial number, 0 for none. */
static long served(const manager_policy_name_t *name, apr_time_t now)
{
    const serve_certs_entry_t *entry = serve_certs_acquire(world.certs, name, now);
    long serial = serial_of(entry);

    serve_certs_release(world.certs, entry);
    return serial;
}

static long peeked(const manager_policy_name_t *name, apr_time_t now)
{
    const serve_certs_entry_t *entry = serve_certs_peek(world.certs, name, now);
    long serial = serial_of(entry);

    serve_certs_release(world.certs, entry);
    return serial;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    apr_pool_create(&world.pool, NULL);
    memset(&store, 0, sizeof(store));
    apr_thread_mutex_create(&store.mutex, APR_THREAD_MUTEX_DEFAULT, world.pool);
    world.versions = calloc(1, sizeof(*world.versions));
    assert_int_equal(cache_open(&world.cache, &mem_provider, "", world.pool), APR_SUCCESS);
    make_table(BYTES_PLENTY, 4);
    line_count = 0;
    last_line[0] = '\0';
    base_log_set(catch_line, NULL);
    return 0;
}

static int tear_down(void **state)
{
    int i;

    (void)state;
    base_log_set(NULL, NULL);
    for (i = 0; i < store.count; i++) {
        free(store.record[i].data);
    }
    apr_pool_destroy(world.pool);
    free(world.versions);
    return 0;
}

/* --- the tests --- */

static void test_miss_is_remembered_and_load_served(void **state)
{
    long serial;

    (void)state;
    assert_int_equal(served(&a_name, NOW), 0);
    assert_int_equal(store.gets, 1);
    serial = put_good(&a_name);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK - 1), 0);
    assert_int_equal(store.gets, 1);
    assert_int_equal(store.stats, 1);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 2);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK + SECOND), serial);
    assert_int_equal(store.gets, 2);
    assert_int_equal(store.stats, 2);
    /* Known to have none: compared, not read, as long as there is no file. */
    assert_int_equal(served(&b_name, NOW), 0);
    assert_int_equal(served(&b_name, NOW + SERVE_CERTS_RECHECK), 0);
    assert_int_equal(store.gets, 3);
    assert_int_equal(store.stats, 4);
    assert_int_equal(line_count, 0);
}

static void test_raised_version_loads_at_once(void **state)
{
    long first = put_good(&a_name), second;

    (void)state;
    assert_int_equal(served(&a_name, NOW), first);
    second = put_good(&a_name);
    assert_int_equal(served(&a_name, NOW + SECOND), first);
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(served(&a_name, NOW + SECOND), second);
    assert_int_equal(store.gets, 2);
    assert_int_equal(served(&a_name, NOW + SECOND), second);
    assert_int_equal(store.gets, 2);
}

static void test_recheck_reads_only_what_changed(void **state)
{
    apr_time_t now = NOW;
    record_t *record;
    long serial = put_good(&a_name);

    (void)state;
    assert_int_equal(served(&a_name, now), serial);
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 1);
    assert_int_equal(store.stats, 2);
    assert_int_equal(served(&a_name, now + SECOND), serial);
    assert_int_equal(store.stats, 2);

    record = find_record(AUTOCERT_CACHE_SHARED, a_name.name);
    record->st.mtime++;
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 2);
    record->st.serial++;
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 3);
    record->st.size++;
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 4);

    /* A clock that was set back must not make it current for hours. */
    assert_int_equal(served(&a_name, now - 5000 * SECOND), serial);
    assert_int_equal(store.stats, 6);
    assert_int_equal(store.gets, 4);
}

/* @return -1 when nothing is served */
static int orphaned(const manager_policy_name_t *name, apr_time_t now)
{
    const serve_certs_entry_t *entry = serve_certs_peek(world.certs, name, now);
    int result = entry != NULL ? serve_certs_is_orphaned(entry) : -1;

    serve_certs_release(world.certs, entry);
    return result;
}

static void test_bad_replacement_keeps_the_old(void **state)
{
    long serial = put_good(&a_name), next;
    apr_time_t now = NOW;

    (void)state;
    assert_int_equal(served(&a_name, now), serial);
    assert_int_equal(orphaned(&a_name, now), 0);
    put_text(a_name.name, "-----BEGIN EC PRIVATE KEY-----\nAAAA\n");
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(served(&a_name, now), serial);
    assert_int_equal(orphaned(&a_name, now), 1);
    assert_int_equal(line_count, 1);
    assert_non_null(strstr(last_line, "a.example.org"));
    assert_line_ends("; the certificate in memory stays in service");
    /* It is not read again while it stays the same. */
    assert_int_equal(store.gets, 2);
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 2);
    /* A good certificate, but another name's. */
    put_cert(a_name.name, "other.example.org", NOW - DAY, NOW + DAY);
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(store.gets, 3);
    next = put_good(&a_name);
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), next);
    assert_int_equal(orphaned(&a_name, now), 0);
}

static void test_trouble_is_logged_once_a_minute(void **state)
{
    apr_time_t now = NOW;

    (void)state;
    put_text(a_name.name, "nothing of use");
    put_text(b_name.name, "nothing of use");
    assert_int_equal(served(&a_name, now), 0);
    assert_int_equal(line_count, 1);
    assert_line_ends("; it is obtained again");
    assert_int_equal(served(&b_name, now), 0);
    put_text(b_name.name, "nothing of use either");
    assert_int_equal(served(&b_name, now += SERVE_CERTS_RECHECK), 0);
    assert_int_equal(line_count, 1);
    put_text(a_name.name, "still nothing");
    assert_int_equal(served(&a_name, now = NOW + SERVE_CERTS_REPORT_EVERY), 0);
    assert_int_equal(line_count, 2);
    assert_non_null(strstr(last_line, "2 more"));
    /* The same file again is no news, however late. */
    assert_int_equal(served(&a_name, now += 10 * SERVE_CERTS_REPORT_EVERY), 0);
    assert_int_equal(line_count, 2);
}

static void test_gone_or_unreadable_file_keeps_the_old(void **state)
{
    long serial = put_good(&a_name), next;
    apr_time_t now = NOW;

    (void)state;
    assert_int_equal(served(&a_name, now), serial);
    mem_remove(NULL, AUTOCERT_CACHE_SHARED, a_name.name, NULL);
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(orphaned(&a_name, now), 1);
    assert_int_equal(line_count, 1);
    assert_line_ends("; the certificate in memory stays in service");

    next = put_good(&a_name);
    store.broken = APR_EACCES;
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), serial);
    assert_int_equal(served(&b_name, now = NOW + 2 * SERVE_CERTS_REPORT_EVERY), 0);
    assert_line_ends("; it is read again when the next client comes");
    /* The file is the same one, but it was never read. */
    store.broken = APR_SUCCESS;
    assert_int_equal(served(&a_name, now += SERVE_CERTS_RECHECK), next);
}

static void test_expired_is_not_served(void **state)
{
    long serial = put_cert(a_name.name, a_name.name, NOW - DAY, NOW + DAY), next;

    (void)state;
    assert_int_equal(served(&a_name, NOW), serial);
    assert_int_equal(served(&a_name, NOW + DAY), serial);
    assert_int_equal(served(&a_name, NOW + DAY + SECOND), 0);
    assert_int_equal(peeked(&a_name, NOW + DAY + SECOND), 0);
    next = put_good(&a_name);
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(served(&a_name, NOW + DAY + SECOND), next);
    /* An expired file does not drive out a valid certificate. */
    put_cert(a_name.name, a_name.name, NOW - DAY, NOW);
    assert_int_equal(served(&a_name, NOW + 2 * DAY), next);
    assert_line_ends("; the certificate in memory stays in service");
    /* Nor is it served when there is no other. */
    put_cert(b_name.name, b_name.name, NOW - DAY, NOW);
    assert_int_equal(served(&b_name, NOW + 2 * DAY + SERVE_CERTS_REPORT_EVERY), 0);
    assert_line_ends("; it is obtained again");
}

static void test_not_yet_valid_is_served_when_its_time_comes(void **state)
{
    long a_old = put_cert(a_name.name, a_name.name, NOW - DAY, NOW + DAY), a_next, b;

    (void)state;
    assert_int_equal(served(&a_name, NOW), a_old);
    a_next = put_cert(a_name.name, a_name.name, NOW + 3600 * SECOND, NOW + 9 * DAY);
    b = put_cert(b_name.name, b_name.name, NOW + 3600 * SECOND, NOW + 9 * DAY);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK), a_old);
    assert_int_equal(served(&b_name, NOW + SERVE_CERTS_RECHECK), 0);
    /* The files are the same ones as before. */
    assert_int_equal(served(&a_name, NOW + 3600 * SECOND), a_next);
    assert_int_equal(served(&b_name, NOW + 3600 * SECOND), b);
}

static void test_key_kinds_have_files_of_their_own(void **state)
{
    long ec = put_good(&a_name), rsa;
    char *pem;

    (void)state;
    assert_int_equal(served(&a_rsa_name, NOW), 0);
    put_cert("a.example.org+rsa", a_name.name, NOW - DAY, NOW + DAY);
    assert_int_equal(served(&a_rsa_name, NOW + SERVE_CERTS_RECHECK), 0);
    assert_int_equal(line_count, 1);
    pem = make_pem(a_name.name, rsa_key, NOW - DAY, NOW + DAY);
    rsa = next_serial - 1;
    put_text("a.example.org+rsa", pem);
    free(pem);
    assert_int_equal(served(&a_rsa_name, NOW + 2 * SERVE_CERTS_RECHECK), rsa);
    assert_int_equal(served(&a_name, NOW + 2 * SERVE_CERTS_RECHECK), ec);
}

static void test_test_ca_comes_from_the_ledger(void **state)
{
    const serve_certs_entry_t *entry;
    crypto_bundle_t *bundle = NULL;
    manager_ledger_t ledger;
    char *pem;

    (void)state;
    pem = make_pem(a_name.name, leaf_key, NOW - DAY, NOW + DAY);
    put_text("a.example.org", pem);
    put_good(&b_name);
    memset(&ledger, 0, sizeof(ledger));
    ledger.test = 1;
    assert_int_equal(crypto_bundle_parse(&bundle, pem, strlen(pem), NULL), APR_SUCCESS);
    crypto_bundle_fingerprint(bundle, ledger.certificate);
    crypto_bundle_free(bundle);
    free(pem);
    assert_int_equal(manager_ledger_store(&ledger, world.cache, a_name.name, world.pool),
                     APR_SUCCESS);
    entry = serve_certs_acquire(world.certs, &a_name, NOW);
    assert_non_null(entry);
    assert_true(entry->test);
    serve_certs_release(world.certs, entry);
    entry = serve_certs_acquire(world.certs, &b_name, NOW);
    assert_non_null(entry);
    assert_false(entry->test);
    serve_certs_release(world.certs, entry);
    /* Another program stored another certificate: the ledger speaks of the one before. */
    put_good(&a_name);
    entry = serve_certs_acquire(world.certs, &a_name, NOW + 2 * SERVE_CERTS_RECHECK);
    assert_non_null(entry);
    assert_false(entry->test);
    serve_certs_release(world.certs, entry);
}

static manager_policy_name_t *make_name(int i)
{
    manager_policy_name_t *name = apr_pcalloc(world.pool, sizeof(*name));

    name->name = apr_psprintf(world.pool, "n%d.example.org", i);
    name->settings = &ec_settings;
    return name;
}

static void fill_to_bound(int threads)
{
    const apr_size_t bound = 512 * 1024;
    const serve_certs_entry_t *kept;
    manager_policy_name_t *name[MANY_NAMES];
    apr_size_t entries, bytes;
    long serial[MANY_NAMES];
    int i;

    make_table(bound, threads);
    store.gets = 0;
    for (i = 0; i < MANY_NAMES; i++) {
        name[i] = make_name(i);
        serial[i] = put_good(name[i]);
    }
    kept = serve_certs_acquire(world.certs, name[1], NOW);
    assert_int_equal(serial_of(kept), serial[1]);
    for (i = 0; i < MANY_NAMES; i++) {
        assert_int_equal(served(name[i], NOW), serial[i]);
        assert_int_equal(served(name[0], NOW), serial[0]);
        serve_certs_stats(world.certs, &entries, &bytes);
        assert_true(bytes <= bound);
    }
    assert_true(entries >= 20 && entries < MANY_NAMES);
    assert_true(bytes >= bound / 2);
    assert_int_equal(peeked(name[MANY_NAMES - 1], NOW), serial[MANY_NAMES - 1]);
    if (threads == 1) {
        /* One order of use: what is used all the time never went, the other did. */
        assert_int_equal(store.gets, MANY_NAMES);
        assert_int_equal(peeked(name[0], NOW), serial[0]);
        assert_int_equal(peeked(name[1], NOW), 0);
    }
    /* In use, so still whole although it is out of the table. */
    assert_int_equal(serial_of(kept), serial[1]);
    assert_int_equal(X509_check_private_key(kept->bundle->leaf, kept->bundle->key), 1);
    serve_certs_release(world.certs, kept);
    assert_int_equal(served(name[1], NOW), serial[1]);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    fill_to_bound(1);
    fill_to_bound(THREADS);
}

static void test_names_without_certificate_are_bounded(void **state)
{
    apr_size_t entries, bytes;
    int i;

    (void)state;
    make_table(32 * 1024, 1);
    for (i = 0; i < 2000; i++) {
        assert_int_equal(served(make_name(i), NOW), 0);
    }
    serve_certs_stats(world.certs, &entries, &bytes);
    assert_true(bytes <= 32 * 1024);
    assert_true(entries > 10 && entries < 1000);
}

static void test_chain_certificates_are_shared(void **state)
{
    const serve_certs_entry_t *a, *b;
    apr_size_t entries, one, two;

    (void)state;
    put_good(&a_name);
    put_good(&b_name);
    a = serve_certs_acquire(world.certs, &a_name, NOW);
    serve_certs_stats(world.certs, &entries, &one);
    assert_int_equal(entries, 1);
    b = serve_certs_acquire(world.certs, &b_name, NOW);
    serve_certs_stats(world.certs, &entries, &two);
    assert_int_equal(entries, 2);
    assert_int_equal(sk_X509_num(a->bundle->chain), 1);
    assert_int_equal(sk_X509_num(b->bundle->chain), 1);
    assert_ptr_equal(sk_X509_value(a->bundle->chain, 0), sk_X509_value(b->bundle->chain, 0));
    assert_ptr_not_equal(a->bundle->leaf, b->bundle->leaf);
    assert_int_equal(X509_cmp(sk_X509_value(a->bundle->chain, 0), ca_cert), 0);
    assert_true(two - one < one);   /* and counted once */
    serve_certs_release(world.certs, b);
    serve_certs_release(world.certs, a);
}

/* A certificate of another issuer than all before; its serial number comes back. */
static long put_with_new_chain(const manager_policy_name_t *name)
{
    X509 *usual = ca_cert;
    long serial;

    ca_cert = make_cert("ca.example.org", ca_key, NOW - DAY, NOW + DAY);
    serial = put_good(name);
    X509_free(ca_cert);
    ca_cert = usual;
    return serial;
}

static void test_more_chains_than_are_shared(void **state)
{
    const serve_certs_entry_t *b;
    long serial;
    int i;

    (void)state;
    put_good(&a_name);
    put_good(&b_name);
    assert_int_not_equal(served(&a_name, NOW), 0);
    b = serve_certs_acquire(world.certs, &b_name, NOW);
    for (i = 0; i < SERVE_CERTS_SHARED_MAX + 8; i++) {
        manager_policy_name_t *name = make_name(i);

        serial = put_with_new_chain(name);
        assert_int_equal(served(name, NOW), serial);
    }
    serial = put_with_new_chain(&a_name);
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(served(&a_name, NOW), serial);
    /* Nobody else has it any more, but b does. */
    assert_int_equal(X509_cmp(sk_X509_value(b->bundle->chain, 0), ca_cert), 0);
    serve_certs_release(world.certs, b);
}

static void test_peek_never_touches_the_cache(void **state)
{
    long serial = put_good(&a_name);

    (void)state;
    assert_int_equal(peeked(&a_name, NOW), 0);
    assert_int_equal(store.gets + store.stats, 0);
    assert_int_equal(served(&a_name, NOW), serial);
    store.gets = store.stats = 0;
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(peeked(&a_name, NOW + 100 * SECOND), serial);
    assert_int_equal(peeked(&b_name, NOW), 0);
    assert_int_equal(store.gets + store.stats, 0);
}

/* --- things that happen in the middle of a read --- */

static long inner_serial, put_serial;

static void acquire_a(void)
{
    inner_serial = served(&a_name, NOW);
}

static void replace_a(void)
{
    put_serial = put_good(&a_name);
}

static void replace_a_and_raise(void)
{
    replace_a();
    shared_versions_raise(world.versions, a_name.name);
}

static void replace_raise_and_acquire_a(void)
{
    replace_a_and_raise();
    acquire_a();
}

static void test_others_use_the_old_one_meanwhile(void **state)
{
    long first = put_good(&a_name), second;

    (void)state;
    assert_int_equal(served(&a_name, NOW), first);
    second = put_good(&a_name);
    shared_versions_raise(world.versions, a_name.name);
    store.during_get = acquire_a;
    assert_int_equal(served(&a_name, NOW), second);
    assert_int_equal(inner_serial, first);
    assert_int_equal(store.gets, 2);
    /* The loader has left: the next change has a loader again. */
    second = put_good(&a_name);
    shared_versions_raise(world.versions, a_name.name);
    assert_int_equal(served(&a_name, NOW), second);
}

static void test_who_waited_for_the_first_one_gets_it(void **state)
{
    (void)state;
    assert_int_equal(served(&a_name, NOW), 0);
    put_good(&a_name);
    shared_versions_raise(world.versions, a_name.name);
    /* Another thread is at it, but "none" is no answer any more. */
    store.during_get = acquire_a;
    assert_int_not_equal(served(&a_name, NOW), 0);
    assert_int_not_equal(inner_serial, 0);
}

static const serve_certs_entry_t *inner_entry;

static void acquire_and_hold_a(void)
{
    inner_entry = serve_certs_acquire(world.certs, &a_name, NOW);
}

static void test_first_of_two_loads_wins(void **state)
{
    const serve_certs_entry_t *outer;

    (void)state;
    put_good(&a_name);
    store.during_get = acquire_and_hold_a;
    outer = serve_certs_acquire(world.certs, &a_name, NOW);
    assert_int_equal(store.gets, 2);
    assert_non_null(outer);
    assert_ptr_equal(outer, inner_entry);
    serve_certs_release(world.certs, inner_entry);
    serve_certs_release(world.certs, outer);
}

static void test_replaced_while_it_was_read(void **state)
{
    long first = put_good(&a_name);

    (void)state;
    store.during_get = replace_a;
    assert_int_equal(served(&a_name, NOW), first);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK), put_serial);
    store.during_get = replace_a_and_raise;
    shared_versions_raise(world.versions, a_name.name);
    first = put_serial;
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK), first);
    assert_int_equal(served(&a_name, NOW + SERVE_CERTS_RECHECK), put_serial);
}

static void test_older_load_does_not_replace_a_newer(void **state)
{
    long outer;

    (void)state;
    put_good(&a_name);
    store.during_get = replace_raise_and_acquire_a;
    outer = served(&a_name, NOW);
    assert_int_equal(outer, put_serial);
    assert_int_equal(inner_serial, put_serial);
    assert_int_equal(served(&a_name, NOW), put_serial);
    assert_int_equal(store.gets, 2);
}

static void crowd_a_out(void)
{
    int i;

    for (i = 0; i < 40; i++) {
        manager_policy_name_t *name = make_name(i);

        put_good(name);
        served(name, NOW);
    }
    inner_serial = peeked(&a_name, NOW);
}

static void test_kept_although_crowded_out_meanwhile(void **state)
{
    long serial = put_good(&a_name);

    (void)state;
    make_table(64 * 1024, 1);
    assert_int_equal(served(&a_name, NOW), serial);
    put_text(a_name.name, "nothing of use");
    shared_versions_raise(world.versions, a_name.name);
    store.during_get = crowd_a_out;
    assert_int_equal(served(&a_name, NOW), serial);
    assert_int_equal(inner_serial, 0);
    assert_int_equal(peeked(&a_name, NOW), serial);
    assert_line_ends("; the certificate in memory stays in service");
}

/* --- threads --- */

static struct {
    manager_policy_name_t *name[THREAD_NAMES];
    char *pem[THREAD_NAMES][2];
    atomic_int stop, failures, served;
} crowd;

static void *APR_THREAD_FUNC visit(apr_thread_t *thread, void *data)
{
    unsigned int i = (unsigned int)(uintptr_t)data;

    (void)thread;
    while (!atomic_load(&crowd.stop)) {
        const manager_policy_name_t *name = crowd.name[i++ * 7 % THREAD_NAMES];
        const serve_certs_entry_t *entry = serve_certs_acquire(world.certs, name, NOW);
        const serve_certs_entry_t *again = serve_certs_peek(world.certs, name, NOW);

        if (entry == NULL || !crypto_bundle_covers(entry->bundle->leaf, name->name)) {
            atomic_fetch_add(&crowd.failures, 1);
        }
        serve_certs_release(world.certs, entry);
        if (again != NULL && X509_get0_pubkey(again->bundle->leaf) == NULL) {
            atomic_fetch_add(&crowd.failures, 1);
        }
        serve_certs_release(world.certs, again);
        atomic_fetch_add(&crowd.served, 1);
    }
    return NULL;
}

static void run_crowd(apr_size_t bytes)
{
    apr_thread_t *thread[THREADS];
    apr_status_t status;
    apr_time_t end;
    int i, turn = 0;

    make_table(bytes, THREADS);
    atomic_store(&crowd.stop, 0);
    atomic_store(&crowd.failures, 0);
    atomic_store(&crowd.served, 0);
    for (i = 0; i < THREAD_NAMES; i++) {
        crowd.name[i] = make_name(i);
        crowd.pem[i][0] = make_pem(crowd.name[i]->name, leaf_key, NOW - DAY, NOW + DAY);
        crowd.pem[i][1] = make_pem(crowd.name[i]->name, leaf_key, NOW - DAY, NOW + DAY);
        put_text(crowd.name[i]->name, crowd.pem[i][0]);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(apr_thread_create(&thread[i], NULL, visit, (void *)(uintptr_t)i,
                                           world.pool), APR_SUCCESS);
    }
    for (end = apr_time_now() + THREAD_TIME / 2; apr_time_now() < end; turn++) {
        put_text(crowd.name[turn % THREAD_NAMES]->name,
                 crowd.pem[turn % THREAD_NAMES][turn / THREAD_NAMES % 2]);
        shared_versions_raise(world.versions, crowd.name[turn % THREAD_NAMES]->name);
        apr_sleep(apr_time_from_msec(1));
    }
    atomic_store(&crowd.stop, 1);
    for (i = 0; i < THREADS; i++) {
        apr_thread_join(&status, thread[i]);
    }
    assert_int_equal(atomic_load(&crowd.failures), 0);
    assert_true(atomic_load(&crowd.served) > THREADS);
    /* When all is quiet, the last one of each is served. */
    for (i = 0; i < THREAD_NAMES; i++) {
        long last = put_good(crowd.name[i]);

        shared_versions_raise(world.versions, crowd.name[i]->name);
        assert_int_equal(served(crowd.name[i], NOW), last);
        free(crowd.pem[i][0]);
        free(crowd.pem[i][1]);
    }
}

static void test_crowd(void **state)
{
    (void)state;
    run_crowd(BYTES_PLENTY);
}

static void test_crowd_in_a_small_table(void **state)
{
    (void)state;
    run_crowd(48 * 1024);
}

static void test_visits_are_worth_telling_now_and_then(void **state)
{
    const serve_certs_entry_t *entry;

    (void)state;
    make_table(BYTES_PLENTY, 4);
    put_good(&a_name);
    entry = serve_certs_acquire(world.certs, &a_name, NOW);
    assert_non_null(entry);
    assert_true(serve_certs_note_visit(entry, NOW, 10 * SECOND));
    assert_false(serve_certs_note_visit(entry, NOW, 10 * SECOND));
    assert_false(serve_certs_note_visit(entry, NOW + 9 * SECOND, 10 * SECOND));
    assert_true(serve_certs_note_visit(entry, NOW + 10 * SECOND, 10 * SECOND));
    /* a clock that was set back does not silence it */
    assert_true(serve_certs_note_visit(entry, NOW - DAY, 10 * SECOND));
    serve_certs_release(world.certs, entry);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_miss_is_remembered_and_load_served),
        CASE(test_raised_version_loads_at_once),
        CASE(test_recheck_reads_only_what_changed),
        CASE(test_bad_replacement_keeps_the_old),
        CASE(test_trouble_is_logged_once_a_minute),
        CASE(test_gone_or_unreadable_file_keeps_the_old),
        CASE(test_expired_is_not_served),
        CASE(test_not_yet_valid_is_served_when_its_time_comes),
        CASE(test_key_kinds_have_files_of_their_own),
        CASE(test_test_ca_comes_from_the_ledger),
        CASE(test_memory_is_bounded),
        CASE(test_names_without_certificate_are_bounded),
        CASE(test_chain_certificates_are_shared),
        CASE(test_more_chains_than_are_shared),
        CASE(test_peek_never_touches_the_cache),
        CASE(test_others_use_the_old_one_meanwhile),
        CASE(test_who_waited_for_the_first_one_gets_it),
        CASE(test_first_of_two_loads_wins),
        CASE(test_replaced_while_it_was_read),
        CASE(test_older_load_does_not_replace_a_newer),
        CASE(test_kept_although_crowded_out_meanwhile),
        CASE(test_crowd),
        CASE(test_crowd_in_a_small_table),
        CASE(test_visits_are_worth_telling_now_and_then),
    };
    int failed;

    apr_initialize();
    pairs_begin(NOW - 100 * DAY, NOW + 1000 * DAY);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    pairs_end();
    apr_terminate();
    return failed;
}
