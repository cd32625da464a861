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
static apr_time_t now;
static apr_uint32_t luck;           /* the random bits */
static apr_array_header_t *one_ca, *two_cas;

static const manager_ca_config_t first_ca = { .acme = { .id = "first",
                                                        .directory_url = "https://ca.example/dir" } };
static const manager_ca_config_t second_ca = { .acme = { .id = "second",
                                                         .directory_url = "https://two.example/dir" },
                                               .test = 1 };

static int start(void **state)
{
    int rv = scratch_cache_set_up(state);

    memset(&ledger, 0, sizeof(ledger));
    now = NOW;
    luck = 0;
    one_ca = apr_array_make(pool, 1, sizeof(const manager_ca_config_t *));
    two_cas = apr_array_make(pool, 2, sizeof(const manager_ca_config_t *));
    APR_ARRAY_PUSH(one_ca, const manager_ca_config_t *) = &first_ca;
    APR_ARRAY_PUSH(two_cas, const manager_ca_config_t *) = &first_ca;
    APR_ARRAY_PUSH(two_cas, const manager_ca_config_t *) = &second_ca;
    return rv;
}

/* Note a failure at one of the CAs; how long it waits. */
static apr_interval_time_t note_all(const apr_array_header_t *cas, int ca, const base_error_t *err,
                                    apr_interval_time_t lifetime, int validations)
{
    manager_ledger_failure_t failure = { .err = err, .cas = cas, .ca = ca, .validations = validations,
                                         .lifetime = lifetime, .now = now, .random = luck };

    manager_ledger_fail(&ledger, &failure);
    return ledger.next_try - now;
}

/* The same with no more than a kind. */
static apr_interval_time_t note_at(const apr_array_header_t *cas, int ca, base_error_kind_t kind)
{
    base_error_t err;

    base_error_set(&err, kind, APR_EGENERAL, "why");
    return note_all(cas, ca, &err, 0, 0);
}

/* One CA, nothing in service but what lives so long, no jitter; how long it waits. */
static apr_interval_time_t note(base_error_kind_t kind, apr_interval_time_t lifetime)
{
    base_error_t err;

    base_error_set(&err, kind, APR_EGENERAL, "why");
    return note_all(one_ca, 0, &err, lifetime, 0);
}

static void succeed(const manager_ca_config_t *ca, const char *challenge, apr_interval_time_t lifetime)
{
    manager_ledger_success_t success = { .certificate = "0123456789abcdef0123456789abcdef", .ca = ca,
                                         .account = "https://ca.example/account/1", .challenge = challenge,
                                         .lifetime = lifetime, .now = now };

    manager_ledger_succeed(&ledger, &success);
}

static apr_uint32_t avoided(const apr_array_header_t *cas)
{
    return manager_ledger_avoid(&ledger, cas, now);
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
    succeed(&second_ca, "http-01", 0);
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
    assert_string_equal(again.ca, "https://two.example/dir");
    assert_int_equal(again.test, 1);
    assert_string_equal(again.challenge, "http-01");
    assert_int_equal(again.visited, NOW - DAY);
    manager_ledger_load(&again, cache, "b.example", pool);
    assert_int_equal(again.failures, 0);
}

