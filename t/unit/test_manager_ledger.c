/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "manager/ledger.h"
#include "run.h"
#include "scratch_cache.h"

#define NOW apr_time_from_sec(1700000000)
#define SECOND apr_time_from_sec(1)
#define MINUTE apr_time_from_sec(60)
#define HOUR apr_time_from_sec(3600)
#define DAY (24 * HOUR)
#define KEY "a.example+state"

static manager_ledger_t ledger;

static int start(void **state)
{
    memset(&ledger, 0, sizeof(ledger));
    return scratch_cache_set_up(state);
}

/* Note a failure without jitter; how long it waits. */
static apr_interval_time_t note(base_error_kind_t kind, apr_interval_time_t lifetime)
{
    base_error_t err;

    base_error_set(&err, kind, APR_EGENERAL, "why");
    manager_ledger_fail(&ledger, &err, lifetime, NOW, 0);
    return ledger.next_try - NOW;
}

static void put_record(const char *text)
{
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_PRIVATE, KEY, text, strlen(text), pool),
                     APR_SUCCESS);
}

static void assert_nothing_known(void)
{
    static const manager_ledger_t zeros;

    memset(&ledger, 0xff, sizeof(ledger));
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_memory_equal(&ledger, &zeros, sizeof(ledger));
}

static void test_store_and_load(void **state)
{
    manager_ledger_t again;

    (void)state;
    manager_ledger_succeed(&ledger, "https://ca.example/dir", 1, "http-01");
    ledger.failures = 3;
    ledger.next_try = NOW + 1;
    ledger.visited = NOW - DAY;
    base_error_set(&ledger.problem, BASE_ERROR_WAIT, APR_EAGAIN, "too many \"orders\" \xc3\xa9");
    ledger.problem.http_status = 429;
    ledger.problem.retry_at = NOW + DAY;
    base_error_copy_text(ledger.problem.type, sizeof(ledger.problem.type), "rateLimited");
    assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
    manager_ledger_load(&again, cache, "a.example", pool);
    assert_int_equal(again.failures, 3);
    /* whole seconds, not earlier */
    assert_int_equal(again.next_try, NOW + SECOND);
    assert_int_equal(again.problem.kind, BASE_ERROR_WAIT);
    assert_int_equal(again.problem.status, APR_EAGAIN);
    assert_int_equal(again.problem.http_status, 429);
    assert_int_equal(again.problem.retry_at, NOW + DAY);
    assert_string_equal(again.problem.type, "rateLimited");
    assert_string_equal(again.problem.detail, "too many \"orders\" \xc3\xa9");
    assert_string_equal(again.ca, "https://ca.example/dir");
    assert_int_equal(again.test, 1);
    assert_string_equal(again.challenge, "http-01");
    assert_int_equal(again.visited, NOW - DAY);
    manager_ledger_load(&again, cache, "b.example", pool);
    assert_int_equal(again.failures, 0);
}

/* Two kinds of key of one name are two certificates. */
static void test_each_certificate_has_its_own(void **state)
{
    manager_ledger_t again;
    autocert_cache_stat_t st;

    (void)state;
    ledger.failures = 1;
    assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
    manager_ledger_load(&again, cache, "a.example+rsa", pool);
    assert_int_equal(again.failures, 0);
    ledger.failures = 2;
    assert_int_equal(manager_ledger_store(&ledger, cache, "a.example+rsa", pool), APR_SUCCESS);
    manager_ledger_load(&again, cache, "a.example", pool);
    assert_int_equal(again.failures, 1);
    manager_ledger_load(&again, cache, "a.example+rsa", pool);
    assert_int_equal(again.failures, 2);
    assert_int_equal(cache_stat(cache, AUTOCERT_CACHE_PRIVATE, "a.example+rsa+state", &st, pool),
                     APR_SUCCESS);
}

/* Failing and succeeding is no visit, and no reason to forget one. */
static void test_visits_are_left_alone(void **state)
{
    (void)state;
    ledger.visited = NOW - DAY;
    note(BASE_ERROR_VALIDATION, 0);
    note(BASE_ERROR_REFUSED, 0);
    assert_int_equal(ledger.visited, NOW - DAY);
    manager_ledger_succeed(&ledger, "https://ca.example/dir", 0, "http-01");
    assert_int_equal(ledger.visited, NOW - DAY);
}

