/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_strings.h>
#include <cmocka.h>

#include "acme/http.h"
#include "crypto/bundle.h"
#include "manager/calendar.h"
#include "manager/ledger.h"
#include "pairs.h"
#include "run.h"
#include "scratch_cache.h"

#define NOW apr_time_from_sec(1800000000)
#define HOUR apr_time_from_sec(3600)
#define DAY (24 * HOUR)
#define MANY_LOOKS 1000

static apr_time_t clock_now;
static manager_order_context_t context;
static shared_names_t *visits;
static manager_policy_t *policy;
static manager_queue_t *queue;
static manager_calendar_t *calendar;
static manager_ca_config_t ca;

static const manager_policy_settings_t settings = { .key_types = { CRYPTO_KEY_P256, CRYPTO_KEY_RSA2048 },
                                                    .kinds = 2, .retire = 30 * DAY };

static apr_time_t read_clock(void)
{
    return clock_now;
}

static manager_policy_verdict_t judge(void *baton, const char *name)
{
    size_t len = strlen(name);

    (void)baton;
    return len > 12 && strcmp(name + len - 12, ".allowed.org") == 0 ? MANAGER_POLICY_YES : MANAGER_POLICY_NO;
}

static shared_names_t *make_set(void)
{
    static const unsigned char key[SHARED_NAMES_KEY_SIZE] = "0123456789abcde";
    apr_uint32_t slots = shared_names_slots(100);
    void *memory = apr_pcalloc(pool, shared_names_size(slots));

    shared_names_init(memory, slots, key);
    return shared_names_attach(memory, shared_names_size(slots));
}

/* One CA, that nobody asks. */
static int make_ca(void)
{
    apr_array_header_t *configs = apr_array_make(pool, 1, sizeof(const manager_ca_config_t *));
    base_stop_t *stop = NULL;

    memset(&ca, 0, sizeof(ca));
    ca.acme.name = ca.acme.id = "first";
    ca.acme.directory_url = "https://first.example/dir";
    APR_ARRAY_PUSH(configs, const manager_ca_config_t *) = &ca;
    context.configs = configs;
    return base_stop_create(&stop, pool) != APR_SUCCESS
        || manager_ca_create(&context.cas, configs, cache, stop, read_clock, pool) != APR_SUCCESS;
}

static int start(void **state)
{
    static manager_policy_vhost_t vhost;
    manager_policy_rule_t *rule;
    apr_array_header_t *rules;

    if (scratch_cache_set_up(state))
        return 1;
    clock_now = NOW;
    memset(&context, 0, sizeof(context));
    context.cache = cache;
    if (make_ca())
        return 1;
    context.present = make_set();
    context.now = read_clock;
    visits = make_set();
    rules = apr_array_make(pool, 1, sizeof(manager_policy_rule_t));
    rule = apr_array_push(rules);
    memset(rule, 0, sizeof(*rule));
    rule->judge = judge;
    vhost = (manager_policy_vhost_t){ .id = 7, .settings = &settings, .rules = rules };
    policy = manager_policy_create(pool);
    manager_policy_add(policy, "listed.org", &settings, 0);
    manager_policy_add_vhost(policy, &vhost);
    queue = manager_queue_create(policy, pool);
    while (manager_queue_next_unknown(queue) != NULL)
        ;
    calendar = manager_calendar_create(policy, &context, visits, pool);
    return 0;
}

/* A certificate of 90 days in the cache. */
static void put(const char *name, EVP_PKEY *key, apr_interval_time_t left)
{
    char *pem = make_pem(name, key, clock_now + left - 90 * DAY, clock_now + left);
    const char *cache_key = apr_pstrcat(pool, name, key == rsa_key ? "+rsa" : "", NULL);

    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_SHARED, cache_key, pem, strlen(pem), pool), APR_SUCCESS);
    free(pem);
}

static void note_visit(const char *key, apr_time_t visited)
{
    manager_ledger_t ledger;

    manager_ledger_load(&ledger, cache, key, pool);
    ledger.visited = visited;
    assert_int_equal(manager_ledger_store(&ledger, cache, key, pool), APR_SUCCESS);
}

static apr_time_t noted_visit(const char *key)
{
    manager_ledger_t ledger;

    manager_ledger_load(&ledger, cache, key, pool);
    return ledger.visited;
}

static void walk(void)
{
    while (manager_calendar_walk(calendar, queue, MANY_LOOKS, clock_now))
        ;
}

static int is_queued(const char *name, int kind)
{
    manager_policy_name_t wanted = { .name = name, .settings = &settings, .kind = kind };

    return manager_queue_find(queue, &wanted) != NULL;
}