/* What is known of CAs, validations and the certificate. */
static void test_all_of_it_survives(void **state)
{
    manager_ledger_t again;

    (void)state;
    succeed(&first_ca, "http-01", 0);
    note_at(two_cas, 1, BASE_ERROR_VALIDATION);
    note_at(two_cas, 0, BASE_ERROR_OPERATOR);
    for (int i = 0; i < MANAGER_LEDGER_VALIDATIONS; i++) {
        ledger.failed_validations[i] = NOW - i * MINUTE;
    }
    ledger.configuration = 0xfedcba9876543210ULL;
    ledger.hasty = 2;
    ledger.window_start = NOW + DAY;
    ledger.window_end = NOW + 3 * DAY;
    ledger.window_chosen = NOW + 2 * DAY;
    ledger.info_next = NOW + HOUR;
    ledger.info_failures = 5;
    base_error_copy_text(ledger.explanation, sizeof(ledger.explanation), "https://ca.example/why?\"1\"");
    assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
    memset(&again, 0xff, sizeof(again));
    manager_ledger_load(&again, cache, "a.example", pool);
    assert_memory_equal(&again, &ledger, sizeof(ledger));
    assert_string_equal(again.problem_ca, "first");
    assert_int_equal(again.cas[0].failures + again.cas[1].failures, 2);
    assert_string_equal(again.account, "https://ca.example/account/1");
    assert_int_equal(again.issued, NOW);
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
    succeed(&first_ca, "http-01", 0);
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

/* So is one that was made before there were several CAs and renewal information. */
static void test_record_of_an_earlier_version(void **state)
{
    manager_ledger_t expected = { .failures = 2, .next_try = NOW, .test = 1, .visited = NOW - DAY,
                                  .ca = "https://ca.example/dir", .challenge = "http-01" };

    (void)state;
    put_record("{\"v\":1,\"failures\":2,\"next\":1700000000,\"test\":true,\"ca\":\"https://ca.example/dir\","
               "\"challenge\":\"http-01\",\"visited\":1699913600,\"problem\":{\"kind\":\"validation\","
               "\"status\":20014,\"http\":0,\"retry\":0,\"type\":\"dns\",\"detail\":\"why\"}}");
    base_error_set(&expected.problem, BASE_ERROR_VALIDATION, 20014, "why");
    base_error_copy_text(expected.problem.type, sizeof(expected.problem.type), "dns");
    memset(&ledger, 0xff, sizeof(ledger));
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_memory_equal(&ledger, &expected, sizeof(ledger));
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
        "{\"v\":1,\"visited\":253402300800}",
        "{\"v\":1,\"problem\":{\"kind\":\"unheard-of\",\"detail\":\"x\"}}",
        "{\"v\":1,\"cas\":{},\"failed-validations\":7,\"window\":[],\"configuration\":1,\"issued\":\"x\"}",
        "{\"v\":1,\"cas\":[7,{},{\"id\":\"\",\"failures\":3},{\"failures\":3,\"until\":4}]}",
        "{\"v\":1,\"failed-validations\":[-1,\"x\",9223372036854775807,253402300800]}",
        "{\"v\":1,\"configuration\":\"0123456789abcdeg\",\"hasty\":-1,\"info-failures\":99999999999}",
        "{\"v\":1,\"configuration\":\"00123456789abcdef\",\"info-next\":-5}",
        "{\"v\":1,\"window\":{\"start\":20,\"end\":10,\"chosen\":15}}",
        "{\"v\":1,\"window\":{\"start\":10,\"end\":20,\"chosen\":21}}",
        "{\"v\":1,\"window\":{\"start\":10,\"end\":20,\"chosen\":9}}",
        "{\"v\":1,\"window\":{\"start\":0,\"end\":20,\"chosen\":9}}"
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
    manager_ledger_succeed(&ledger, &(const manager_ledger_success_t){
        .certificate = text, .ca = &(const manager_ca_config_t){ .acme = { .directory_url = text } },
        .account = text, .challenge = text });
    assert_int_equal(strlen(ledger.certificate), MANAGER_LEDGER_FINGERPRINT_SIZE - 1);
    assert_int_equal(strlen(ledger.ca), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.account), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.challenge), MANAGER_LEDGER_CHALLENGE_MAX - 1);
    put_record(apr_pstrcat(pool, "{\"v\":1,\"ca\":\"", text, "\",\"challenge\":\"", text,
                           "\",\"problem\":{\"kind\":\"local\",\"detail\":\"", text,
                           "\",\"type\":\"", text, "\"},\"problem-ca\":\"", text, "\",\"account\":\"", text,
                           "\",\"certificate\":\"", text, "\",\"explanation\":\"", text,
                           "\",\"cas\":[{\"id\":\"", text, "\"}]}", NULL));
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_int_equal(strlen(ledger.ca), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.account), MANAGER_LEDGER_CA_MAX - 1);
    assert_int_equal(strlen(ledger.certificate), MANAGER_LEDGER_FINGERPRINT_SIZE - 1);
    assert_int_equal(strlen(ledger.explanation), MANAGER_LEDGER_EXPLANATION_MAX - 1);
    assert_int_equal(strlen(ledger.problem_ca), MANAGER_LEDGER_ID_MAX - 1);
    assert_int_equal(strlen(ledger.cas[0].id), MANAGER_LEDGER_ID_MAX - 1);
    assert_int_equal(strlen(ledger.problem.detail), BASE_ERROR_DETAIL_MAX - 1);
    assert_int_equal(strlen(ledger.problem.type), BASE_ERROR_TYPE_MAX - 1);
    assert_int_not_equal(ledger.problem.status, APR_SUCCESS);
}