/* A record made before visits were noted is a good record. */
static void test_record_without_a_visit(void **state)
{
    (void)state;
    put_record("{\"v\":1,\"failures\":3}");
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_int_equal(ledger.failures, 3);
    assert_int_equal(ledger.visited, 0);
}

static void test_every_kind_of_problem_survives(void **state)
{
    (void)state;
    for (int kind = BASE_ERROR_NONE; kind <= BASE_ERROR_REFUSED; kind++) {
        manager_ledger_t again;

        ledger.problem.kind = (base_error_kind_t)kind;
        ledger.problem.status = kind ? APR_EGENERAL : APR_SUCCESS;
        assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
        manager_ledger_load(&again, cache, "a.example", pool);
        assert_int_equal(again.problem.kind, kind);
    }
}

static void test_broken_records_are_nothing_known(void **state)
{
    static const char *const records[] = {
        "", "{", "[]", "null", "{}", "{\"v\":2,\"failures\":3}", "{\"failures\":3}",
        "{\"v\":\"1\",\"failures\":3}",
        "{\"v\":1,\"failures\":-3,\"next\":-1,\"test\":1,\"ca\":7,\"problem\":[]}",
        "{\"v\":1,\"failures\":99999999999,\"next\":9223372036854775807}",
        "{\"v\":1,\"visited\":9223372036854775807}", "{\"v\":1,\"visited\":-1}",
        "{\"v\":1,\"visited\":\"1700000000\"}",
        "{\"v\":1,\"problem\":{\"kind\":\"unheard-of\",\"detail\":\"x\"}}"
    };

    (void)state;
    assert_nothing_known();
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        put_record(records[i]);
        assert_nothing_known();
    }
}

static void test_long_texts_are_cut(void **state)
{
    char *text = apr_palloc(pool, 5000);

    (void)state;
    memset(text, 'x', 4999);
    text[4999] = '\0';
    manager_ledger_succeed(&ledger, text, 0, text);
    assert_int_equal(strlen(ledger.ca), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.challenge), MANAGER_LEDGER_CHALLENGE_MAX - 1);
    put_record(apr_pstrcat(pool, "{\"v\":1,\"ca\":\"", text, "\",\"challenge\":\"", text,
                           "\",\"problem\":{\"kind\":\"local\",\"detail\":\"", text,
                           "\",\"type\":\"", text, "\"}}", NULL));
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_int_equal(strlen(ledger.ca), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.problem.detail), BASE_ERROR_DETAIL_MAX - 1);
    assert_int_equal(strlen(ledger.problem.type), BASE_ERROR_TYPE_MAX - 1);
    assert_int_not_equal(ledger.problem.status, APR_SUCCESS);
}

static void test_waits_grow(void **state)
{
    static const int minutes[] = { 1, 10, 100, 1000, 1440, 1440, 1440, 1440 };

    (void)state;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(note(BASE_ERROR_VALIDATION, 0), minutes[i] * MINUTE);
        assert_int_equal(ledger.failures, i + 1);
        assert_int_equal(ledger.problem.kind, BASE_ERROR_VALIDATION);
        assert_string_equal(ledger.problem.detail, "why");
    }
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(note(BASE_ERROR_LOCAL, 0), DAY);
    }
}

static void test_operator_waits_the_maximum_from_the_third_on(void **state)
{
    (void)state;
    assert_int_equal(note(BASE_ERROR_OPERATOR, 0), MINUTE);
    assert_int_equal(note(BASE_ERROR_OPERATOR, 0), 10 * MINUTE);
    assert_int_equal(note(BASE_ERROR_OPERATOR, 0), DAY);
    assert_int_equal(note(BASE_ERROR_GONE, 0), 1000 * MINUTE);
}

static void test_wait_is_bound_by_the_lifetime(void **state)
{
    base_error_t err;

    (void)state;
    ledger.failures = 20;
    assert_true(note(BASE_ERROR_VALIDATION, HOUR) <= HOUR / 20);
    assert_true(ledger.next_try > NOW + MINUTE);
    base_error_set(&err, BASE_ERROR_OPERATOR, APR_EGENERAL, "x");
    manager_ledger_fail(&ledger, &err, HOUR, NOW, 0xffffffff);
    assert_true(ledger.next_try - NOW <= HOUR / 20);
    /* a lifetime that is nonsense makes no loop without a pause */
    assert_true(note(BASE_ERROR_VALIDATION, 1) >= SECOND);
    assert_int_equal(note(BASE_ERROR_VALIDATION, 90 * DAY), DAY);
}