static void test_what_is_due_is_queued(void **state)
{
    (void)state;
    put("due.allowed.org", leaf_key, 10 * DAY);
    put("due.allowed.org", rsa_key, 10 * DAY);
    put("young.allowed.org", leaf_key, 80 * DAY);
    put("foreign.org", leaf_key, 10 * DAY);
    put("listed.org", leaf_key, 10 * DAY);
    put("listed.org", rsa_key, 10 * DAY);
    walk();
    assert_true(is_queued("due.allowed.org", 0));
    assert_true(is_queued("due.allowed.org", 1));
    assert_false(is_queued("young.allowed.org", 0));
    assert_false(is_queued("foreign.org", 0));
    /* the first kind of a listed name has an item of its own already; its second kind is on demand */
    assert_true(is_queued("listed.org", 1));
}

static void test_walks_again_in_time(void **state)
{
    apr_time_t due = NOW + 60 * DAY - 30 * DAY;

    (void)state;
    put("later.allowed.org", leaf_key, 60 * DAY);
    walk();
    assert_false(is_queued("later.allowed.org", 0));
    assert_int_equal(manager_calendar_next(calendar), NOW + MANAGER_CALENDAR_INTERVAL);
    clock_now += MANAGER_CALENDAR_INTERVAL - 1;
    assert_false(manager_calendar_walk(calendar, queue, MANY_LOOKS, clock_now));
    note_visit("later.allowed.org", NOW + 20 * DAY);
    /* Before the moment of renewal (which is up to 2 % of the lifetime early) it is in the queue. */
    for (clock_now = NOW + 28 * DAY; clock_now < due && !is_queued("later.allowed.org", 0); clock_now += HOUR)
        walk();
    assert_true(clock_now < due);
    assert_true(is_queued("later.allowed.org", 0));
}

/* The certificate in the cache was issued by the CA, which is to be asked about it. */
static void note_issuance(const char *key, apr_time_t ask)
{
    char fingerprint[CRYPTO_BUNDLE_FINGERPRINT_SIZE], *pem = NULL;
    manager_ledger_success_t success = { .ca = &ca, .now = clock_now };
    crypto_bundle_t *bundle = NULL;
    manager_ledger_t ledger;
    apr_size_t len = 0;

    assert_int_equal(cache_get(cache, AUTOCERT_CACHE_SHARED, key, &pem, &len, pool), APR_SUCCESS);
    assert_int_equal(crypto_bundle_parse(&bundle, pem, len, NULL), APR_SUCCESS);
    success.certificate = crypto_bundle_fingerprint(bundle, fingerprint);
    manager_ledger_load(&ledger, cache, key, pool);
    manager_ledger_succeed(&ledger, &success);
    ledger.info_next = ask;
    ledger.configuration = manager_policy_fingerprint(&settings, context.configs);
    assert_int_equal(manager_ledger_store(&ledger, cache, key, pool), APR_SUCCESS);
    crypto_bundle_free(bundle);
}

/* Questions are late by a walk rather than waiting in the queue: no more is in it than has to be done. */
static void test_questions_are_queued_when_overdue(void **state)
{
    (void)state;
    put("now.allowed.org", leaf_key, 80 * DAY);
    put("soon.allowed.org", leaf_key, 80 * DAY);
    put("later.allowed.org", leaf_key, 80 * DAY);
    put("unknown.allowed.org", leaf_key, 80 * DAY);
    note_issuance("now.allowed.org", NOW);
    /* before the next walk, but not yet */
    note_issuance("soon.allowed.org", NOW + MANAGER_CALENDAR_INTERVAL / 2);
    note_issuance("later.allowed.org", NOW + 6 * HOUR);
    walk();
    assert_true(is_queued("now.allowed.org", 0));
    assert_false(is_queued("soon.allowed.org", 0));
    assert_false(is_queued("later.allowed.org", 0));
    assert_false(is_queued("unknown.allowed.org", 0));
    clock_now += MANAGER_CALENDAR_INTERVAL;
    walk();
    assert_true(is_queued("soon.allowed.org", 0));
    assert_false(is_queued("later.allowed.org", 0));
}

/* A CA whose renewal information is not wanted is not asked. */
static void test_questions_that_nobody_asks(void **state)
{
    (void)state;
    ca.acme.no_renewal_info = 1;
    put("now.allowed.org", leaf_key, 80 * DAY);
    note_issuance("now.allowed.org", NOW);
    walk();
    assert_false(is_queued("now.allowed.org", 0));
}

static void put_wait(const char *key, apr_time_t next_try)
{
    manager_ledger_t ledger;

    memset(&ledger, 0, sizeof(ledger));
    ledger.failures = 1;
    ledger.next_try = next_try;
    ledger.configuration = manager_policy_fingerprint(&settings, context.configs);
    base_error_set(&ledger.problem, BASE_ERROR_VALIDATION, APR_EGENERAL, "why");
    assert_int_equal(manager_ledger_store(&ledger, cache, key, pool), APR_SUCCESS);
}

