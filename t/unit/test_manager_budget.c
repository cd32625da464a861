/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "manager/budget.h"
#include "run.h"
#include "scratch_cache.h"

#define NOW apr_time_from_sec(1700000000)
#define SECOND apr_time_from_sec(1)
#define HOUR apr_time_from_sec(3600)
#define KEY "budget+ca1"

static const manager_budget_rate_t ten_an_hour = { 10, HOUR };

static apr_status_t take(const manager_budget_rate_t *rate, apr_time_t now, apr_time_t *when)
{
    return manager_budget_take(cache, "ca1", rate, now, when, NULL, pool);
}

/* Take until there is nothing left; how many there were. */
static int drain(const manager_budget_rate_t *rate, apr_time_t now)
{
    apr_time_t when = 0;
    int count = 0;

    while (take(rate, now, &when) == APR_SUCCESS) {
        count++;
        assert_true(count < 10000);
    }
    return count;
}

static void put_record(const char *text)
{
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_PRIVATE, KEY, text, strlen(text), pool),
                     APR_SUCCESS);
}

static void test_capacity_and_refill(void **state)
{
    apr_time_t when = 0;

    (void)state;
    assert_int_equal(drain(&ten_an_hour, NOW), 10);
    assert_int_equal(take(&ten_an_hour, NOW, &when), APR_EAGAIN);
    assert_true(when >= NOW + HOUR / 10 && when < NOW + HOUR / 10 + SECOND);
    assert_int_equal(take(&ten_an_hour, NOW + HOUR / 10 - SECOND, &when), APR_EAGAIN);
    assert_int_equal(take(&ten_an_hour, when, &when), APR_SUCCESS);
    assert_int_equal(drain(&ten_an_hour, NOW + HOUR / 2 + SECOND), 4);
    assert_int_equal(drain(&ten_an_hour, NOW + 100 * HOUR), 10);
}

/* What "when" says is true, for any rate. */
static void test_when_is_enough(void **state)
{
    static const manager_budget_rate_t rates[] = {
        { 1, SECOND }, { 3, HOUR }, { 7, 168 * HOUR }, { 300, 3 * HOUR }
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        apr_time_t now = NOW;
        apr_time_t when = 0;

        cache_remove(cache, AUTOCERT_CACHE_PRIVATE, KEY, pool);
        drain(&rates[i], now);
        for (int j = 0; j < 20; j++) {
            assert_int_equal(take(&rates[i], now, &when), APR_EAGAIN);
            assert_true(when > now && when <= now + rates[i].period / rates[i].orders + SECOND);
            now = when;
            assert_int_equal(take(&rates[i], now, &when), APR_SUCCESS);
        }
    }
}

static void test_no_limit(void **state)
{
    const manager_budget_rate_t none = { 0, HOUR };
    char *data;
    apr_size_t len;
    apr_time_t when;

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(take(&none, NOW, &when), APR_SUCCESS);
    }
    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_PRIVATE, KEY, &data, &len, pool),
                     APR_NOTFOUND);
}

static void test_one_bucket_for_each_ca(void **state)
{
    apr_time_t when;

    (void)state;
    drain(&ten_an_hour, NOW);
    assert_int_equal(manager_budget_take(cache, "ca2", &ten_an_hour, NOW, &when, NULL, pool),
                     APR_SUCCESS);
}

static void test_record_from_the_future(void **state)
{
    apr_time_t when = 0;

    (void)state;
    assert_int_equal(take(&ten_an_hour, NOW + 1000 * HOUR, &when), APR_SUCCESS);
    /* the clock was set back: empty, and of now, so that it fills again */
    assert_int_equal(take(&ten_an_hour, NOW, &when), APR_EAGAIN);
    assert_true(when <= NOW + HOUR / 10 + SECOND);
    assert_int_equal(drain(&ten_an_hour, NOW + HOUR / 2 + SECOND), 5);
    /* a clock that is a little behind costs nothing */
    assert_int_equal(drain(&ten_an_hour, NOW + 5 * HOUR), 10);
    manager_budget_return(cache, "ca1", &ten_an_hour, NOW + 5 * HOUR, NULL, pool);
    assert_int_equal(take(&ten_an_hour, NOW + 5 * HOUR - 30 * SECOND, &when), APR_SUCCESS);
    assert_int_equal(take(&ten_an_hour, NOW + 5 * HOUR - 30 * SECOND, &when), APR_EAGAIN);
}

static void test_broken_record_is_empty_and_of_now(void **state)
{
    static const char *const records[] = {
        "", "junk", "{}", "{\"v\":2,\"orders\":10,\"period\":3600,\"tokens\":10000000,\"at\":1}",
        "{\"v\":1,\"orders\":0,\"period\":3600,\"tokens\":1,\"at\":1}",
        "{\"v\":1,\"orders\":10,\"period\":3600,\"tokens\":-1,\"at\":1}",
        "{\"v\":1,\"orders\":10,\"period\":3600,\"tokens\":\"x\",\"at\":1}",
        "{\"v\":1,\"orders\":10,\"period\":3600,\"tokens\":1,\"at\":9223372036854775807}"
    };

    (void)state;
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        apr_time_t when = 0;

        put_record(records[i]);
        assert_int_equal(take(&ten_an_hour, NOW, &when), APR_EAGAIN);
        assert_int_equal(drain(&ten_an_hour, NOW + HOUR / 10 + SECOND), 1);
    }
    put_record("{\"v\":1,\"orders\":10,\"period\":3600,\"tokens\":9000000000000,"
               "\"at\":1700000000000000}");
    assert_int_equal(drain(&ten_an_hour, NOW), 10);
}

