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

#include "base/hostname.h"
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

/* ---- names that are not in the configuration ---- */

#define DEMAND_KEY KEY "+demand"

static const manager_budget_rate_t twenty_an_hour = { 20, HOUR };

typedef struct demand_t {
    apr_time_t when;
    int everybody;
} demand_t;

static apr_status_t take_demand(const manager_budget_rate_t *rate, const char *name, apr_time_t now,
                                demand_t *demand)
{
    demand->when = -1;
    demand->everybody = -1;
    return manager_budget_take_demand(cache, "ca1", rate, name, now, &demand->when,
                                      &demand->everybody, NULL, pool);
}

/* Take for one name until there is nothing left; how many there were. */
static int drain_demand(const manager_budget_rate_t *rate, const char *name, apr_time_t now,
                        demand_t *demand)
{
    apr_status_t rv;
    int count = 0;

    while ((rv = take_demand(rate, name, now, demand)) == APR_SUCCESS) {
        assert_int_equal(demand->everybody, 0);
        count++;
        assert_true(count < 10000);
    }
    assert_int_equal(rv, APR_EAGAIN);
    assert_true(demand->when > now);
    return count;
}

static void return_demand(const manager_budget_rate_t *rate, const char *name, apr_time_t now)
{
    manager_budget_return_demand(cache, "ca1", rate, name, now, NULL, pool);
}

/* A record as it is stored; NULL without one. */
static const char *read_record(const char *key)
{
    char *data = NULL;
    apr_size_t len = 0;
    apr_status_t rv = cache_get(cache, AUTOCERT_CACHE_PRIVATE, key, &data, &len, pool);

    assert_true(rv == APR_SUCCESS || rv == APR_NOTFOUND);
    return data;
}

static void assert_record(const char *key, const char *text)
{
    const char *now = read_record(key);

    if (text) {
        assert_non_null(now);
        assert_string_equal(now, text);
    }
    else {
        assert_null(now);
    }
}

/* Half for all of them, a quarter for one owner, never less than one. */
static void test_demand_shares(void **state)
{
    static const int rows[][3] = {
        { 1, 1, 1 }, { 2, 1, 1 }, { 3, 1, 1 }, { 4, 2, 1 }, { 5, 2, 1 }, { 7, 3, 1 }, { 8, 4, 2 },
        { 20, 10, 5 }, { 280, 140, 70 }
    };
    static const char *const names[] = {
        "a.one.example", "a.two.example", "a.three.example", "a.four.example"
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const manager_budget_rate_t rate = { rows[i][0], HOUR };
        demand_t demand;
        int sum;

        assert_int_equal(scratch_cache_set_up(state), 0);
        sum = drain_demand(&rate, "a.one.example", NOW, &demand);
        assert_int_equal(sum, rows[i][2]);
        for (int j = 0; j < 4; j++) {
            sum += drain_demand(&rate, names[j], NOW, &demand);
        }
        assert_int_equal(sum, rows[i][1]);
        assert_int_equal(demand.everybody, rows[i][0] == 1);
        /* the rest is for the configuration */
        assert_int_equal(drain(&rate, NOW), rows[i][0] - rows[i][1]);
        scratch_cache_tear_down(state);
    }
    assert_int_equal(scratch_cache_set_up(state), 0);
}

static void test_owners_do_not_disturb_each_other(void **state)
{
    demand_t demand;

    (void)state;
    assert_int_equal(drain_demand(&twenty_an_hour, "a.example.org", NOW, &demand), 5);
    assert_int_equal(demand.everybody, 0);
    assert_int_equal(drain_demand(&twenty_an_hour, "b.a.example.org", NOW, &demand), 0);
    assert_int_equal(drain_demand(&twenty_an_hour, "example.org", NOW, &demand), 0);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.example.co.uk", NOW, &demand), 5);
    /* nor names of the configuration, and other CAs */
    assert_int_equal(drain(&twenty_an_hour, NOW), 10);
    assert_int_equal(manager_budget_take_demand(cache, "ca2", &twenty_an_hour, "a.example.org", NOW,
                                                &demand.when, &demand.everybody, NULL, pool),
                     APR_SUCCESS);
}