/* More than there is room for. */
static void test_long_lists_are_cut(void **state)
{
    const char *cas = "", *validations = "";

    (void)state;
    for (int i = 0; i < 100; i++) {
        cas = apr_psprintf(pool, "%s%s{\"id\":\"ca%d\",\"failures\":%d}", cas, i ? "," : "", i, i);
        validations = apr_psprintf(pool, "%s%s%d", validations, i ? "," : "", i + 1);
    }
    put_record(apr_psprintf(pool, "{\"v\":1,\"cas\":[%s],\"failed-validations\":[%s]}", cas, validations));
    manager_ledger_load(&ledger, cache, "a.example", pool);
    assert_string_equal(ledger.cas[MANAGER_CA_MAX - 1].id, apr_psprintf(pool, "ca%d", MANAGER_CA_MAX - 1));
    assert_int_equal(ledger.cas[MANAGER_CA_MAX - 1].failures, MANAGER_CA_MAX - 1);
    assert_int_equal(ledger.failed_validations[MANAGER_LEDGER_VALIDATIONS - 1],
                     MANAGER_LEDGER_VALIDATIONS * SECOND);
    /* there is room for a CA that is in the configuration */
    note(BASE_ERROR_VALIDATION, 0);
    assert_int_equal(ledger.problem.kind, BASE_ERROR_VALIDATION);
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), MINUTE);
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), MINUTE);
    assert_int_equal(avoided(two_cas), 2);
}

/* The longest wait is a day with its jitter. */
#define LONGEST (DAY / 6 * 5)

static void test_waits_grow(void **state)
{
    static const apr_interval_time_t waits[] = { MINUTE, 10 * MINUTE, 100 * MINUTE, LONGEST, LONGEST,
                                                 LONGEST };

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(note(BASE_ERROR_VALIDATION, 0), waits[i]);
        assert_int_equal(ledger.failures, i + 1);
        assert_int_equal(ledger.problem.kind, BASE_ERROR_VALIDATION);
        assert_string_equal(ledger.problem.detail, "why");
        assert_string_equal(ledger.problem_ca, "first");
    }
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(note(BASE_ERROR_LOCAL, 0), LONGEST);
    }
    luck = 0xffffffff;
    assert_true(note(BASE_ERROR_LOCAL, 0) <= DAY);
    assert_true(ledger.next_try > NOW + DAY - MINUTE);
}

static void test_operator_waits_the_maximum(void **state)
{
    (void)state;
    assert_int_equal(note(BASE_ERROR_OPERATOR, 0), LONGEST);
    now += DAY;
    assert_int_equal(note(BASE_ERROR_OPERATOR, 0), LONGEST);
    assert_int_equal(ledger.failures, 2);
    /* another problem afterwards has its own wait */
    assert_int_equal(note(BASE_ERROR_GONE, 0), 100 * MINUTE);
}

static void test_wait_is_bound_by_the_lifetime(void **state)
{
    static const apr_interval_time_t lifetimes[] = { HOUR, 6 * DAY, 10 * DAY };

    (void)state;
    for (size_t i = 0; i < sizeof(lifetimes) / sizeof(lifetimes[0]); i++) {
        for (int kind = BASE_ERROR_VALIDATION; kind <= BASE_ERROR_OPERATOR; kind++) {
            ledger.cas[0].failures = 20;
            luck = 0;
            assert_true(note((base_error_kind_t)kind, lifetimes[i]) <= lifetimes[i] / 20);
            luck = 0xffffffff;
            assert_true(note((base_error_kind_t)kind, lifetimes[i]) <= lifetimes[i] / 20);
            assert_true(ledger.next_try - NOW > lifetimes[i] / 21);
        }
    }
    luck = 0;
    /* a lifetime that is nonsense makes no loop without a pause */
    assert_true(note(BASE_ERROR_VALIDATION, 1) >= SECOND);
    assert_int_equal(note(BASE_ERROR_VALIDATION, 90 * DAY), LONGEST);
}