static void test_jitter(void **state)
{
    apr_time_t last = 0;
    base_error_t err;

    (void)state;
    base_error_set(&err, BASE_ERROR_VALIDATION, APR_EGENERAL, "x");
    for (int i = 0; i <= 4; i++) {
        apr_uint32_t random = i < 4 ? (apr_uint32_t)i << 30 : 0xffffffff;

        memset(&ledger, 0, sizeof(ledger));
        manager_ledger_fail(&ledger, &err, 0, NOW, random);
        assert_true(ledger.next_try > last);
        assert_true(ledger.next_try >= NOW + MINUTE);
        assert_true(ledger.next_try <= NOW + MINUTE + MINUTE / 5);
        last = ledger.next_try;
    }
    assert_true(last > NOW + MINUTE + MINUTE / 6);
}

static void test_retry_after_is_kept(void **state)
{
    base_error_t err;

    (void)state;
    base_error_set(&err, BASE_ERROR_WAIT, APR_EAGAIN, "later");
    err.retry_at = NOW + 20 * HOUR;
    manager_ledger_fail(&ledger, &err, HOUR, NOW, 0);
    assert_int_equal(ledger.next_try, NOW + 20 * HOUR);
    manager_ledger_fail(&ledger, &err, HOUR, NOW, 0xffffffff);
    assert_true(ledger.next_try > NOW + 20 * HOUR);
    memset(&ledger, 0, sizeof(ledger));
    err.retry_at = NOW + 365 * DAY;
    manager_ledger_fail(&ledger, &err, HOUR, NOW, 0);
    assert_int_equal(ledger.next_try, NOW + DAY);
    memset(&ledger, 0, sizeof(ledger));
    ledger.failures = 2;
    err.retry_at = NOW + SECOND;
    manager_ledger_fail(&ledger, &err, 0, NOW, 0);
    assert_int_equal(ledger.next_try, NOW + 100 * MINUTE);
}

static void test_what_is_no_failure_changes_nothing(void **state)
{
    static const base_error_kind_t kinds[] = {
        BASE_ERROR_BUSY, BASE_ERROR_CANCELLED, BASE_ERROR_CA_DOWN, BASE_ERROR_NONE,
        BASE_ERROR_REFUSED
    };
    manager_ledger_t before;

    (void)state;
    note(BASE_ERROR_VALIDATION, 0);
    before = ledger;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        note(kinds[i], 0);
        assert_memory_equal(&ledger, &before, sizeof(ledger));
    }
}

static void test_success_forgets_failures(void **state)
{
    (void)state;
    note(BASE_ERROR_VALIDATION, 0);
    note(BASE_ERROR_CA_DOWN, 0);
    manager_ledger_succeed(&ledger, "https://ca.example/dir", 0, "tls-alpn-01");
    assert_int_equal(ledger.failures, 0);
    assert_int_equal(ledger.next_try, 0);
    assert_int_equal(ledger.problem.kind, BASE_ERROR_NONE);
    assert_string_equal(ledger.challenge, "tls-alpn-01");
    assert_int_equal(ledger.test, 0);
    manager_ledger_succeed(&ledger, NULL, 0, NULL);
    assert_string_equal(ledger.ca, "");
}

static void test_store_tells_the_cache_s_error(void **state)
{
    (void)state;
    assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
    assert_int_equal(manager_ledger_store(&ledger, cache, "../a", pool), APR_EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, scratch_cache_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_store_and_load),
        TEST(test_each_certificate_has_its_own),
        TEST(test_visits_are_left_alone),
        TEST(test_record_without_a_visit),
        TEST(test_every_kind_of_problem_survives),
        TEST(test_broken_records_are_nothing_known),
        TEST(test_long_texts_are_cut),
        TEST(test_waits_grow),
        TEST(test_operator_waits_the_maximum_from_the_third_on),
        TEST(test_wait_is_bound_by_the_lifetime),
        TEST(test_jitter),
        TEST(test_retry_after_is_kept),
        TEST(test_what_is_no_failure_changes_nothing),
        TEST(test_success_forgets_failures),
        TEST(test_store_tells_the_cache_s_error)
    };

    return RUN_TESTS(tests);
}