static void test_another_rate_scales(void **state)
{
    const manager_budget_rate_t hundred = { 100, HOUR };
    const manager_budget_rate_t ten_a_day = { 10, 24 * HOUR };
    apr_time_t when;

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(take(&ten_an_hour, NOW, &when), APR_SUCCESS);
    }
    assert_int_equal(drain(&hundred, NOW), 50);
    manager_budget_return(cache, "ca1", &hundred, NOW, NULL, pool);
    for (int i = 0; i < 39; i++) {
        manager_budget_return(cache, "ca1", &hundred, NOW, NULL, pool);
    }
    assert_int_equal(drain(&ten_a_day, NOW), 4);
    assert_int_equal(take(&ten_a_day, NOW + HOUR, &when), APR_EAGAIN);
}

static void test_return(void **state)
{
    apr_time_t when = 0;

    (void)state;
    drain(&ten_an_hour, NOW);
    manager_budget_return(cache, "ca1", &ten_an_hour, NOW, NULL, pool);
    assert_int_equal(drain(&ten_an_hour, NOW), 1);
    /* never more than the capacity */
    for (int i = 0; i < 20; i++) {
        manager_budget_return(cache, "ca1", &ten_an_hour, NOW, NULL, pool);
    }
    assert_int_equal(drain(&ten_an_hour, NOW), 10);
    assert_int_equal(take(&ten_an_hour, NOW, &when), APR_EAGAIN);
}

static void test_stopped(void **state)
{
    base_stop_t *stop = NULL;
    cache_lock_t *lock = NULL;
    apr_time_t when = 0;

    (void)state;
    assert_int_equal(base_stop_create(&stop, pool), APR_SUCCESS);
    drain(&ten_an_hour, NOW);
    base_stop_raise(stop);
    assert_int_equal(manager_budget_take(cache, "ca1", &ten_an_hour, NOW, &when, stop, pool),
                     APR_EINTR);
    /* what was taken is still given back */
    manager_budget_return(cache, "ca1", &ten_an_hour, NOW, stop, pool);
    assert_int_equal(drain(&ten_an_hour, NOW), 1);
    /* but nobody waits for it */
    assert_int_equal(cache_lock(cache, KEY, &lock), APR_SUCCESS);
    manager_budget_return(cache, "ca1", &ten_an_hour, NOW, stop, pool);
    cache_unlock(lock);
    assert_int_equal(drain(&ten_an_hour, NOW), 0);
}

static void test_lock_is_waited_for_with_a_bound(void **state)
{
    cache_lock_t *lock = NULL;
    apr_time_t when = 0;
    apr_time_t start = apr_time_now();

    (void)state;
    assert_int_equal(cache_lock(cache, KEY, &lock), APR_SUCCESS);
    assert_int_equal(take(&ten_an_hour, NOW, &when), APR_EBUSY);
    assert_true(apr_time_now() - start >= SECOND);
    assert_true(apr_time_now() - start < 20 * SECOND);
    cache_unlock(lock);
    assert_int_equal(drain(&ten_an_hour, NOW), 10);
}

static void test_store_that_cannot_be_written(void **state)
{
    apr_time_t when = 0;

    (void)state;
    assert_int_equal(take(&ten_an_hour, NOW, &when), APR_SUCCESS);
    cache_remove(cache, AUTOCERT_CACHE_PRIVATE, KEY, pool);
    assert_int_equal(mkdir(apr_pstrcat(pool, base, "/.autocert/" KEY, NULL), 0700), 0);
    when = 0;
    assert_int_not_equal(take(&ten_an_hour, NOW, &when), APR_SUCCESS);
    assert_int_not_equal(take(&ten_an_hour, NOW, &when), APR_EAGAIN);
}

/* Processes that take from one bucket get no more than it holds. */
static void test_processes_share_it(void **state)
{
    const manager_budget_rate_t thirty = { 30, HOUR };
    int total = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            apr_time_t when;
            apr_status_t rv;
            int count = 0;

            do {
                rv = take(&thirty, NOW, &when);
                count += rv == APR_SUCCESS;
            } while (rv == APR_SUCCESS || rv == APR_EBUSY);
            _exit(rv == APR_EAGAIN ? count : 100);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = 0;

        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        total += WEXITSTATUS(status);
    }
    assert_int_equal(total, 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(test_capacity_and_refill),
        WITH_CACHE(test_when_is_enough),
        WITH_CACHE(test_no_limit),
        WITH_CACHE(test_one_bucket_for_each_ca),
        WITH_CACHE(test_record_from_the_future),
        WITH_CACHE(test_broken_record_is_empty_and_of_now),
        WITH_CACHE(test_another_rate_scales),
        WITH_CACHE(test_return),
        WITH_CACHE(test_stopped),
        WITH_CACHE(test_lock_is_waited_for_with_a_bound),
        WITH_CACHE(test_store_that_cannot_be_written),
        WITH_CACHE(test_processes_share_it)
    };

    return RUN_TESTS(tests);
}
