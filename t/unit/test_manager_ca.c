/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_strings.h>
#include <cmocka.h>

#include "manager/ca.h"
#include "run.h"
#include "scratch_cache.h"

#define NOW apr_time_from_sec(1800000000)
#define SECOND apr_time_from_sec(1)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)

static manager_ca_config_t config;
static manager_ca_health_t health;

static int set_up(void **state)
{
    memset(&config, 0, sizeof(config));
    config.acme.name = config.acme.id = "first";
    config.acme.directory_url = "https://first.example/dir";
    memset(&health, 0, sizeof(health));
    return scratch_cache_set_up(state);
}

#define WITH_HEALTH(test) cmocka_unit_test_setup_teardown(test, set_up, scratch_cache_tear_down)

static base_error_t problem(base_error_kind_t kind, apr_time_t retry_at)
{
    base_error_t err;

    base_error_set(&err, kind, APR_EGENERAL, "in the CA's words");
    base_error_copy_text(err.type, sizeof(err.type), "rateLimited");
    err.retry_at = retry_at;
    return err;
}

static int note(base_error_kind_t kind, apr_time_t retry_at, apr_time_t now)
{
    base_error_t err = problem(kind, retry_at);

    return manager_ca_fail(&health, &err, MANAGER_CA_PAUSE_MAX, now);
}

/* --- Pauses --- */

static void test_pauses_grow(void **state)
{
    apr_time_t now = NOW;

    (void)state;
    for (int i = 0; i < 12; i++) {
        apr_interval_time_t pause = (2 * SECOND) << i;

        assert_true(note(BASE_ERROR_CA_DOWN, 0, now));
        assert_int_equal(health.failures, i + 1);
        assert_true(health.until == now + (pause < 300 * SECOND ? pause : 300 * SECOND));
        assert_true(health.since == NOW);
        assert_false(health.refusing);
        now = health.until;
    }
}

/* No pause is longer than the shortest life of a certificate can bear. */
static void test_pauses_are_bounded(void **state)
{
    base_error_t err = problem(BASE_ERROR_CA_DOWN, 0);
    apr_time_t now = NOW;

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_true(manager_ca_fail(&health, &err, 3 * SECOND, now));
        assert_true(health.until <= now + 3 * SECOND);
        now = health.until;
    }
}

/* Orders that were under way when a pause began fail too; that says nothing new. */
static void test_failures_within_a_pause(void **state)
{
    (void)state;
    assert_true(note(BASE_ERROR_CA_DOWN, 0, NOW));
    assert_false(note(BASE_ERROR_CA_DOWN, 0, NOW + SECOND));
    assert_int_equal(health.failures, 1);
    assert_true(health.until == NOW + 2 * SECOND);
    /* but a moment that the CA names counts */
    assert_true(note(BASE_ERROR_WAIT, NOW + HOUR, NOW + SECOND));
    assert_true(health.until == NOW + HOUR);
    assert_int_equal(health.failures, 1);
    assert_true(health.refusing);
    assert_false(note(BASE_ERROR_WAIT, NOW + MINUTE, NOW + 2 * SECOND));
    assert_true(health.until == NOW + HOUR);
}

static void test_moments_of_the_ca(void **state)
{
    (void)state;
    assert_true(note(BASE_ERROR_WAIT, NOW + HOUR, NOW));
    assert_true(health.until == NOW + HOUR);
    memset(&health, 0, sizeof(health));
    assert_true(note(BASE_ERROR_WAIT, NOW + 365 * DAY, NOW));
    assert_true(health.until == NOW + DAY);
    memset(&health, 0, sizeof(health));
    assert_true(note(BASE_ERROR_OPERATOR, 0, NOW));
    assert_true(health.until == NOW + HOUR);
    assert_true(health.refusing);
}

/* --- The record --- */

static void reload(apr_time_t now)
{
    manager_ca_store(&health, &config, cache, pool);
    memset(&health, 0xff, sizeof(health));
    manager_ca_load(&health, &config, cache, now, pool);
}

/* Retry-After: 3600 holds for the hour, over restarts. */
static void test_a_limit_outlives_the_process(void **state)
{
    (void)state;
    note(BASE_ERROR_WAIT, NOW + HOUR, NOW);
    for (int i = 0; i < 60; i++) {
        reload(NOW + i * MINUTE);
        assert_int_equal(health.failures, 1);
        assert_true(health.until == NOW + HOUR);
        assert_true(health.since == NOW);
        assert_true(health.refusing);
        assert_int_equal(health.problem.kind, BASE_ERROR_WAIT);
        assert_string_equal(health.problem.type, "rateLimited");
        assert_string_equal(health.problem.detail, "in the CA's words");
        assert_true(health.problem.retry_at == NOW + HOUR);
    }
    /* also when the configuration was changed: the CA counts on */
    config.acme.email = "new@example.org";
    reload(NOW + 30 * MINUTE);
    assert_int_equal(health.failures, 1);
}

