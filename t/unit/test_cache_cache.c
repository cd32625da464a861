/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "cache/cache.h"
#include "run.h"

/* A provider that counts its calls and keeps one value. */
struct autocert_cache_t {
    int calls, closed, locks, max_locks;
    apr_status_t answer;
    const char *last_key;
    apr_size_t last_len;
    apr_size_t get_len;
};

struct autocert_cache_lock_t {
    int held;
};

static autocert_cache_t store;
static apr_pool_t *pool;
static cache_t *cache;

static apr_status_t fake_open(autocert_cache_t **made, const char *argument, apr_pool_t *p)
{
    (void)p;
    memset(&store, 0, sizeof(store));
    *made = &store;
    return strcmp(argument, "bad") == 0 ? APR_EACCES : APR_SUCCESS;
}

static apr_status_t fake_get(autocert_cache_t *c, autocert_cache_space_t space, const char *key,
                             char **data, apr_size_t *len, apr_pool_t *p)
{
    (void)space;
    c->calls++;
    c->last_key = apr_pstrdup(p, key);
    *data = apr_pstrdup(p, "value");
    *len = c->get_len ? c->get_len : 5;
    return c->answer;
}

static apr_status_t fake_put(autocert_cache_t *c, autocert_cache_space_t space, const char *key,
                             const char *data, apr_size_t len, apr_pool_t *p)
{
    (void)data;
    c->calls += space == AUTOCERT_CACHE_PRIVATE ? 100 : 1;
    c->last_key = apr_pstrdup(p, key);
    c->last_len = len;
    return c->answer;
}

static apr_status_t fake_remove(autocert_cache_t *c, autocert_cache_space_t space,
                                const char *key, apr_pool_t *p)
{
    c->calls += space == AUTOCERT_CACHE_PRIVATE ? 1000 : 1;
    assert_string_equal(key, c->last_key ? c->last_key : key);
    (void)p;
    return APR_SUCCESS;
}

static apr_status_t fake_list(autocert_cache_t *c, autocert_cache_space_t space,
                              autocert_cache_list_fn *fn, void *baton, apr_pool_t *p)
{
    static const char *const keys[] = { ".hidden", "a.example", "bad/key", "b.example" };

    (void)c;
    (void)space;
    (void)p;
    for (int i = 0; i < 4; i++) {
        apr_status_t rv = fn(baton, keys[i]);

        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t fake_stat(autocert_cache_t *c, autocert_cache_space_t space, const char *key,
                              autocert_cache_stat_t *st, apr_pool_t *p)
{
    (void)space;
    (void)key;
    (void)p;
    c->calls += 10;
    st->size = 5;
    return c->answer;
}

static apr_status_t fake_lock(autocert_cache_t *c, const char *key,
                              autocert_cache_lock_t **lock, apr_pool_t *p)
{
    int now = __atomic_add_fetch(&c->locks, 1, __ATOMIC_SEQ_CST);

    (void)key;
    if (now > c->max_locks) {
        c->max_locks = now;
    }
    c->calls++;
    *lock = apr_pcalloc(p, sizeof(**lock));
    (*lock)->held = 1;
    if (c->answer != APR_SUCCESS) {
        __atomic_sub_fetch(&c->locks, 1, __ATOMIC_SEQ_CST);
    }
    return c->answer;
}

static void fake_unlock(autocert_cache_t *c, autocert_cache_lock_t *lock)
{
    assert_int_equal(lock->held, 1);
    lock->held = 0;
    __atomic_sub_fetch(&c->locks, 1, __ATOMIC_SEQ_CST);
}

static void fake_close(autocert_cache_t *c)
{
    c->closed++;
}

static const autocert_cache_provider_t provider = {
    NULL, NULL, fake_open, fake_get, fake_put, fake_remove, fake_list, fake_stat, fake_lock,
    fake_unlock, fake_close
};

static int set_up(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    return cache_open(&cache, &provider, "there", pool) != APR_SUCCESS;
}

static int tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return 0;
}

static void test_key_is_valid(void **state)
{
    static const char *const good[] = {
        "a", "example.org", "example.org+rsa", "example.org+token", "x_Y-9+http-01",
        "acme_account+key", "a.", "a..b", "a b", "~"
    };
    static const char *const bad[] = {
        "", ".", "..", ".autocert", "a/b", "/a", "a\\b", "a:b", "a*", "a?", "\"", "<a", "a>", "a|",
        "a\n", "\x1f", "a\x7f", "caf\xc3\xa9", "../../etc/passwd"
    };
    char key[300];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(cache_key_is_valid(good[i]));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(cache_key_is_valid(bad[i]));
    }
    assert_false(cache_key_is_valid(NULL));
    memset(key, 'a', sizeof(key));
    key[256] = '\0';
    assert_false(cache_key_is_valid(key));
    key[255] = '\0';
    assert_true(cache_key_is_valid(key));
}

