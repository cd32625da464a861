/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>

#include <apr_strings.h>

#include "base/log.h"
#include "challenge/dns01.h"
#include "challenge/dns_command.h"
#include "challenge/resolver.h"
#include "run.h"
#include "scratch.h"

/* RFC 8555 has no example for dns-01; the value was made with "openssl dgst" and "basenc". */
#define KEYAUTH "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
#define VALUE "lCM7cZyQXcVHK2nnW3jjAhNT3Fvm18UN-kWZZknKoYM"
#define HOUR apr_time_from_sec(3600)
#define LOOKS_MAX 16

static apr_pool_t *pool;
static char dir[SCRATCH_SIZE];
static char logged[4 * BASE_LOG_LINE_MAX];

/* What the looks see, one after another; the last one for ever. */
static challenge_resolver_seen_t seen[LOOKS_MAX];
static int looks;
static const challenge_resolver_config_t resolver = { .servers = "192.0.2.53" };
static base_stop_t *raised_by_look;

/* In place of the resolver, which the network would answer. */
challenge_resolver_seen_t challenge_resolver_look(const challenge_resolver_look_t *look, const char **detail,
                                                  apr_pool_t *own)
{
    challenge_resolver_seen_t now = seen[looks < LOOKS_MAX ? looks : LOOKS_MAX - 1];

    looks++;
    assert_ptr_equal(look->config, &resolver);
    assert_string_equal(look->name, "_acme-challenge.a.example");
    assert_true(look->match(look->baton, VALUE));
    assert_false(look->match(look->baton, "another"));
    assert_false(look->match(look->baton, ""));
    base_stop_raise(raised_by_look);
    *detail = apr_psprintf(own, "look %d", looks);
    return now;
}

static void receive(void *baton, int level, const char *line)
{
    (void)baton;
    (void)level;
    snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%d %s\n", level, line);
}

static int set_up(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    logged[0] = '\0';
    looks = 0;
    raised_by_look = NULL;
    base_log_set(receive, NULL);
    return scratch_make(dir);
}

static int tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return scratch_remove(dir);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" has no \"%s\"", text, part);
}

/* A program that writes down how it is called. */
static const challenge_dns_command_t *make_command(const char *last)
{
    challenge_dns_command_t *command = apr_pcalloc(pool, sizeof(*command));
    const char **argv = apr_pcalloc(pool, 2 * sizeof(*argv));
    FILE *out;

    argv[0] = apr_psprintf(pool, "%s/program", dir);
    out = fopen(argv[0], "w");
    assert_non_null(out);
    fprintf(out, "#!/bin/sh\necho \"$AUTOCERT_NAME $*\" >>%s/calls\n%s\n", dir, last);
    fclose(out);
    assert_int_equal(chmod(argv[0], 0755), 0);
    command->argv = argv;
    return command;
}

static const char *read_calls(void)
{
    char *text = apr_pcalloc(pool, 4096);
    FILE *in = fopen(apr_psprintf(pool, "%s/calls", dir), "r");

    if (in) {
        text[fread(text, 1, 4095, in)] = '\0';
        fclose(in);
    }
    return text;
}

static challenge_task_t make_task(challenge_dns_t *dns)
{
    challenge_task_t task;

    memset(&task, 0, sizeof(task));
    task.name = "a.example";
    task.token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    task.key_authorization = KEYAUTH;
    task.dns = dns;
    dns->resolver = &resolver;
    return task;
}

static void test_kind(void **state)
{
    (void)state;
    assert_string_equal(challenge_dns01.type, "dns-01");
    assert_int_equal(challenge_dns01.proves, BASE_IDENTIFIER_DNS | BASE_IDENTIFIER_WILDCARD);
    assert_true(challenge_dns01.uses_dns);
}

static void test_publish_and_withdraw(void **state)
{
    challenge_dns_t dns = { make_command("exit 0"), NULL, 0 };
    challenge_task_t task = make_task(&dns);
    base_error_t err;

    (void)state;
    assert_int_equal(challenge_dns01.publish(&task, pool, &err), APR_SUCCESS);
    task.name = "*.a.example";
    assert_int_equal(challenge_dns01.publish(&task, pool, &err), APR_SUCCESS);
    challenge_dns01.withdraw(&task, pool);
    assert_string_equal(read_calls(), "a.example present _acme-challenge.a.example. " VALUE "\n"
                        "*.a.example present _acme-challenge.a.example. " VALUE "\n"
                        "*.a.example cleanup _acme-challenge.a.example. " VALUE "\n");
    assert_null(strstr(logged, "AC0252"));
}