static void test_jitter(void **state)
{
    apr_time_t last = 0;

    (void)state;
    for (int i = 0; i <= 4; i++) {
        luck = i < 4 ? (apr_uint32_t)i << 30 : 0xffffffff;
        memset(&ledger, 0, sizeof(ledger));
        note(BASE_ERROR_VALIDATION, 0);
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
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 0), 20 * HOUR);
    luck = 0xffffffff;
    assert_true(note_all(one_ca, 0, &err, HOUR, 0) > 20 * HOUR);
    luck = 0;
    memset(&ledger, 0, sizeof(ledger));
    err.retry_at = NOW + 365 * DAY;
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 0), DAY);
    memset(&ledger, 0, sizeof(ledger));
    note(BASE_ERROR_WAIT, 0);
    note(BASE_ERROR_WAIT, 0);
    err.retry_at = NOW + SECOND;
    assert_int_equal(note_all(one_ca, 0, &err, 0, 0), 100 * MINUTE);
    err.retry_at = NOW - DAY;
    ledger.cas[0].failures = 0;
    assert_int_equal(note_all(one_ca, 0, &err, 0, 0), MINUTE);
}

/* --- several CAs --- */

static void test_the_next_ca_is_tried_at_once(void **state)
{
    (void)state;
    assert_int_equal(avoided(two_cas), 0);
    /* one failure is no reason to leave it */
    assert_int_equal(note_at(two_cas, 0, BASE_ERROR_VALIDATION), MINUTE);
    assert_int_equal(avoided(two_cas), 0);
    luck = 0xffffffff;
    assert_int_equal(note_at(two_cas, 0, BASE_ERROR_VALIDATION), 0);
    luck = 0;
    assert_int_equal(avoided(two_cas), 1);
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), MINUTE);
    assert_int_equal(avoided(two_cas), 1);
    /* both have failed twice: the first again, and then whoever failed less often, with waits that grow */
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), 10 * MINUTE);
    assert_int_equal(avoided(two_cas), 2);
    assert_int_equal(note_at(two_cas, 0, BASE_ERROR_VALIDATION), 10 * MINUTE);
    assert_int_equal(avoided(two_cas), 1);
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), 100 * MINUTE);
    assert_int_equal(avoided(two_cas), 2);
    assert_int_equal(note_at(two_cas, 0, BASE_ERROR_VALIDATION), 100 * MINUTE);
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), LONGEST);
    assert_int_equal(ledger.failures, 8);
    assert_string_equal(ledger.problem_ca, "second");
    succeed(&first_ca, NULL, 0);
    assert_int_equal(avoided(two_cas), 0);
}

static void test_a_refusal_for_good(void **state)
{
    (void)state;
    assert_int_equal(note_at(two_cas, 0, BASE_ERROR_OPERATOR), 0);
    assert_int_equal(avoided(two_cas), 1);
    /* when both refuse, the one that did first is first again */
    now += HOUR;
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_OPERATOR), LONGEST - HOUR);
    assert_int_equal(avoided(two_cas), 2);
    now += DAY;
    assert_int_equal(avoided(two_cas), 0);
    /* one CA alone is never avoided */
    assert_int_equal(manager_ledger_avoid(&ledger, one_ca, NOW), 0);
}