static void test_demand_takes_from_all_or_none(void **state)
{
    static const char *const keys[] = { KEY, DEMAND_KEY, DEMAND_KEY "+one.example",
                                        DEMAND_KEY "+two.example", DEMAND_KEY "+three.example" };
    const char *before[5];
    demand_t demand;

    (void)state;
    assert_int_equal(take_demand(&twenty_an_hour, "a.one.example", NOW, &demand), APR_SUCCESS);
    for (int i = 0; i < 3; i++) {
        before[i] = read_record(keys[i]);
        assert_non_null(before[i]);
    }
    /* the owner's is empty */
    assert_int_equal(drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand), 4);
    for (int i = 0; i < 3; i++) {
        assert_string_not_equal(read_record(keys[i]), before[i]);
        before[i] = read_record(keys[i]);
    }
    assert_int_equal(take_demand(&twenty_an_hour, "a.one.example", NOW, &demand), APR_EAGAIN);
    assert_int_equal(demand.everybody, 0);
    for (int i = 0; i < 3; i++) {
        assert_record(keys[i], before[i]);
    }
    /* the share of all is empty */
    assert_int_equal(drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand), 5);
    for (int i = 0; i < 4; i++) {
        before[i] = read_record(keys[i]);
    }
    assert_int_equal(take_demand(&twenty_an_hour, "a.three.example", NOW, &demand), APR_EAGAIN);
    assert_int_equal(demand.everybody, 0);
    for (int i = 0; i < 5; i++) {
        assert_record(keys[i], i < 4 ? before[i] : NULL);
    }
}

static void test_an_empty_ca_takes_no_share(void **state)
{
    const char *before;
    demand_t demand;

    (void)state;
    assert_int_equal(drain(&twenty_an_hour, NOW), 20);
    before = read_record(KEY);
    assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", NOW, &demand), APR_EAGAIN);
    assert_int_equal(demand.everybody, 1);
    assert_record(KEY, before);
    assert_record(DEMAND_KEY, NULL);
    assert_record(DEMAND_KEY "+example.org", NULL);
}

static void test_when_of_demand(void **state)
{
    const apr_interval_time_t each = HOUR / 20;     /* of the CA; shares are slower */
    demand_t demand;

    (void)state;
    drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand);
    assert_true(demand.when >= NOW + 4 * each && demand.when < NOW + 4 * each + SECOND);
    drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand);
    /* both shares are empty: the later moment */
    assert_int_equal(take_demand(&twenty_an_hour, "a.two.example", NOW, &demand), APR_EAGAIN);
    assert_true(demand.when >= NOW + 4 * each && demand.when < NOW + 4 * each + SECOND);
    /* only the share of all is */
    assert_int_equal(take_demand(&twenty_an_hour, "a.three.example", NOW, &demand), APR_EAGAIN);
    assert_true(demand.when >= NOW + 2 * each && demand.when < NOW + 2 * each + SECOND);
    assert_int_equal(demand.everybody, 0);
    /* all are: everybody waits for the CA's, nobody for another's share */
    drain(&twenty_an_hour, NOW);
    assert_int_equal(take_demand(&twenty_an_hour, "a.two.example", NOW, &demand), APR_EAGAIN);
    assert_true(demand.when >= NOW + each && demand.when < NOW + each + SECOND);
    assert_int_equal(demand.everybody, 1);
    /* and it is true */
    assert_int_equal(take_demand(&twenty_an_hour, "a.two.example", demand.when, &demand), APR_EAGAIN);
    assert_int_equal(demand.everybody, 0);
    assert_int_equal(take_demand(&twenty_an_hour, "a.two.example", demand.when, &demand),
                     APR_SUCCESS);
}