static void test_a_changed_configuration_is_tried(void **state)
{
    (void)state;
    note(BASE_ERROR_OPERATOR, 0, NOW);
    reload(NOW);
    assert_int_equal(health.failures, 1);
    assert_true(health.refusing);
    assert_int_equal(health.problem.kind, BASE_ERROR_OPERATOR);
    config.acme.tos_any = 1;
    manager_ca_load(&health, &config, cache, NOW, pool);
    assert_int_equal(health.failures, 0);
}

static void test_well_leaves_no_record(void **state)
{
    autocert_cache_stat_t st;

    (void)state;
    note(BASE_ERROR_CA_DOWN, 0, NOW);
    manager_ca_store(&health, &config, cache, pool);
    assert_int_equal(cache_stat(cache, AUTOCERT_CACHE_PRIVATE, "ca+first", &st, pool), APR_SUCCESS);
    memset(&health, 0, sizeof(health));
    reload(NOW);
    assert_int_equal(health.failures, 0);
    assert_int_not_equal(cache_stat(cache, AUTOCERT_CACHE_PRIVATE, "ca+first", &st, pool), APR_SUCCESS);
}

static void test_records_that_cannot_be(void **state)
{
    static const char *const records[] = {
        "", "{", "[]", "{\"v\":2,\"failures\":1}", "{\"v\":1,\"failures\":-1,\"limited\":true}",
        "{\"v\":1,\"failures\":99999999999,\"limited\":true}", "{\"v\":1,\"failures\":\"1\",\"limited\":true}"
    };
    static const char future[] = "{\"v\":1,\"failures\":1,\"limited\":true,\"until\":9000000000,"
                                 "\"since\":8000000000}";

    (void)state;
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        cache_put(cache, AUTOCERT_CACHE_PRIVATE, "ca+first", records[i], strlen(records[i]), pool);
        manager_ca_load(&health, &config, cache, NOW, pool);
        assert_int_equal(health.failures, 0);
        assert_true(health.until == 0);
    }
    cache_put(cache, AUTOCERT_CACHE_PRIVATE, "ca+first", future, strlen(future), pool);
    manager_ca_load(&health, &config, cache, NOW, pool);
    assert_true(health.until == NOW + DAY);
    assert_true(health.since == NOW);
}

/* --- The choice --- */

static apr_array_header_t *make_cas(int n)
{
    apr_array_header_t *cas = apr_array_make(pool, n, sizeof(manager_ca_t));

    for (int i = 0; i < n; i++) {
        manager_ca_t *ca = apr_array_push(cas);

        memset(ca, 0, sizeof(*ca));
        ca->config = &config;
    }
    return cas;
}

static void pause_until(manager_ca_t *ca, apr_time_t since, apr_time_t until, int refusing)
{
    ca->health.failures = 1;
    ca->health.since = since;
    ca->health.until = until;
    ca->health.refusing = refusing;
}

static manager_ca_choice_t choose(const apr_array_header_t *cas, const manager_ca_need_t *need)
{
    manager_ca_choice_t choice;

    manager_ca_choose(&choice, cas, need, NOW);
    return choice;
}

static const manager_ca_need_t first_certificate = { .saved = -1 };

static void test_the_first_that_is_well(void **state)
{
    apr_array_header_t *cas = make_cas(3);
    manager_ca_choice_t choice;

    (void)state;
    assert_int_equal(choose(cas, &first_certificate).ca, 0);
    pause_until(manager_ca_at(cas, 0), NOW - SECOND, NOW + MINUTE, 0);
    assert_int_equal(choose(cas, &first_certificate).ca, 1);
    pause_until(manager_ca_at(cas, 1), NOW - SECOND, NOW + SECOND, 0);
    assert_int_equal(choose(cas, &first_certificate).ca, 2);
    pause_until(manager_ca_at(cas, 2), NOW - SECOND, NOW + HOUR, 1);
    choice = choose(cas, &first_certificate);
    assert_int_equal(choice.ca, -1);
    assert_true(choice.when == NOW + SECOND);
    assert_false(choice.refused);
}

static void test_nobody_waits_for_a_refusal(void **state)
{
    apr_array_header_t *cas = make_cas(1);
    manager_ca_choice_t choice;

    (void)state;
    pause_until(manager_ca_at(cas, 0), NOW - SECOND, NOW + HOUR, 1);
    choice = choose(cas, &first_certificate);
    assert_int_equal(choice.ca, -1);
    assert_true(choice.refused);
    assert_true(choice.when == NOW + HOUR);
}

/* A renewal waits a twentieth of the lifetime for a CA that is down, at most a day. */
static void test_renewals_are_patient(void **state)
{
    apr_array_header_t *cas = make_cas(2);
    manager_ca_need_t six_days = { .saved = -1, .due = NOW - DAY, .lifetime = 6 * DAY };
    manager_ca_need_t ninety = { .saved = -1, .due = NOW - 3 * DAY, .lifetime = 90 * DAY };
    manager_ca_choice_t choice;

    (void)state;
    pause_until(manager_ca_at(cas, 0), NOW - 7 * HOUR, NOW + MINUTE, 0);
    choice = choose(cas, &six_days);
    assert_int_equal(choice.ca, -1);
    assert_true(choice.when == NOW + MINUTE);
    manager_ca_at(cas, 0)->health.since = NOW - 8 * HOUR;
    assert_int_equal(choose(cas, &six_days).ca, 1);
    assert_int_equal(choose(cas, &ninety).ca, -1);
    manager_ca_at(cas, 0)->health.since = NOW - DAY;
    assert_int_equal(choose(cas, &ninety).ca, 1);
    /* the time counts from when it is due, too */
    six_days.due = NOW - HOUR;
    assert_int_equal(choose(cas, &six_days).ca, -1);
}

