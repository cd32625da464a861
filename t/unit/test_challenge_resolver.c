/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "challenge/resolver.h"
#include "run.h"

#define MESSAGE_MAX 8192
#define RECORDS_MAX 72
#define PORT_TRIES 50

static apr_pool_t *pool;

/* --- A DNS server: one port, several addresses, answers from a table ---------------- */

/* Where a question came in: with RD it is for the recursive server, else for the address. */
enum { RECURSIVE, FIRST, SECOND, SIXTH, ADDRESSES };

static const char *const addresses[ADDRESSES] = { "127.0.0.1", "127.0.0.1", "127.0.0.2", "::1" };

typedef enum {
    ANSWER,
    LAME,                       /* an answer without AA */
    SILENCE,
    GARBAGE,                    /* the question, then bytes that are no record */
    RAISE                       /* raise the stop, no answer */
} how_t;

typedef struct record_t {
    const char *owner;
    int type;
    const char *data;           /* of TXT: strings with '|' between them */
} record_t;

typedef struct rule_t {
    int at;
    const char *name;
    int type;
    how_t how;
    int rcode;
    record_t answer[3];
    record_t authority[1];
} rule_t;

typedef struct server_t {
    const rule_t *rules;
    int count;
    int repeat;                 /* a TXT record of the first rule comes this often */
    int port;
    int fds[ADDRESSES];
    int end[2];                 /* readable when the thread is to leave */
    base_stop_t *stop;
    pthread_t thread;
} server_t;

typedef struct message_t {
    unsigned char bytes[MESSAGE_MAX];
    size_t len;
} message_t;

static void put(message_t *m, const void *data, size_t len)
{
    assert_true(m->len + len <= sizeof(m->bytes));
    memcpy(m->bytes + m->len, data, len);
    m->len += len;
}

static void put_number(message_t *m, unsigned int number, int width)
{
    while (width-- > 0) {
        unsigned char byte = (unsigned char)((uint64_t)number >> 8 * width);

        put(m, &byte, 1);
    }
}

static void put_name(message_t *m, const char *name)
{
    while (*name) {
        size_t n = strcspn(name, ".");

        put_number(m, (unsigned int)n, 1);
        put(m, name, n);
        name += n + (name[n] == '.');
    }
    put_number(m, 0, 1);
}

static void put_data(message_t *m, const record_t *record)
{
    unsigned char address[16];
    const char *text = record->data;

    if (record->type == ns_t_a) {
        inet_pton(AF_INET, text, address);
        put(m, address, 4);
    }
    else if (record->type == ns_t_aaaa) {
        inet_pton(AF_INET6, text, address);
        put(m, address, 16);
    }
    else if (record->type == ns_t_txt) {
        for (; *text; text += strcspn(text, "|"), text += *text == '|') {
            put_number(m, (unsigned int)strcspn(text, "|"), 1);
            put(m, text, strcspn(text, "|"));
        }
    }
    else if (record->type == ns_t_soa) {
        put_number(m, 0, 1);
        put_number(m, 0, 1);
        for (int i = 0; i < 5; i++) {
            put_number(m, 1, 4);
        }
    }
    else {
        put_name(m, text);
    }
}

static void put_record(message_t *m, const record_t *record)
{
    message_t data = { .len = 0 };

    put_data(&data, record);
    put_name(m, record->owner);
    put_number(m, (unsigned int)record->type, 2);
    put_number(m, ns_c_in, 2);
    put_number(m, 60, 4);
    put_number(m, (unsigned int)data.len, 2);
    put(m, data.bytes, data.len);
}

static const rule_t *find_rule(const server_t *server, int at, const char *name, int type)
{
    for (int i = 0; i < server->count; i++) {
        if (server->rules[i].at == at && server->rules[i].type == type
            && strcasecmp(server->rules[i].name, name) == 0) {
            return &server->rules[i];
        }
    }
    return NULL;
}