static void test_invalid_key_never_reaches_the_provider(void **state)
{
    autocert_cache_stat_t st;
    cache_lock_t *lock = (cache_lock_t *)&st;
    char *data = (char *)&st;
    apr_size_t len = 1;

    (void)state;
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, "../x", &data, &len, pool),
                     APR_NOTFOUND);
    assert_null(data);
    assert_int_equal(cache_stat(cache, AUTOCERT_CACHE_SHARED, "../x", &st, pool), APR_NOTFOUND);
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_SHARED, "../x", "v", 1, pool), APR_EINVAL);
    assert_int_equal(cache_remove(cache, AUTOCERT_CACHE_SHARED, "../x", pool), APR_EINVAL);
    assert_int_equal(cache_lock(cache, "../x", &lock), APR_EINVAL);
    assert_null(lock);
    assert_int_equal(cache_probe_write(cache, "../x", pool), APR_EINVAL);
    assert_int_equal(store.calls, 0);
}

static void test_value_bound(void **state)
{
    char *big = apr_pcalloc(pool, AUTOCERT_CACHE_VALUE_MAX + 1);
    char *data;
    apr_size_t len;

    (void)state;
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_SHARED, "a", big,
                               AUTOCERT_CACHE_VALUE_MAX + 1, pool), APR_ENOSPC);
    assert_int_equal(store.calls, 0);
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_SHARED, "a", big, AUTOCERT_CACHE_VALUE_MAX,
                               pool), APR_SUCCESS);
    assert_int_equal(store.calls, 1);
    store.get_len = AUTOCERT_CACHE_VALUE_MAX + 1;
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, "a", &data, &len, pool),
                     APR_ENOSPC);
    assert_null(data);
}

static apr_status_t collect(void *baton, const char *key)
{
    const char **all = baton;

    *all = apr_pstrcat(pool, *all, key, " ", NULL);
    return strncmp(key, "stop", 4) == 0 ? APR_EOF : APR_SUCCESS;
}

static apr_status_t refuse(void *baton, const char *key)
{
    (void)baton;
    (void)key;
    return APR_EOF;
}

static void test_list_passes_valid_keys_only(void **state)
{
    const char *all = "";

    (void)state;
    assert_int_equal(cache_list(cache, AUTOCERT_CACHE_SHARED, collect, &all, pool), APR_SUCCESS);
    assert_string_equal(all, "a.example b.example ");
    assert_int_equal(cache_list(cache, AUTOCERT_CACHE_SHARED, refuse, NULL, pool), APR_EOF);
}

static void test_open_and_close(void **state)
{
    apr_pool_t *own = NULL;
    cache_t *other = NULL;

    (void)state;
    apr_pool_create(&own, NULL);
    assert_int_equal(cache_open(&other, &provider, "bad", own), APR_EACCES);
    assert_null(other);
    apr_pool_clear(own);
    assert_int_equal(store.closed, 0);
    assert_int_equal(cache_open(&other, &provider, "there", own), APR_SUCCESS);
    apr_pool_destroy(own);
    assert_int_equal(store.closed, 1);
}