static void test_publish_fails(void **state)
{
    challenge_dns_t dns = { make_command("echo no such zone; exit 1"), NULL, 0 };
    challenge_task_t task = make_task(&dns);
    base_error_t err;

    (void)state;
    assert_true(challenge_dns01.publish(&task, pool, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_VALIDATION);
    assert_has(err.detail, "exit status 1: no such zone");
    dns.command = NULL;
    assert_true(challenge_dns01.publish(&task, pool, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_OPERATOR);
    assert_has(err.detail, "AutocertDNSCommand");
}

static void test_withdraw_fails(void **state)
{
    challenge_dns_t dns = { make_command("echo busy; exit 1"), NULL, 0 };
    challenge_task_t task = make_task(&dns);

    (void)state;
    challenge_dns01.withdraw(&task, pool);
    assert_has(logged, "4 AC0252: autocert: a.example: ");
    assert_has(logged, "exit status 1: busy; the record may be left over");
    assert_has(logged, "remove it: _acme-challenge.a.example. TXT " VALUE "\n");
}

/* Of a child that is gone: the token is all that is known. */
static void test_withdraw_knows_no_value(void **state)
{
    challenge_dns_t dns = { make_command("exit 0"), NULL, 0 };
    challenge_task_t task = make_task(&dns);

    (void)state;
    task.key_authorization = NULL;
    challenge_dns01.withdraw(&task, pool);
    assert_has(logged, "4 AC0252: autocert: a.example: ");
    assert_has(logged, "remove it: _acme-challenge.a.example. TXT, those that no order under way needs\n");
    logged[0] = '\0';
    task.dns = NULL;
    challenge_dns01.withdraw(&task, pool);
    assert_has(logged, "AC0252");
    assert_string_equal(read_calls(), "");
}

static apr_status_t check_once(apr_interval_time_t wait, base_stop_t *stop, base_error_t *err)
{
    challenge_dns_t dns = { NULL, NULL, wait };
    challenge_task_t task = make_task(&dns);

    task.stop = stop;
    return challenge_dns01.check(&task, pool, err);
}

static void test_check_sees_it(void **state)
{
    const char *said;
    base_error_t err;

    (void)state;
    seen[0] = CHALLENGE_RESOLVER_EVERYWHERE;
    assert_int_equal(check_once(HOUR, NULL, &err), APR_SUCCESS);
    assert_int_equal(looks, 1);
    assert_has(logged, "6 AC0253: autocert: a.example: ");
    logged[0] = '\0';
    looks = 0;
    seen[0] = CHALLENGE_RESOLVER_NOWHERE;
    seen[1] = CHALLENGE_RESOLVER_SOMEWHERE;
    seen[2] = CHALLENGE_RESOLVER_EVERYWHERE;
    assert_int_equal(check_once(HOUR, NULL, &err), APR_SUCCESS);
    assert_int_equal(looks, 3);
    /* one second, then two */
    said = strstr(logged, "seen after ");
    assert_non_null(said);
    assert_true(strtol(said + strlen("seen after "), NULL, 10) >= 3);
    assert_null(strstr(logged, "AC0254"));
}

static void test_check_gives_up(void **state)
{
    base_error_t err;

    (void)state;
    seen[0] = CHALLENGE_RESOLVER_SOMEWHERE;
    seen[1] = CHALLENGE_RESOLVER_NOWHERE;
    assert_int_equal(check_once(500000, NULL, &err), APR_SUCCESS);
    assert_int_equal(looks, 2);
    assert_has(logged, "4 AC0254: autocert: a.example: the record is not at all authoritative "
               "servers after ");
    assert_has(logged, " s: look 2; the CA is asked all the same\n");
    looks = 0;
    assert_int_equal(check_once(0, NULL, &err), APR_SUCCESS);
    assert_int_equal(looks, 0);
}

static void test_check_knows_nobody(void **state)
{
    base_error_t err;

    (void)state;
    seen[0] = seen[1] = seen[2] = CHALLENGE_RESOLVER_UNKNOWN;
    assert_int_equal(check_once(HOUR, NULL, &err), APR_SUCCESS);
    assert_int_equal(looks, 3);
    assert_has(logged, "4 AC0254: autocert: a.example: no authoritative server can be asked");
    assert_has(logged, "look 3; the CA is asked all the same\n");
}

static void test_check_is_stopped(void **state)
{
    base_stop_t *stop = NULL;
    base_error_t err;

    (void)state;
    seen[0] = CHALLENGE_RESOLVER_STOPPED;
    assert_true(check_once(HOUR, NULL, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    looks = 0;
    seen[0] = CHALLENGE_RESOLVER_NOWHERE;
    assert_int_equal(base_stop_create(&stop, pool), APR_SUCCESS);
    raised_by_look = stop;
    assert_true(check_once(HOUR, stop, &err) != APR_SUCCESS);
    assert_int_equal(err.kind, BASE_ERROR_CANCELLED);
    assert_int_equal(looks, 1);
    assert_string_equal(logged, "");
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIR(test_kind),
        WITH_DIR(test_publish_and_withdraw),
        WITH_DIR(test_publish_fails),
        WITH_DIR(test_withdraw_fails),
        WITH_DIR(test_withdraw_knows_no_value),
        WITH_DIR(test_check_sees_it),
        WITH_DIR(test_check_gives_up),
        WITH_DIR(test_check_knows_nobody),
        WITH_DIR(test_check_is_stopped)
    };

    return RUN_TESTS(tests);
}