/* What is due but has to wait for its next try is in the queue when no later walk would find it in time. */
static void test_what_waits_for_its_next_try(void **state)
{
    (void)state;
    put("long.allowed.org", leaf_key, 10 * DAY);
    put("short.allowed.org", leaf_key, 10 * DAY);
    put_wait("long.allowed.org", NOW + DAY);
    put_wait("short.allowed.org", NOW + HOUR / 2);
    walk();
    assert_false(is_queued("long.allowed.org", 0));
    assert_true(is_queued("short.allowed.org", 0));
    for (; clock_now < NOW + DAY && !is_queued("long.allowed.org", 0); clock_now += MANAGER_CALENDAR_INTERVAL)
        walk();
    assert_true(clock_now < NOW + DAY);
}

static void test_short_lives_are_walked_often(void **state)
{
    apr_interval_time_t life = 40 * 60 * apr_time_from_sec(1);
    char *pem = make_pem("short.allowed.org", leaf_key, NOW, NOW + life);

    (void)state;
    assert_int_equal(cache_put(cache, AUTOCERT_CACHE_SHARED, "short.allowed.org", pem, strlen(pem), pool),
                     APR_SUCCESS);
    free(pem);
    walk();
    assert_int_equal(manager_calendar_next(calendar), NOW + life / 20);
    manager_calendar_note_lifetime(calendar, life / 2, NOW);
    assert_int_equal(manager_calendar_next(calendar), NOW + life / 40);
    manager_calendar_note_lifetime(calendar, 0, NOW);
    assert_int_equal(manager_calendar_next(calendar), NOW + life / 40);
}

static void test_the_set_of_certificates(void **state)
{
    (void)state;
    assert_int_equal(shared_names_find(context.present, "due.allowed.org"), SHARED_NAMES_UNKNOWN);
    put("due.allowed.org", leaf_key, 10 * DAY);
    put("other.org", rsa_key, 10 * DAY);
    walk();
    assert_int_equal(shared_names_find(context.present, "due.allowed.org"), SHARED_NAMES_YES);
    assert_int_equal(shared_names_find(context.present, "other.org+rsa"), SHARED_NAMES_YES);
    assert_int_equal(shared_names_find(context.present, "other.org"), SHARED_NAMES_NO);
    assert_int_equal(cache_remove(cache, AUTOCERT_CACHE_SHARED, "due.allowed.org", pool), APR_SUCCESS);
    clock_now += MANAGER_CALENDAR_INTERVAL;
    walk();
    assert_int_equal(shared_names_find(context.present, "due.allowed.org"), SHARED_NAMES_NO);
}

static void test_retired(void **state)
{
    (void)state;
    put("lonely.allowed.org", leaf_key, 10 * DAY);
    put("visited.allowed.org", leaf_key, 10 * DAY);
    put("unknown.allowed.org", leaf_key, 10 * DAY);
    note_visit("lonely.allowed.org", NOW - 31 * DAY);
    note_visit("visited.allowed.org", NOW - 31 * DAY);
    /* An empty set that was never turned over knows nothing, and all would count as visited. */
    shared_names_commit(visits, shared_names_begin(visits, NOW), 1);
    shared_names_add(visits, "visited.allowed.org");
    walk();
    assert_false(is_queued("lonely.allowed.org", 0));
    assert_true(is_queued("visited.allowed.org", 0));
    assert_true(noted_visit("visited.allowed.org") == NOW);
    assert_true(noted_visit("lonely.allowed.org") == NOW - 31 * DAY);
    /* what came from elsewhere has its time before it */
    assert_true(is_queued("unknown.allowed.org", 0));
    assert_true(noted_visit("unknown.allowed.org") == NOW);
    /* a visit is remembered over one walk, then it is in the ledger only */
    clock_now += 2 * DAY;
    walk();
    assert_true(noted_visit("visited.allowed.org") == NOW + 2 * DAY);
    clock_now += 2 * DAY;
    walk();
    assert_true(noted_visit("visited.allowed.org") == NOW + 2 * DAY);
}

static void test_a_slice_at_a_time(void **state)
{
    int slices = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        put(apr_psprintf(pool, "n%d.allowed.org", i), leaf_key, 10 * DAY);
    while (manager_calendar_walk(calendar, queue, 3, clock_now))
        slices++;
    assert_int_equal(slices, 3);
    for (int i = 0; i < 10; i++)
        assert_true(is_queued(apr_psprintf(pool, "n%d.allowed.org", i), 0));
    manager_calendar_hurry(calendar, clock_now);
    assert_int_equal(manager_calendar_next(calendar), clock_now);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, start, scratch_cache_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_what_is_due_is_queued),
        CASE(test_walks_again_in_time),
        CASE(test_questions_are_queued_when_overdue),
        CASE(test_questions_that_nobody_asks),
        CASE(test_what_waits_for_its_next_try),
        CASE(test_short_lives_are_walked_often),
        CASE(test_the_set_of_certificates),
        CASE(test_retired),
        CASE(test_a_slice_at_a_time),
    };
    int failed;

    apr_initialize();
    acme_http_init();
    pairs_begin(NOW - 100 * DAY, NOW + 1000 * DAY);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    pairs_end();
    apr_terminate();
    return failed;
}
