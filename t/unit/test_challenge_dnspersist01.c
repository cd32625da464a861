/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "base/log.h"
#include "challenge/dnspersist01.h"
#include "challenge/resolver.h"
#include "run.h"
#include "test_challenge_dns_server.h"

#define ACCOUNT "https://ca.example/acct/1"
#define RECORD_NAME "_validation-persist.a.test"
#define VALUE "ca.example; accounturi=" ACCOUNT
#define NOW apr_time_from_sec(1800000000)

static apr_array_header_t *issuers;

static void test_record(void **state)
{
    char longer[300];
    const char *record;

    (void)state;
    assert_string_equal(challenge_dnspersist01_record("a.test", "ca.example", ACCOUNT, pool),
                        RECORD_NAME ". IN TXT \"" VALUE "\"");
    assert_string_equal(challenge_dnspersist01_record("*.a.test", "ca.example", ACCOUNT, pool),
                        RECORD_NAME ". IN TXT \"" VALUE "; policy=wildcard\"");
    assert_string_equal(challenge_dnspersist01_record("a.test", "c\"a", "\\", pool),
                        RECORD_NAME ". IN TXT \"c\\\"a; accounturi=\\\\\"");
    /* 255 bytes of one string are all that there can be */
    memset(longer, 'x', sizeof(longer));
    longer[sizeof(longer) - 1] = '\0';
    record = challenge_dnspersist01_record("a.test", "ca.example", longer, pool);
    assert_non_null(strstr(record, "x\" \"x"));
    assert_int_equal(strstr(record, "x\" \"x") + 1 - strchr(record, '"') - 1, 255);
    assert_int_equal(strlen(record), strlen(RECORD_NAME ". IN TXT \"\"\" \"ca.example; accounturi=") + 299);
}

static int allows(const char *value, const char *name)
{
    return challenge_dnspersist01_allows(value, name, issuers, ACCOUNT, NOW);
}

static void test_allows(void **state)
{
    static const char *const good[] = {
        VALUE, "CA.Example.;accounturi=" ACCOUNT, " ca.example ;  accounturi = " ACCOUNT "\t; ", VALUE ";",
        "other.example; accounturi=" ACCOUNT, VALUE "; new=1; new=2", VALUE "; policy=wildcard",
        VALUE "; policy=x", VALUE "; persistUntil=1800000001",
        "ca.example; persistuntil=999999999999; AccountURI=" ACCOUNT
    };
    static const char *const bad[] = {
        "", ";", ACCOUNT, "ca.example", "ca.example; accounturi=", "; accounturi=" ACCOUNT,
        ".; accounturi=" ACCOUNT,
        "no.example; accounturi=" ACCOUNT, "ca.example.example; accounturi=" ACCOUNT,
        "ca.example; accounturi=" ACCOUNT "0", "ca.example; accounturi=HTTPS://ca.example/acct/1",
        VALUE "; accounturi=" ACCOUNT, VALUE "; policy=wildcard; policy=wildcard",
        VALUE "; persistUntil=1800000000", VALUE "; persistUntil=", VALUE "; persistUntil=1800000001x",
        VALUE "; persistUntil=-1", VALUE "; persistUntil=9999999999999999999999",
        VALUE "; persistUntil=1800000001; persistUntil=1800000001", VALUE "; word",
        VALUE ";; policy=wildcard",
        VALUE "; =x"
    };
    char longer[CHALLENGE_RESOLVER_VALUE_MAX + 8] = VALUE "; x=";

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(allows(good[i], "a.test"));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(allows(bad[i], "a.test"));
    }
    assert_false(allows(VALUE, "*.a.test"));
    assert_false(allows(VALUE "; policy=wildcards", "*.a.test"));
    assert_true(allows(VALUE "; policy=WildCard", "*.a.test"));
    memset(longer + strlen(longer), 'x', sizeof(longer) - 1 - strlen(longer));
    assert_false(allows(longer, "a.test"));
    longer[CHALLENGE_RESOLVER_VALUE_MAX] = '\0';
    assert_true(allows(longer, "a.test"));
    assert_false(challenge_dnspersist01_allows(VALUE, "a.test", NULL, ACCOUNT, NOW));
    assert_false(challenge_dnspersist01_allows(VALUE, "a.test", issuers, NULL, NOW));
}

/* --- The challenge --------------------------------------------------------------------- */

static char logged[BASE_LOG_LINE_MAX];
static int logged_level;

static void take_line(void *baton, int level, const char *line)
{
    (void)baton;
    logged_level = level;
    apr_cpystrn(logged, line, sizeof(logged));
}