static void test_lock_is_one_attempt_per_key(void **state)
{
    cache_lock_t *first = NULL, *second = NULL, *other = NULL;

    (void)state;
    assert_int_equal(cache_lock(cache, "a", &first), APR_SUCCESS);
    assert_int_equal(cache_lock(cache, "a", &second), APR_EBUSY);
    assert_null(second);
    assert_int_equal(store.calls, 1);
    assert_int_equal(cache_lock(cache, "b", &other), APR_SUCCESS);
    cache_unlock(first);
    assert_int_equal(cache_lock(cache, "a", &second), APR_SUCCESS);
    cache_unlock(second);
    cache_unlock(other);
    cache_unlock(NULL);
    assert_int_equal(store.locks, 0);
    /* a refused attempt leaves nothing behind */
    store.answer = APR_EBUSY;
    assert_int_equal(cache_lock(cache, "a", &first), APR_EBUSY);
    store.answer = APR_SUCCESS;
    assert_int_equal(cache_lock(cache, "a", &first), APR_SUCCESS);
    cache_unlock(first);
}

/* Two caches of one store in one process: closing the second's descriptor would lose the
 * first's lock, so the second must not get that far. */
static void test_lock_counts_over_caches(void **state)
{
    cache_lock_t *first = NULL, *second = NULL;
    cache_t *again = NULL, *elsewhere = NULL;

    (void)state;
    cache_open(&again, &provider, "there", pool);
    cache_open(&elsewhere, &provider, "elsewhere", pool);
    assert_int_equal(cache_lock(cache, "a", &first), APR_SUCCESS);
    assert_int_equal(cache_lock(again, "a", &second), APR_EBUSY);
    assert_int_equal(store.calls, 1);
    assert_int_equal(cache_lock(elsewhere, "a", &second), APR_SUCCESS);
    cache_unlock(second);
    cache_unlock(first);
}

static void test_forked_child_holds_no_lock_of_its_parent(void **state)
{
    cache_lock_t *lock = NULL;
    int status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(cache_lock(cache, "a", &lock), APR_SUCCESS);
    child = fork();
    if (child == 0) {
        cache_lock_t *own = NULL;

        _exit(cache_lock(cache, "a", &own) == APR_SUCCESS ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    cache_unlock(lock);
}

static void *lock_often(void *baton)
{
    (void)baton;
    for (int i = 0; i < 2000; i++) {
        cache_lock_t *lock = NULL;

        if (cache_lock(cache, "a", &lock) == APR_SUCCESS) {
            cache_unlock(lock);
        }
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, lock_often, NULL), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(store.max_locks, 1);
    assert_int_equal(store.locks, 0);
}

static void test_probe_write(void **state)
{
    char key[256];

    (void)state;
    store.answer = APR_NOTFOUND;
    assert_int_equal(cache_probe_write(cache, "a.example", pool), APR_NOTFOUND);
    assert_int_equal(store.calls, 11);      /* looked at the key, wrote beside it */
    assert_string_equal(store.last_key, "a.example+probe");
    assert_int_equal(store.last_len, 16 * 1024);
    store.answer = APR_SUCCESS;
    store.calls = 0;
    assert_int_equal(cache_probe_write(cache, "a.example", pool), APR_SUCCESS);
    assert_int_equal(store.calls, 1112);    /* and removed it, in both spaces */
    store.answer = APR_EACCES;              /* what cannot be looked at cannot be replaced */
    store.calls = 0;
    assert_int_equal(cache_probe_write(cache, "a.example", pool), APR_EACCES);
    assert_int_equal(store.calls, 10);
    store.answer = APR_SUCCESS;
    memset(key, 'a', 255);
    key[255] = '\0';
    assert_int_equal(cache_probe_write(cache, key, pool), APR_SUCCESS);
    assert_true(strlen(store.last_key) <= 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_is_valid),
        cmocka_unit_test_setup_teardown(test_invalid_key_never_reaches_the_provider, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_value_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_list_passes_valid_keys_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_open_and_close, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_is_one_attempt_per_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock_counts_over_caches, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forked_child_holds_no_lock_of_its_parent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_probe_write, set_up, tear_down)
    };

    return RUN_TESTS(tests);
}
