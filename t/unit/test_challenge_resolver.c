/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "challenge/resolver.h"
#include "run.h"
#include "test_challenge_dns_server.h"

#define RECORDS_MAX 72

/* --- Looks ----------------------------------------------------------------------------- */

static int matched;             /* calls */

static int match(void *baton, const char *value)
{
    __atomic_add_fetch(&matched, 1, __ATOMIC_SEQ_CST);
    return strcmp(value, baton) == 0;
}

static const char *said;

/* Look for the value "good", or another one, with a server that has these rules. */
static challenge_resolver_seen_t look_for(server_t *server, const char *name, const char *value)
{
    challenge_resolver_config_t config = {
        .servers = apr_psprintf(pool, "127.0.0.1:%d", server->port), .port = (unsigned int)server->port
    };
    challenge_resolver_look_t look = {
        .config = &config, .name = name, .match = match, .baton = (void *)value, .stop = server->stop
    };
    challenge_resolver_seen_t seen;

    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    said = NULL;
    seen = challenge_resolver_look(&look, &said, pool);
    stop_server(server);
    assert_non_null(said);
    return seen;
}

#define START(server, rules) start_server(&(server), (rules), (int)(sizeof(rules) / sizeof((rules)[0])))

#define LOOK(rules, name, value) \
    look_with((rules), (int)(sizeof(rules) / sizeof((rules)[0])), (name), (value))

static challenge_resolver_seen_t look_with(const rule_t *rules, int count, const char *name,
                                           const char *value)
{
    server_t server;

    start_server(&server, rules, count);
    return look_for(&server, name, value);
}

#define TXT(name, data) { name, ns_t_txt, data }
#define NAME "_acme-challenge.www.a.test"
/* A zone a.test with the servers' addresses at hand. */
#define ZONE \
    { RECURSIVE, NAME, ns_t_soa, ANSWER, ns_r_nxdomain, { { 0 } }, { { "a.test", ns_t_soa, "" } } }, \
    { RECURSIVE, "a.test", ns_t_ns, ANSWER, 0, \
      { { "a.test", ns_t_ns, "ns1.b.test" }, { "a.test", ns_t_ns, "ns2.b.test" } }, { { 0 } } }, \
    { RECURSIVE, "ns1.b.test", ns_t_a, ANSWER, 0, { { "ns1.b.test", ns_t_a, "127.0.0.1" } }, { { 0 } } }
#define SECOND_IS(type, address) \
    { RECURSIVE, "ns2.b.test", type, ANSWER, 0, { { "ns2.b.test", type, address } }, { { 0 } } }
#define HAS(at, value) { at, NAME, ns_t_txt, ANSWER, 0, { TXT(NAME, value) }, { { 0 } } }
#define HAS_NOT(at) { at, NAME, ns_t_txt, ANSWER, 0, { { 0 } }, { { "a.test", ns_t_soa, "" } } }
#define DOES(at, how, rcode) { at, NAME, ns_t_txt, how, rcode, { { 0 } }, { { 0 } } }