/* The share of all can be the one that takes longer. */
static void test_when_of_demand_is_the_latest(void **state)
{
    const apr_time_t later = NOW + 11 * HOUR / 60;
    demand_t demand;

    (void)state;
    drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand);
    cache_remove(cache, AUTOCERT_CACHE_PRIVATE, DEMAND_KEY, pool);
    drain_demand(&twenty_an_hour, "a.two.example", later, &demand);
    drain_demand(&twenty_an_hour, "a.three.example", later, &demand);
    assert_int_equal(take_demand(&twenty_an_hour, "a.one.example", later, &demand), APR_EAGAIN);
    assert_int_equal(demand.everybody, 0);
    assert_true(demand.when >= later + HOUR / 10 && demand.when < later + HOUR / 10 + SECOND);
}

static void test_return_of_demand(void **state)
{
    demand_t demand;

    (void)state;
    drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand);
    drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand);
    drain(&twenty_an_hour, NOW);
    return_demand(&twenty_an_hour, "b.one.example", NOW);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand), 0);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand), 1);
    return_demand(&twenty_an_hour, "b.one.example", NOW);
    assert_int_equal(drain(&twenty_an_hour, NOW), 1);
    /* never more than they hold */
    for (int i = 0; i < 50; i++) {
        return_demand(&twenty_an_hour, "a.one.example", NOW);
    }
    assert_int_equal(drain_demand(&twenty_an_hour, "a.one.example", NOW, &demand), 5);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand), 0);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.three.example", NOW, &demand), 5);
    assert_int_equal(drain(&twenty_an_hour, NOW), 10);
}

static void test_demand_without_a_limit(void **state)
{
    const manager_budget_rate_t none = { 0, HOUR };
    demand_t demand;

    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(take_demand(&none, "a.example.org", NOW, &demand), APR_SUCCESS);
        assert_int_equal(demand.everybody, 0);
    }
    return_demand(&none, "a.example.org", NOW);
    assert_record(KEY, NULL);
    assert_record(DEMAND_KEY, NULL);
    assert_record(DEMAND_KEY "+example.org", NULL);
}

static void test_broken_share_is_empty_and_of_now(void **state)
{
    static const char *const keys[] = { DEMAND_KEY, DEMAND_KEY "+example.org" };
    demand_t demand;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cache_put(cache, AUTOCERT_CACHE_PRIVATE, keys[i], "junk", 4, pool),
                         APR_SUCCESS);
        assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", NOW, &demand), APR_EAGAIN);
        assert_int_equal(demand.everybody, 0);
        assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", demand.when, &demand),
                         APR_SUCCESS);
        cache_remove(cache, AUTOCERT_CACHE_PRIVATE, keys[i], pool);
        cache_remove(cache, AUTOCERT_CACHE_PRIVATE, KEY, pool);
    }
}

/* Owners that leave no room in a key have one made of their hash. */
static void test_long_owners(void **state)
{
    char id[200] = "";
    char name[2][BASE_HOSTNAME_SIZE];
    demand_t demand;

    (void)state;
    memset(id, 'i', sizeof(id) - 1);
    for (int i = 0; i < 2; i++) {
        char label[61];

        memset(label, 'a' + i, sizeof(label) - 1);
        label[sizeof(label) - 1] = '\0';
        snprintf(name[i], sizeof(name[i]), "a.%s.%s", label, label);
        for (int j = 0; j < 5; j++) {
            assert_int_equal(manager_budget_take_demand(cache, id, &twenty_an_hour, name[i], NOW,
                                                        &demand.when, &demand.everybody, NULL, pool),
                             APR_SUCCESS);
        }
    }
    manager_budget_return_demand(cache, id, &twenty_an_hour, name[0], NOW, NULL, pool);
    assert_int_equal(manager_budget_take_demand(cache, id, &twenty_an_hour, name[1], NOW, &demand.when,
                                                &demand.everybody, NULL, pool), APR_EAGAIN);
    assert_int_equal(demand.everybody, 0);
    assert_int_equal(manager_budget_take_demand(cache, id, &twenty_an_hour, name[0], NOW, &demand.when,
                                                &demand.everybody, NULL, pool), APR_SUCCESS);
    manager_budget_tidy(cache, id, &twenty_an_hour, NOW + 2 * HOUR, NULL, pool);
    assert_record(apr_psprintf(pool, "budget+%s+demand+%08x", id, base_hostname_hash(name[0] + 2)),
                  NULL);
}