/* Publish with a DNS server that has these rules. */
static apr_status_t publish(const rule_t *rules, int count, challenge_task_t *task, base_error_t *err)
{
    challenge_resolver_config_t config = { 0 };
    challenge_dns_t dns = { .resolver = &config };
    server_t server;
    apr_status_t rv;

    start_server(&server, rules, count);
    config.servers = apr_psprintf(pool, "127.0.0.1:%d", server.port);
    config.port = (unsigned int)server.port;
    task->dns = &dns;
    task->stop = server.stop;
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server), 0);
    logged[0] = '\0';
    base_log_set(take_line, NULL);
    base_error_clear(err);
    rv = challenge_dnspersist01.publish(task, pool, err);
    base_log_set(NULL, NULL);
    stop_server(&server);
    assert_int_equal(rv != APR_SUCCESS, err->kind != BASE_ERROR_NONE);
    return rv;
}

#define PUBLISH(rules, task, err) publish((rules), (int)(sizeof(rules) / sizeof((rules)[0])), (task), (err))

static challenge_task_t task_of(const char *name)
{
    return (challenge_task_t){ .name = name, .issuers = issuers, .account_uri = ACCOUNT, .now = NOW };
}

static void test_publish(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, RECORD_NAME, ns_t_txt, ANSWER, 0,
          { { RECORD_NAME, ns_t_txt, "v=spf1" },
            { RECORD_NAME, ns_t_txt, "ca.example|; accounturi=" ACCOUNT } },
          { { 0 } } }
    };
    challenge_task_t task = task_of("a.test"), wildcard = task_of("*.a.test"), other = task_of("b.test");
    base_error_t err;

    (void)state;
    assert_int_equal(PUBLISH(rules, &task, &err), APR_SUCCESS);
    assert_string_equal(logged, "");
    assert_int_not_equal(PUBLISH(rules, &wildcard, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_non_null(strstr(err.detail, RECORD_NAME ". IN TXT \"" VALUE "; policy=wildcard\""));
    assert_memory_equal(logged, "AC0244: autocert: *.a.test: ", 28);
    assert_int_equal(logged_level, BASE_LOG_WARNING);
    assert_non_null(strstr(logged, "the next try finds it: " RECORD_NAME ". IN TXT \"" VALUE
                           "; policy=wildcard\""));
    assert_int_not_equal(PUBLISH(rules, &other, &err), APR_SUCCESS);
    assert_non_null(strstr(err.detail, "_validation-persist.b.test. IN TXT \"" VALUE "\""));
    challenge_dnspersist01.withdraw(&task, pool);
}

static void test_publish_when_nobody_knows(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, RECORD_NAME, ns_t_txt, GARBAGE, 0, { { 0 } }, { { 0 } } }
    };
    challenge_task_t task = task_of("a.test");
    base_error_t err;

    (void)state;
    assert_int_equal(PUBLISH(rules, &task, &err), APR_SUCCESS);
    assert_memory_equal(logged, "AC0245: autocert: a.test: ", 26);
    assert_int_equal(logged_level, BASE_LOG_INFO);
    assert_non_null(strstr(logged, "gave no answer"));
}

static void test_publish_without_issuers(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, RECORD_NAME, ns_t_txt, ANSWER, 0, { { RECORD_NAME, ns_t_txt, VALUE } }, { { 0 } } }
    };
    challenge_task_t task = task_of("a.test");
    base_error_t err;

    (void)state;
    task.issuers = NULL;
    assert_int_not_equal(PUBLISH(rules, &task, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_non_null(strstr(err.detail, "issuer-domain-names"));
    task.issuers = apr_array_make(pool, 1, sizeof(const char *));
    assert_int_not_equal(PUBLISH(rules, &task, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
}

static void test_publish_stopped(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, RECORD_NAME, ns_t_txt, RAISE, 0, { { 0 } }, { { 0 } } }
    };
    challenge_task_t task = task_of("a.test");
    base_error_t err;

    (void)state;
    assert_int_not_equal(PUBLISH(rules, &task, &err), APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
}

static int set_up(void **state)
{
    (void)state;
    issuers = apr_array_make(pool, 2, sizeof(const char *));
    APR_ARRAY_PUSH(issuers, const char *) = "ca.example";
    APR_ARRAY_PUSH(issuers, const char *) = "other.example.";
    return challenge_resolver_init() != APR_SUCCESS;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_record, set_up),
        cmocka_unit_test_setup(test_allows, set_up),
        cmocka_unit_test_setup(test_publish, set_up),
        cmocka_unit_test_setup(test_publish_when_nobody_knows, set_up),
        cmocka_unit_test_setup(test_publish_without_issuers, set_up),
        cmocka_unit_test_setup(test_publish_stopped, set_up)
    };

    return RUN_TESTS_WITH_POOL(tests, pool);
}