static void test_what_a_name_avoids(void **state)
{
    apr_array_header_t *cas = make_cas(3);
    manager_ca_need_t need = { .saved = -1, .avoid = 1 };

    (void)state;
    assert_int_equal(choose(cas, &need).ca, 1);
    need.avoid = 3;
    assert_int_equal(choose(cas, &need).ca, 2);
    /* when nothing else is left, what is avoided is better than nothing */
    pause_until(manager_ca_at(cas, 2), NOW - SECOND, NOW + MINUTE, 0);
    assert_int_equal(choose(cas, &need).ca, 0);
}

static void test_a_saved_order_goes_on(void **state)
{
    apr_array_header_t *cas = make_cas(2);
    manager_ca_need_t need = { .saved = 1 };

    (void)state;
    assert_int_equal(choose(cas, &need).ca, 1);
    /* without budget, too */
    manager_ca_at(cas, 1)->budget_until = NOW + HOUR;
    assert_int_equal(choose(cas, &need).ca, 1);
    /* not where the name is refused, nor where nobody answers */
    need.avoid = 2;
    assert_int_equal(choose(cas, &need).ca, 0);
    need.avoid = 0;
    pause_until(manager_ca_at(cas, 1), NOW - SECOND, NOW + HOUR, 0);
    assert_int_equal(choose(cas, &need).ca, 0);
}

static void test_budgets(void **state)
{
    apr_array_header_t *cas = make_cas(2);
    manager_ca_choice_t choice;

    (void)state;
    manager_ca_at(cas, 0)->budget_until = NOW + HOUR;
    assert_int_equal(choose(cas, &first_certificate).ca, 1);
    manager_ca_at(cas, 1)->budget_until = NOW + MINUTE;
    choice = choose(cas, &first_certificate);
    assert_int_equal(choice.ca, -1);
    assert_true(choice.when == NOW + MINUTE);
    assert_true(choice.refused);
}

/* After a pause: its directory first, then one order, then all. */
static void test_the_way_back(void **state)
{
    apr_array_header_t *cas = make_cas(2);
    manager_ca_t *ca = manager_ca_at(cas, 0);

    (void)state;
    pause_until(ca, NOW - MINUTE, NOW + SECOND, 0);
    assert_false(manager_ca_wants_check(ca, NOW));
    assert_true(manager_ca_wants_check(ca, NOW + SECOND));
    ca->health.until = NOW;
    assert_int_equal(choose(cas, &first_certificate).ca, 1);
    ca->checking = 1;
    assert_false(manager_ca_wants_check(ca, NOW));
    ca->checking = 0;
    ca->checked = 1;
    assert_false(manager_ca_wants_check(ca, NOW));
    assert_int_equal(choose(cas, &first_certificate).ca, 0);
    ca->running = 1;
    assert_int_equal(choose(cas, &first_certificate).ca, 1);
    memset(&ca->health, 0, sizeof(ca->health));
    assert_int_equal(choose(cas, &first_certificate).ca, 0);
}

static void test_find(void **state)
{
    apr_array_header_t *configs = apr_array_make(pool, 1, sizeof(const manager_ca_config_t *));

    (void)state;
    APR_ARRAY_PUSH(configs, const manager_ca_config_t *) = &config;
    assert_int_equal(manager_ca_find(configs, "https://first.example/dir"), 0);
    assert_int_equal(manager_ca_find(configs, "https://first.example/dir2"), -1);
    assert_int_equal(manager_ca_find(configs, ""), -1);
}

static const struct CMUnitTest tests[] = {
    WITH_HEALTH(test_pauses_grow),
    WITH_HEALTH(test_pauses_are_bounded),
    WITH_HEALTH(test_failures_within_a_pause),
    WITH_HEALTH(test_moments_of_the_ca),
    WITH_HEALTH(test_a_limit_outlives_the_process),
    WITH_HEALTH(test_a_changed_configuration_is_tried),
    WITH_HEALTH(test_well_leaves_no_record),
    WITH_HEALTH(test_records_that_cannot_be),
    WITH_HEALTH(test_the_first_that_is_well),
    WITH_HEALTH(test_nobody_waits_for_a_refusal),
    WITH_HEALTH(test_renewals_are_patient),
    WITH_HEALTH(test_what_a_name_avoids),
    WITH_HEALTH(test_a_saved_order_goes_on),
    WITH_HEALTH(test_budgets),
    WITH_HEALTH(test_the_way_back),
    WITH_HEALTH(test_find),
};

int main(void)
{
    return RUN_TESTS(tests);
}