/* A store that cannot write one key any more. */
static const char *broken_key;

static apr_status_t put_unless_broken(autocert_cache_t *store, autocert_cache_space_t space,
                                      const char *key, const char *data, apr_size_t len,
                                      apr_pool_t *p)
{
    return broken_key && strcmp(key, broken_key) == 0 ? APR_ENOSPC
        : cache_dir_provider.put(store, space, key, data, len, p);
}

static void test_what_cannot_be_written_was_not_taken(void **state)
{
    static const char *const keys[] = { KEY, DEMAND_KEY, DEMAND_KEY "+example.org" };
    static autocert_cache_provider_t provider;
    const char *before[3];
    demand_t demand;

    (void)state;
    provider = cache_dir_provider;
    provider.put = put_unless_broken;
    assert_int_equal(cache_open(&cache, &provider, base, pool), APR_SUCCESS);
    broken_key = NULL;
    assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", NOW, &demand), APR_SUCCESS);
    for (int i = 0; i < 3; i++) {
        before[i] = read_record(keys[i]);
    }
    for (int i = 0; i < 3; i++) {
        broken_key = keys[i];
        assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", NOW, &demand), APR_ENOSPC);
        for (int j = 0; j < 3; j++) {
            assert_record(keys[j], before[j]);
        }
    }
    broken_key = NULL;
}

static void test_demand_waits_for_the_ca_s_lock(void **state)
{
    cache_lock_t *lock = NULL;
    base_stop_t *stop = NULL;
    demand_t demand;

    (void)state;
    assert_int_equal(cache_lock(cache, KEY, &lock), APR_SUCCESS);
    assert_int_equal(take_demand(&twenty_an_hour, "a.example.org", NOW, &demand), APR_EBUSY);
    cache_unlock(lock);
    assert_int_equal(base_stop_create(&stop, pool), APR_SUCCESS);
    base_stop_raise(stop);
    assert_int_equal(manager_budget_take_demand(cache, "ca1", &twenty_an_hour, "a.example.org", NOW,
                                                &demand.when, &demand.everybody, stop, pool),
                     APR_EINTR);
    assert_record(DEMAND_KEY, NULL);
}

static void test_processes_share_the_demand(void **state)
{
    const manager_budget_rate_t rate = { 24, HOUR };
    demand_t demand;
    int total = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            const char *name = apr_psprintf(pool, "a.n%d.example", i);
            apr_status_t rv;
            int count = 0;

            do {
                rv = take_demand(&rate, name, NOW, &demand);
                count += rv == APR_SUCCESS;
            } while (rv == APR_SUCCESS || rv == APR_EBUSY);
            _exit(rv == APR_EAGAIN ? count : 100);
        }
    }
    for (int i = 0; i < 4; i++) {
        int status = 0;

        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        assert_true(WEXITSTATUS(status) <= 6);
        total += WEXITSTATUS(status);
    }
    assert_int_equal(total, 12);
    assert_int_equal(drain(&rate, NOW), 12);
}