static void make_answer(const server_t *server, const rule_t *rule, const unsigned char *query,
                        size_t question_len, int recursive, message_t *m)
{
    int repeat = rule && rule == server->rules && server->repeat ? server->repeat : 1;
    unsigned int counts[2] = { 0, 0 };
    size_t head;

    put(m, query, 2);
    put_number(m, recursive ? 0x8180 : rule && rule->how == LAME ? 0x8000 : 0x8400, 2);
    m->bytes[3] |= (unsigned char)(rule ? rule->rcode : ns_r_nxdomain);
    put_number(m, 1, 2);
    head = m->len;
    put_number(m, 0, 6);
    put(m, query + 12, question_len);
    if (rule && rule->how == GARBAGE) {
        counts[0] = 3;
        put(m, "\xc0\xff\x07garbage", 10);
    }
    for (; rule && repeat > 0; repeat--) {
        for (int i = 0; i < 3 && rule->answer[i].owner; i++) {
            put_record(m, &rule->answer[i]);
            counts[0]++;
        }
    }
    if (rule && rule->authority[0].owner) {
        put_record(m, &rule->authority[0]);
        counts[1]++;
    }
    m->bytes[head + 1] = (unsigned char)counts[0];
    m->bytes[head + 3] = (unsigned char)counts[1];
}

static void answer(server_t *server, int at)
{
    unsigned char query[MESSAGE_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t len = recvfrom(server->fds[at], query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
    message_t m = { .len = 0 };
    const rule_t *rule;
    size_t question_len;
    ns_msg msg;
    ns_rr rr;

    if (len < 0 || ns_initparse(query, (int)len, &msg) != 0 || ns_parserr(&msg, ns_s_qd, 0, &rr) != 0) {
        return;
    }
    if (ns_msg_getflag(msg, ns_f_rd)) {
        at = RECURSIVE;
    }
    for (question_len = 12; query[question_len]; question_len += query[question_len] + 1) {
    }
    question_len += 5 - 12;
    rule = find_rule(server, at, ns_rr_name(rr), ns_rr_type(rr));
    if (rule && rule->how == RAISE) {
        base_stop_raise(server->stop);
    }
    if (rule && (rule->how == SILENCE || rule->how == RAISE)) {
        return;
    }
    make_answer(server, rule, query, question_len, at == RECURSIVE, &m);
    sendto(server->fds[at == RECURSIVE ? FIRST : at], m.bytes, m.len, 0, (struct sockaddr *)&from, from_len);
}

static void *serve(void *data)
{
    server_t *server = data;
    struct pollfd fds[ADDRESSES] = { { server->end[0], POLLIN, 0 } };

    for (int i = FIRST; i < ADDRESSES; i++) {
        fds[i].fd = server->fds[i];
        fds[i].events = POLLIN;
    }
    while (poll(fds, ADDRESSES, -1) >= 0 && !fds[0].revents) {
        for (int i = FIRST; i < ADDRESSES; i++) {
            if (fds[i].revents) {
                answer(server, i);
            }
        }
    }
    return NULL;
}

/* @return the port, 0 when it is taken at this address */
static int bind_address(server_t *server, int at, int port)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((unsigned short)port) };
    int is_v6 = strchr(addresses[at], ':') != NULL;
    struct sockaddr *address = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t len = is_v6 ? sizeof(v6) : sizeof(v4);
    int on = 1;

    inet_pton(address->sa_family, addresses[at], is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
    server->fds[at] = socket(address->sa_family, SOCK_DGRAM, 0);
    if (is_v6) {
        setsockopt(server->fds[at], IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(server->fds[at], address, len) != 0 || getsockname(server->fds[at], address, &len) != 0) {
        close(server->fds[at]);
        return 0;
    }
    return ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
}

static void start_server(server_t *server, const rule_t *rules, int count)
{
    int tries = 0;

    memset(server, 0, sizeof(*server));
    server->rules = rules;
    server->count = count;
    for (server->port = 0; !server->port && tries < PORT_TRIES; tries++) {
        server->port = bind_address(server, FIRST, 0);
        for (int i = SECOND; i < ADDRESSES && server->port; i++) {
            if (!bind_address(server, i, server->port)) {
                server->port = 0;
                while (--i >= FIRST) {
                    close(server->fds[i]);
                }
                break;
            }
        }
    }
    assert_int_not_equal(server->port, 0);
    assert_int_equal(pipe(server->end), 0);
    assert_int_equal(base_stop_create(&server->stop, pool), APR_SUCCESS);
}

static void stop_server(server_t *server)
{
    assert_int_equal(write(server->end[1], "", 1), 1);
    pthread_join(server->thread, NULL);
    for (int i = FIRST; i < ADDRESSES; i++) {
        close(server->fds[i]);
    }
    close(server->end[0]);
    close(server->end[1]);
}

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

/* Behind a firewall only the recursive server can be asked: what it has is there, what it has not may come. */
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
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_threads)
    };

    return challenge_resolver_init() != APR_SUCCESS || challenge_resolver_init() != APR_SUCCESS
           || RUN_TESTS_WITH_POOL(tests, pool);
}