static void test_a_ca_that_wants_nothing_until_later(void **state)
{
    base_error_t err;

    (void)state;
    base_error_set(&err, BASE_ERROR_WAIT, APR_EAGAIN, "later");
    err.retry_at = now + 5 * HOUR;
    assert_int_equal(note_all(two_cas, 0, &err, 0, 0), 0);
    assert_int_equal(avoided(two_cas), 1);
    /* the other one's waits are its own */
    assert_int_equal(note_at(two_cas, 1, BASE_ERROR_VALIDATION), MINUTE);
    /* both want nothing: the one that comes first, at its time, whatever the lifetime */
    err.retry_at = now + 6 * HOUR;
    assert_int_equal(note_all(two_cas, 1, &err, HOUR, 0), 5 * HOUR);
    assert_int_equal(avoided(two_cas), 2);
    now += 5 * HOUR;
    assert_int_equal(avoided(two_cas), 2);
    now += HOUR;
    /* failed once and twice */
    assert_int_equal(avoided(two_cas), 2);
    /* one that was to wait for longer than ever is of a clock that was wrong */
    ledger.cas[0].until = now + 365 * DAY;
    ledger.cas[1].until = now + 365 * DAY;
    assert_int_equal(avoided(two_cas), 2);
}

/* A CA is known by its id, not its place, and one that left the configuration makes room. */
static void test_cas_change_places(void **state)
{
    apr_array_header_t *turned = apr_array_make(pool, 2, sizeof(const manager_ca_config_t *));

    (void)state;
    APR_ARRAY_PUSH(turned, const manager_ca_config_t *) = &second_ca;
    APR_ARRAY_PUSH(turned, const manager_ca_config_t *) = &first_ca;
    note_at(two_cas, 0, BASE_ERROR_VALIDATION);
    note_at(two_cas, 0, BASE_ERROR_VALIDATION);
    assert_int_equal(avoided(turned), 2);
    for (int i = 0; i < 3 * MANAGER_CA_MAX; i++) {
        manager_ca_config_t other = { .acme = { .id = apr_psprintf(pool, "other%d", i) } };
        apr_array_header_t *cas = apr_array_copy(pool, one_ca);

        APR_ARRAY_PUSH(cas, const manager_ca_config_t *) = &other;
        assert_int_equal(note_at(cas, 1, BASE_ERROR_VALIDATION), MINUTE);
        assert_int_equal(note_at(cas, 1, BASE_ERROR_VALIDATION), 10 * MINUTE);
        assert_int_equal(avoided(cas), 2);
    }
    assert_int_equal(avoided(two_cas), 1);
}

/* --- validations --- */

static void test_no_more_than_four_validations_fail_in_an_hour(void **state)
{
    base_error_t err;

    (void)state;
    base_error_set(&err, BASE_ERROR_VALIDATION, APR_EGENERAL, "why");
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 4);
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 2), MINUTE);
    now += 10 * MINUTE;
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 2);
    note_all(one_ca, 0, &err, HOUR, 1);
    now += 10 * MINUTE;
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 1);
    /* the fourth waits for the first to be an hour old, and so does another CA */
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 1), 40 * MINUTE);
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 0);
    assert_int_equal(note_all(two_cas, 0, &err, HOUR, 0), 40 * MINUTE);
    /* a success does not make the CAs forget them */
    succeed(&first_ca, "http-01", 0);
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 0);
    now += 40 * MINUTE;
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 2);
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 3), 20 * MINUTE);
    assert_int_equal(note_all(one_ca, 0, &err, HOUR, 100), HOUR);
    now += HOUR;
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 4);
    /* moments of a clock that was wrong do not count */
    assert_int_equal(manager_ledger_validations_left(&ledger, now - 365 * DAY), 4);
}

/* An order that was cancelled, or that the CA gave up in the middle, may have failed validations. */
static void test_validations_count_whatever_the_end(void **state)
{
    static const base_error_kind_t ends[] = { BASE_ERROR_CANCELLED, BASE_ERROR_CA_DOWN, BASE_ERROR_BUSY };
    base_error_t err;

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        base_error_set(&err, ends[i], APR_EGENERAL, "why");
        note_all(one_ca, 0, &err, 0, 1);
        assert_int_equal(manager_ledger_validations_left(&ledger, now), 3 - (int)i);
    }
    assert_int_equal(ledger.failures, 0);
    assert_int_equal(ledger.next_try, 0);
}

/* Attempts that end in something else than a failure of the name use the hour up all the same: a reload every
 * few minutes, or a CA that breaks down between two tries. */