static void test_tidy(void **state)
{
    const apr_time_t later = NOW + HOUR / 2;
    const char *kept;
    demand_t demand;

    (void)state;
    /* full again after 12 minutes, after an hour */
    assert_int_equal(take_demand(&twenty_an_hour, "a.one.example", NOW, &demand), APR_SUCCESS);
    assert_int_equal(drain_demand(&twenty_an_hour, "a.two.example", NOW, &demand), 5);
    assert_int_equal(manager_budget_take_demand(cache, "ca2", &twenty_an_hour, "a.one.example", NOW,
                                                &demand.when, &demand.everybody, NULL, pool),
                     APR_SUCCESS);
    kept = read_record(DEMAND_KEY "+two.example");
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_PRIVATE, "one.example+state", "{}", 2, pool),
                     APR_SUCCESS);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW, NULL, pool);
    assert_non_null(read_record(DEMAND_KEY "+one.example"));
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, later, NULL, pool);
    assert_record(DEMAND_KEY "+one.example", NULL);
    assert_record(DEMAND_KEY "+two.example", kept);
    /* only owners', and only this CA's */
    assert_non_null(read_record(KEY));
    assert_non_null(read_record(DEMAND_KEY));
    assert_non_null(read_record("budget+ca2+demand+one.example"));
    assert_non_null(read_record("one.example+state"));
    /* and nothing is different for it */
    assert_int_equal(drain_demand(&twenty_an_hour, "a.one.example", later, &demand), 5);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW + 3 * HOUR, NULL, pool);
    assert_record(DEMAND_KEY "+one.example", NULL);
    assert_record(DEMAND_KEY "+two.example", NULL);
    assert_non_null(read_record(KEY));
    assert_non_null(read_record(DEMAND_KEY));
}

static void test_tidy_of_what_cannot_be_read(void **state)
{
    const manager_budget_rate_t none = { 0, 0 };
    demand_t demand;

    (void)state;
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_PRIVATE, DEMAND_KEY "+one.example", "junk", 4,
                               pool), APR_SUCCESS);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW, NULL, pool);
    assert_string_not_equal(read_record(DEMAND_KEY "+one.example"), "junk");
    assert_int_equal(take_demand(&twenty_an_hour, "a.one.example", NOW, &demand), APR_EAGAIN);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW + HOUR - SECOND, NULL, pool);
    assert_non_null(read_record(DEMAND_KEY "+one.example"));
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW + HOUR, NULL, pool);
    assert_record(DEMAND_KEY "+one.example", NULL);
    /* without a limit none is needed */
    drain_demand(&twenty_an_hour, "a.two.example", NOW + HOUR, &demand);
    manager_budget_tidy(cache, "ca1", &none, NOW + HOUR, NULL, pool);
    assert_record(DEMAND_KEY "+two.example", NULL);
}

static void test_tidy_gives_way(void **state)
{
    cache_lock_t *lock = NULL;
    base_stop_t *stop = NULL;
    demand_t demand;

    (void)state;
    take_demand(&twenty_an_hour, "a.one.example", NOW, &demand);
    take_demand(&twenty_an_hour, "a.two.example", NOW, &demand);
    assert_int_equal(base_stop_create(&stop, pool), APR_SUCCESS);
    base_stop_raise(stop);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW + HOUR, stop, pool);
    assert_non_null(read_record(DEMAND_KEY "+one.example"));
    assert_int_equal(cache_lock(cache, KEY, &lock), APR_SUCCESS);
    manager_budget_tidy(cache, "ca1", &twenty_an_hour, NOW + HOUR, NULL, pool);
    cache_unlock(lock);
    assert_non_null(read_record(DEMAND_KEY "+one.example"));
    assert_non_null(read_record(DEMAND_KEY "+two.example"));
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
        WITH_CACHE(test_processes_share_it),
        WITH_CACHE(test_demand_shares),
        WITH_CACHE(test_owners_do_not_disturb_each_other),
        WITH_CACHE(test_demand_takes_from_all_or_none),
        WITH_CACHE(test_an_empty_ca_takes_no_share),
        WITH_CACHE(test_when_of_demand),
        WITH_CACHE(test_when_of_demand_is_the_latest),
        WITH_CACHE(test_return_of_demand),
        WITH_CACHE(test_demand_without_a_limit),
        WITH_CACHE(test_broken_share_is_empty_and_of_now),
        WITH_CACHE(test_long_owners),
        WITH_CACHE(test_what_cannot_be_written_was_not_taken),
        WITH_CACHE(test_demand_waits_for_the_ca_s_lock),
        WITH_CACHE(test_processes_share_the_demand),
        WITH_CACHE(test_tidy),
        WITH_CACHE(test_tidy_of_what_cannot_be_read),
        WITH_CACHE(test_tidy_gives_way)
    };

    return RUN_TESTS(tests);
}