static void test_recursive(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, NAME, ns_t_txt, ANSWER, 0,
          { TXT(NAME, "other"), TXT("_Acme-Challenge.WWW.a.test", "good"), TXT(NAME, "in |two| strings") },
          { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_non_null(strstr(said, "the servers of the zone are not known; 127.0.0.1:"));
    assert_non_null(strstr(said, " has it"));
    assert_int_equal(LOOK(rules, NAME, "other"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(rules, NAME, "in two strings"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(rules, NAME, "in "), CHALLENGE_RESOLVER_NOWHERE);
    /* no such name, a name without the record */
    assert_int_equal(LOOK(rules, "no.a.test", "good"), CHALLENGE_RESOLVER_NOWHERE);
    assert_non_null(strstr(said, "has no such record"));
}

static void test_authoritative(void **state)
{
    static const rule_t both[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                   HAS(SECOND, "good") };
    static const rule_t one[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"), HAS_NOT(SECOND) };
    static const rule_t none[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "old"),
                                   HAS(RECURSIVE, "good") };
    static const rule_t six[] = { ZONE, SECOND_IS(ns_t_aaaa, "::1"), HAS(FIRST, "old"), HAS(SIXTH, "good") };

    (void)state;
    assert_int_equal(LOOK(both, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_non_null(strstr(said, "127.0.0.2:"));
    assert_int_equal(LOOK(one, NAME, "good"), CHALLENGE_RESOLVER_SOMEWHERE);
    assert_non_null(strstr(said, " has it, 127.0.0.2:"));
    /* what a cache has does not count when the zone's own servers answer */
    assert_int_equal(LOOK(none, NAME, "good"), CHALLENGE_RESOLVER_NOWHERE);
    assert_int_equal(LOOK(six, NAME, "good"), CHALLENGE_RESOLVER_SOMEWHERE);
    assert_non_null(strstr(said, "[::1]:"));
}

/* The SOA record is that of a parent, which stands in the answer to a question for it alone. */
static void test_walk_up(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, NAME, ns_t_soa, ANSWER, ns_r_servfail, { { 0 } }, { { 0 } } },
        /* nobody's: not above the name */
        { RECURSIVE, "www.a.test", ns_t_soa, ANSWER, 0, { { 0 } }, { { "b.test", ns_t_soa, "" } } },
        { RECURSIVE, "a.test", ns_t_soa, ANSWER, 0, { { "a.test", ns_t_soa, "" } }, { { 0 } } },
        { RECURSIVE, "a.test", ns_t_ns, ANSWER, 0, { { "a.test", ns_t_ns, "ns1.b.test" } }, { { 0 } } },
        { RECURSIVE, "ns1.b.test", ns_t_a, ANSWER, 0, { { "ns1.b.test", ns_t_a, "127.0.0.2" } }, { { 0 } } },
        HAS(SECOND, "good")
    };

    (void)state;
    assert_int_equal(LOOK(rules, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_null(strstr(said, "not known"));
}

/* A server that does not answer, or does not know the zone, decides nothing when another one answers. */
static void test_servers_that_do_not_count(void **state)
{
    static const rule_t silent[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                     DOES(SECOND, SILENCE, 0) };
    static const rule_t lame[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                   DOES(SECOND, LAME, 0) };
    static const rule_t refused[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                      DOES(SECOND, ANSWER, ns_r_refused) };
    static const rule_t absent[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.3"), HAS(FIRST, "good") };
    static const rule_t garbage[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                      DOES(SECOND, GARBAGE, 0) };

    (void)state;
    assert_int_equal(LOOK(silent, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_non_null(strstr(said, "gave no answer"));
    assert_int_equal(LOOK(lame, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(refused, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(absent, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(garbage, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
}

/* Behind a firewall only the recursive server can be asked: what it has is there, what it has not may
 * come. */
static void test_no_authoritative_answer(void **state)
{
    static const rule_t has[] = { ZONE, DOES(FIRST, LAME, 0), HAS(RECURSIVE, "good") };
    static const rule_t has_not[] = { ZONE, DOES(FIRST, LAME, 0), HAS(RECURSIVE, "old") };

    (void)state;
    assert_int_equal(LOOK(has, NAME, "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_int_equal(LOOK(has_not, NAME, "good"), CHALLENGE_RESOLVER_UNKNOWN);
}

static void test_cnames(void **state)
{
    /* the first is known from the question for the zone, the second from an authoritative server, and the
     * last from the recursive one */
    static const rule_t rules[] = {
        ZONE,
        { RECURSIVE, "start.test", ns_t_soa, ANSWER, 0, { { "start.test", ns_t_cname, NAME } },
          { { "a.test", ns_t_soa, "" } } },
        { FIRST, NAME, ns_t_txt, ANSWER, 0,
          { { NAME, ns_t_cname, "third.test" }, TXT("third.test", "stale") }, { { 0 } } },
        { RECURSIVE, "third.test", ns_t_txt, ANSWER, 0, { { "third.test", ns_t_cname, "x.fourth.test" } },
          { { 0 } } },
        { RECURSIVE, "x.fourth.test", ns_t_txt, ANSWER, 0, { TXT("x.fourth.test", "good") }, { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, "start.test", "good"), CHALLENGE_RESOLVER_EVERYWHERE);
    assert_non_null(strstr(said, "at x.fourth.test, where a CNAME leads: "));
    assert_int_equal(LOOK(rules, "start.test", "stale"), CHALLENGE_RESOLVER_NOWHERE);
}

static void test_cname_loop(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a.test", ns_t_txt, ANSWER, 0, { { "a.test", ns_t_cname, "b.test" } }, { { 0 } } },
        { RECURSIVE, "b.test", ns_t_txt, ANSWER, 0, { { "b.test", ns_t_cname, "a.test" } }, { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, "a.test", "good"), CHALLENGE_RESOLVER_NOWHERE);
    assert_string_equal(said, "more than 8 CNAMEs one after the other");
}

static void test_records_of_other_names(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a.test", ns_t_txt, ANSWER, 0,
          { TXT("b.test", "good"), { "b.test", ns_t_cname, "c.test" }, TXT("a.test.test", "good") },
          { { 0 } } },
        { RECURSIVE, "c.test", ns_t_txt, ANSWER, 0, { TXT("c.test", "good") }, { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, "a.test", "good"), CHALLENGE_RESOLVER_NOWHERE);
}

static void test_too_many_records(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a", ns_t_txt, ANSWER, 0, { TXT("a", "x") }, { { 0 } } }
    };
    server_t server;

    (void)state;
    matched = 0;
    START(server, rules);
    server.repeat = RECORDS_MAX;
    assert_int_equal(look_for(&server, "a", "good"), CHALLENGE_RESOLVER_NOWHERE);
    assert_int_equal(matched, CHALLENGE_RESOLVER_VALUES_MAX);
}

static void test_garbage(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a.test", ns_t_soa, GARBAGE, 0, { { 0 } }, { { 0 } } },
        { RECURSIVE, "a.test", ns_t_txt, GARBAGE, 0, { { 0 } }, { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, "a.test", "good"), CHALLENGE_RESOLVER_UNKNOWN);
    assert_non_null(strstr(said, "gave no answer"));
    /* no name at all */
    assert_int_equal(LOOK(rules, "a..test", "good"), CHALLENGE_RESOLVER_UNKNOWN);
}

static void test_silence(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a.test", ns_t_txt, SILENCE, 0, { { 0 } }, { { 0 } } }
    };

    (void)state;
    assert_int_equal(LOOK(rules, "a.test", "good"), CHALLENGE_RESOLVER_UNKNOWN);
}

static void test_truncated(void **state)
{
    static const rule_t rules[] = {
        { RECURSIVE, "a", ns_t_txt, TRUNCATED, 0, { TXT("a", "good"), TXT("a", "x") }, { { 0 } } }
    };
    server_t server;

    (void)state;
    START(server, rules);
    server.repeat = RECORDS_MAX;
    assert_int_equal(look_for(&server, "a", "good"), CHALLENGE_RESOLVER_EVERYWHERE);
}

/* The stop comes while an answer is waited for: nothing else would end the look that early. */
static void test_stop(void **state)
{
    static const rule_t at_once[] = {
        { RECURSIVE, "a.test", ns_t_soa, RAISE, 0, { { 0 } }, { { 0 } } }
    };
    static const rule_t later[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                    DOES(SECOND, RAISE, 0) };
    server_t server;

    (void)state;
    assert_int_equal(LOOK(at_once, "a.test", "good"), CHALLENGE_RESOLVER_STOPPED);
    assert_int_equal(LOOK(later, NAME, "good"), CHALLENGE_RESOLVER_STOPPED);
    START(server, later);
    base_stop_raise(server.stop);
    assert_int_equal(look_for(&server, NAME, "good"), CHALLENGE_RESOLVER_STOPPED);
}

/* --- Threads ---------------------------------------------------------------------------- */

typedef struct looker_t {
    const challenge_resolver_config_t *config;
    int good;
    pthread_t thread;
} looker_t;

static void *look_often(void *data)
{
    looker_t *looker = data;
    challenge_resolver_look_t look = {
        .config = looker->config, .name = NAME, .match = match, .baton = (void *)"good"
    };
    const char *detail = NULL;
    apr_pool_t *own = NULL;

    apr_pool_create(&own, NULL);
    for (int i = 0; i < 5; i++) {
        looker->good += challenge_resolver_look(&look, &detail, own) == CHALLENGE_RESOLVER_EVERYWHERE;
    }
    apr_pool_destroy(own);
    return NULL;
}

static void test_threads(void **state)
{
    static const rule_t rules[] = { ZONE, SECOND_IS(ns_t_a, "127.0.0.2"), HAS(FIRST, "good"),
                                    HAS(SECOND, "good") };
    challenge_resolver_config_t config = { 0 };
    looker_t lookers[4];
    server_t server;

    (void)state;
    START(server, rules);
    config.servers = apr_psprintf(pool, "127.0.0.1:%d,192.0.2.1", server.port);
    config.port = (unsigned int)server.port;
    assert_int_equal(pthread_create(&server.thread, NULL, serve, &server), 0);
    for (int i = 0; i < 4; i++) {
        lookers[i] = (looker_t){ .config = &config };
        assert_int_equal(pthread_create(&lookers[i].thread, NULL, look_often, &lookers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(lookers[i].thread, NULL);
        assert_int_equal(lookers[i].good, 5);
    }
    stop_server(&server);
}

/* --- The directive's words --------------------------------------------------------------- */

static void test_check(void **state)
{
    static const char *const good[] = {
        "192.0.2.53", "192.0.2.53:5353", "[2001:db8::1]", "[2001:db8::1]:53", "2001:db8::1", "::1",
        "127.0.0.1:1", "127.0.0.1:65535"
    };
    static const char *const addresses_that_are_none[] = {
        "", "dns.example", "192.0.2", "192.0.2.256", "[192.0.2.53]", "[2001:db8::1", "[2001:db8::1]53",
        "2001:db8::1::2", "[]", "fe80::1%lo", "192.0.2.53,192.0.2.54",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd"
    };
    static const char *const ports_that_are_none[] = {
        "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:5a", "[2001:db8::1]:-1",
        "[2001:db8::1]:123456"
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_null(challenge_resolver_check(good[i]));
    }
    for (size_t i = 0; i < sizeof(addresses_that_are_none) / sizeof(addresses_that_are_none[0]); i++) {
        assert_string_equal(challenge_resolver_check(addresses_that_are_none[i]), "is no IP address");
    }
    for (size_t i = 0; i < sizeof(ports_that_are_none) / sizeof(ports_that_are_none[0]); i++) {
        assert_string_equal(challenge_resolver_check(ports_that_are_none[i]),
                            "has a port that is no number from 1 to 65535");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_recursive),
        cmocka_unit_test(test_authoritative),
        cmocka_unit_test(test_walk_up),
        cmocka_unit_test(test_servers_that_do_not_count),
        cmocka_unit_test(test_no_authoritative_answer),
        cmocka_unit_test(test_cnames),
        cmocka_unit_test(test_cname_loop),
        cmocka_unit_test(test_records_of_other_names),
        cmocka_unit_test(test_too_many_records),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_threads)
    };

    return challenge_resolver_init() != APR_SUCCESS || challenge_resolver_init() != APR_SUCCESS
           || RUN_TESTS_WITH_POOL(tests, pool);
}