static void test_the_limit_holds_whatever_the_end(void **state)
{
    static const base_error_kind_t ends[] = { BASE_ERROR_CANCELLED, BASE_ERROR_CA_DOWN };
    base_error_t err;

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        memset(&ledger, 0, sizeof(ledger));
        now = NOW;
        base_error_set(&err, ends[i], APR_EGENERAL, "why");
        for (int n = 0; n < MANAGER_LEDGER_VALIDATIONS; n++, now += MINUTE) {
            assert_int_equal(ledger.next_try, 0);
            note_all(two_cas, 1, &err, HOUR, 1);
        }
        assert_int_equal(ledger.next_try, NOW + HOUR);
        assert_int_equal(ledger.failures, 0);
        assert_int_equal(avoided(two_cas), 0);
        /* whoever looks finds a reason, else it would take the name for well */
        assert_int_equal(ledger.problem.kind, BASE_ERROR_VALIDATION);
        assert_string_equal(ledger.problem.detail, "4 validations failed within an hour");
        assert_string_equal(ledger.problem_ca, "second");
        /* a longer wait, and the CA's own words, stay */
        base_error_set(&ledger.problem, BASE_ERROR_VALIDATION, APR_EGENERAL, "in the CA's words");
        ledger.next_try = NOW + 2 * HOUR;
        note_all(two_cas, 1, &err, HOUR, 0);
        assert_int_equal(ledger.next_try, NOW + 2 * HOUR);
        ledger.next_try = 0;
        note_all(two_cas, 1, &err, HOUR, 0);
        assert_int_equal(ledger.next_try, NOW + HOUR);
        assert_string_equal(ledger.problem.detail, "in the CA's words");
    }
}

#define FAILED_MAX (8 * 24 * MANAGER_LEDGER_VALIDATIONS)

/* How many kinds of challenge an attempt may try (manager/authorize.c): two, one after a failure, and no more
 * than may fail. */
static int kinds_of_attempt(void)
{
    int left = manager_ledger_validations_left(&ledger, now), kinds = ledger.failures > 0 ? 1 : 2;

    return left > 0 && left < kinds ? left : kinds;
}

/* One attempt with whatever comes of it; how many validations failed. */
static int attempt(apr_uint32_t random)
{
    static const base_error_kind_t ends[] = { BASE_ERROR_VALIDATION, BASE_ERROR_VALIDATION,
                                              BASE_ERROR_CA_DOWN, BASE_ERROR_CANCELLED, BASE_ERROR_WAIT,
                                              BASE_ERROR_OPERATOR };
    base_error_kind_t end = ends[random % 6];
    int validations = end == BASE_ERROR_VALIDATION ? kinds_of_attempt() : (int)(random / 6 % 2);
    base_error_t err;

    if (random / 16 % 4 == 0) {
        succeed(&first_ca, "http-01", 45 * SECOND);
        return 0;
    }
    base_error_set(&err, end, APR_EGENERAL, "why");
    luck = random * 2654435761U;
    note_all(two_cas, (int)(avoided(two_cas) & 1), &err, 45 * SECOND, validations);
    return validations;
}

/* A week of certificates of 45 seconds, with trouble of all sorts: in no hour do more than four fail. */
static void test_a_week_of_short_certificates(void **state)
{
    apr_time_t *failed = apr_palloc(pool, FAILED_MAX * sizeof(apr_time_t));
    apr_uint32_t random = 1;
    int n = 0, attempts = 0;

    (void)state;
    while (now < NOW + 7 * DAY) {
        random = random * 1664525 + 1013904223;
        for (int k = attempt(random >> 8); k > 0; k--) {
            assert_true(n < FAILED_MAX);
            failed[n] = now;
            assert_true(n < MANAGER_LEDGER_VALIDATIONS
                        || failed[n] - failed[n - MANAGER_LEDGER_VALIDATIONS] >= HOUR);
            n++;
        }
        if (++attempts % 64 == 0) {
            assert_int_equal(manager_ledger_store(&ledger, cache, "a.example", pool), APR_SUCCESS);
            manager_ledger_load(&ledger, cache, "a.example", pool);
        }
        now = ledger.next_try > now ? ledger.next_try : now + 1234567 + random % (20 * APR_USEC_PER_SEC);
    }
    /* and it is tried as often as that allows, or nearly so */
    assert_true(n > 4 * 24 * 7 / 2);
}

/* Whatever happens, there is a CA to go to. */
static void test_one_ca_is_always_left(void **state)
{
    static const base_error_kind_t ends[] = { BASE_ERROR_VALIDATION, BASE_ERROR_WAIT, BASE_ERROR_OPERATOR };
    static const apr_interval_time_t moments[] = { 0, MINUTE, 5 * HOUR, 365 * DAY };
    apr_array_header_t *cas = apr_array_make(pool, MANAGER_CA_MAX, sizeof(const manager_ca_config_t *));
    apr_uint32_t random = 7, seen = 0;

    (void)state;
    for (int i = 0; i < MANAGER_CA_MAX; i++) {
        manager_ca_config_t *ca = apr_pcalloc(pool, sizeof(*ca));

        ca->acme.id = apr_psprintf(pool, "ca%d", i);
        APR_ARRAY_PUSH(cas, const manager_ca_config_t *) = ca;
    }
    for (int n = 0; n < 2000; n++) {
        apr_uint32_t avoid = avoided(cas);
        base_error_t err;
        int i = 0;

        assert_true(avoid < (1U << MANAGER_CA_MAX) - 1);
        while (avoid >> i & 1) {
            i++;
        }
        seen |= 1U << i;
        random = random * 1664525 + 1013904223;
        base_error_set(&err, ends[(random >> 8) % 3], APR_EGENERAL, "why");
        err.retry_at = (random >> 16) % 4 ? now + moments[(random >> 16) % 4] : 0;
        note_all(cas, i, &err, (random >> 20) % 2 ? 6 * DAY : 0, 0);
        assert_true(ledger.next_try >= now && ledger.next_try <= now + DAY + DAY / 5);
        now = ledger.next_try;
    }
    assert_int_equal(seen, (1U << MANAGER_CA_MAX) - 1);
}

/* --- what clears it --- */

static void test_another_configuration_clears_the_wait(void **state)
{
    base_error_t err;

    (void)state;
    base_error_set(&err, BASE_ERROR_OPERATOR, APR_EGENERAL, "why");
    ledger.visited = NOW;
    assert_true(manager_ledger_reconfigure(&ledger, 7, now));
    note_all(one_ca, 0, &err, 0, 1);
    assert_false(manager_ledger_reconfigure(&ledger, 7, now));
    assert_int_equal(ledger.failures, 1);
    assert_true(ledger.next_try > NOW);
    assert_true(manager_ledger_reconfigure(&ledger, 8, now));
    assert_int_equal(ledger.configuration, 8);
    assert_int_equal(ledger.failures, 0);
    assert_int_equal(ledger.next_try, 0);
    assert_int_equal(ledger.problem.kind, BASE_ERROR_NONE);
    assert_string_equal(ledger.problem_ca, "");
    assert_int_equal(ledger.cas[0].failures, 0);
    assert_string_equal(ledger.cas[0].id, "");
    assert_int_equal(ledger.visited, NOW);
    assert_int_equal(manager_ledger_validations_left(&ledger, now), 3);
    assert_false(manager_ledger_reconfigure(&ledger, 8, now));
    /* but no configuration brings more validations than the hour has */
    note_all(one_ca, 0, &err, 0, 3);
    assert_true(manager_ledger_reconfigure(&ledger, 9, now));
    assert_int_equal(ledger.failures, 0);
    assert_true(ledger.next_try == now + MANAGER_LEDGER_VALIDATIONS_PERIOD);
    assert_int_equal(ledger.problem.kind, BASE_ERROR_VALIDATION);
}

static void test_hasty_issuances_are_counted(void **state)
{
    (void)state;
    /* a first one, and one by lifetime */
    succeed(&first_ca, NULL, 0);
    assert_int_equal(ledger.hasty, 0);
    now += HOUR;
    succeed(&first_ca, NULL, 90 * DAY);
    assert_int_equal(ledger.hasty, 0);
    /* by a window, soon after */
    for (int i = 1; i <= 3; i++) {
        ledger.window_start = NOW - DAY;
        ledger.window_end = ledger.window_chosen = NOW - HOUR;
        now += 29 * DAY;
        succeed(&first_ca, NULL, 90 * DAY);
        assert_int_equal(ledger.hasty, i);
        assert_int_equal(ledger.window_start, 0);
    }
    /* by a window that has its time */
    ledger.window_start = ledger.window_end = ledger.window_chosen = now + 50 * DAY;
    now += 60 * DAY;
    succeed(&first_ca, NULL, 90 * DAY);
    assert_int_equal(ledger.hasty, 0);
    /* the window is ahead: something else made it due */
    ledger.window_start = ledger.window_end = ledger.window_chosen = now + 50 * DAY;
    now += HOUR;
    succeed(&first_ca, NULL, 90 * DAY);
    assert_int_equal(ledger.hasty, 0);
    /* when the lifetime is unknown, a day is soon */
    ledger.window_start = ledger.window_end = ledger.window_chosen = now;
    now += DAY - 1;
    succeed(&first_ca, NULL, 0);
    assert_int_equal(ledger.hasty, 1);
    ledger.window_start = ledger.window_end = ledger.window_chosen = now;
    now += DAY;
    succeed(&first_ca, NULL, 0);
    assert_int_equal(ledger.hasty, 0);
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
    ledger.configuration = 7;
    ledger.info_next = NOW + DAY;
    ledger.info_failures = 3;
    ledger.window_start = ledger.window_end = ledger.window_chosen = NOW + DAY;
    base_error_copy_text(ledger.explanation, sizeof(ledger.explanation), "why");
    succeed(&second_ca, "tls-alpn-01", 0);
    assert_int_equal(ledger.failures, 0);
    assert_int_equal(ledger.next_try, 0);
    assert_int_equal(ledger.problem.kind, BASE_ERROR_NONE);
    assert_string_equal(ledger.problem_ca, "");
    assert_string_equal(ledger.cas[0].id, "");
    assert_int_equal(ledger.window_start, 0);
    assert_int_equal(ledger.window_end, 0);
    assert_int_equal(ledger.window_chosen, 0);
    assert_int_equal(ledger.info_next, 0);
    assert_int_equal(ledger.info_failures, 0);
    assert_string_equal(ledger.explanation, "");
    assert_string_equal(ledger.certificate, "0123456789abcdef0123456789abcdef");
    assert_string_equal(ledger.ca, "https://two.example/dir");
    assert_string_equal(ledger.account, "https://ca.example/account/1");
    assert_string_equal(ledger.challenge, "tls-alpn-01");
    assert_int_equal(ledger.test, 1);
    assert_int_equal(ledger.issued, NOW);
    assert_int_equal(ledger.configuration, 7);
    /* none was needed: the one that worked before is known on */
    succeed(&first_ca, NULL, 0);
    assert_string_equal(ledger.challenge, "tls-alpn-01");
    assert_int_equal(ledger.test, 0);
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
        TEST(test_all_of_it_survives),
        TEST(test_each_certificate_has_its_own),
        TEST(test_visits_are_left_alone),
        TEST(test_record_without_a_visit),
        TEST(test_record_of_an_earlier_version),
        TEST(test_every_kind_of_problem_survives),
        TEST(test_broken_records_are_nothing_known),
        TEST(test_long_texts_are_cut),
        TEST(test_long_lists_are_cut),
        TEST(test_waits_grow),
        TEST(test_operator_waits_the_maximum),
        TEST(test_wait_is_bound_by_the_lifetime),
        TEST(test_jitter),
        TEST(test_retry_after_is_kept),
        TEST(test_the_next_ca_is_tried_at_once),
        TEST(test_a_refusal_for_good),
        TEST(test_a_ca_that_wants_nothing_until_later),
        TEST(test_cas_change_places),
        TEST(test_no_more_than_four_validations_fail_in_an_hour),
        TEST(test_validations_count_whatever_the_end),
        TEST(test_the_limit_holds_whatever_the_end),
        TEST(test_a_week_of_short_certificates),
        TEST(test_one_ca_is_always_left),
        TEST(test_another_configuration_clears_the_wait),
        TEST(test_hasty_issuances_are_counted),
        TEST(test_what_is_no_failure_changes_nothing),
        TEST(test_success_forgets_failures),
        TEST(test_store_tells_the_cache_s_error)
    };

    return RUN_TESTS(tests);
}
