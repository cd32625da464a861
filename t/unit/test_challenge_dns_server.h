/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_challenge_dns_server.h
 * A DNS server on one port of several loopback addresses that answers from a table, for tests of what looks
 * at records: it is the recursive server for questions with RD, else the authoritative one of the
 * address where they came in. Everything is static: each test program has its own copy.
 */
#ifndef TEST_CHALLENGE_DNS_SERVER_H
#define TEST_CHALLENGE_DNS_SERVER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <apr_pools.h>
#include <cmocka.h>

#include "base/stop.h"

#define MESSAGE_MAX 8192
#define PORT_TRIES 50

static apr_pool_t *pool;

/* Where a question came in: with RD it is for the recursive server, else for the address. */
enum { RECURSIVE, FIRST, SECOND, SIXTH, ADDRESSES };

static const char *const addresses[ADDRESSES] = { "127.0.0.1", "127.0.0.1", "127.0.0.2", "::1" };

typedef enum {
    ANSWER,
    LAME,                       /* an answer without AA */
    SILENCE,
    TRUNCATED,                  /* nothing but TC over UDP, all of it over TCP */
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
    int tcp;                    /* listens at the first address */
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

/* @return zero when there is no answer to the query */
static int answer_query(server_t *server, int at, int is_tcp, const unsigned char *query, ssize_t len,
                        message_t *m)
{
    const rule_t *rule;
    size_t question_len;
    ns_msg msg;
    ns_rr rr;

    if (len < 0 || ns_initparse(query, (int)len, &msg) != 0 || ns_parserr(&msg, ns_s_qd, 0, &rr) != 0) {
        return 0;
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
        return 0;
    }
    if (rule && rule->how == TRUNCATED && !is_tcp) {
        rule_t empty = { .rcode = 0 };

        make_answer(server, &empty, query, question_len, at == RECURSIVE, m);
        m->bytes[2] |= 2;
    }
    else {
        make_answer(server, rule, query, question_len, at == RECURSIVE, m);
    }
    return 1;
}

static void answer(server_t *server, int at)
{
    unsigned char query[MESSAGE_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t len = recvfrom(server->fds[at], query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
    message_t m = { .len = 0 };

    if (answer_query(server, at, 0, query, len, &m)) {
        sendto(server->fds[at], m.bytes, m.len, 0, (struct sockaddr *)&from, from_len);
    }
}

/* One query of one connection. */
static void answer_tcp(server_t *server)
{
    unsigned char query[MESSAGE_MAX];
    message_t m = { .len = 0 }, framed = { .len = 0 };
    int fd = accept(server->tcp, NULL, NULL);
    ssize_t len = 0;

    if (recv(fd, query, 2, MSG_WAITALL) == 2) {
        len = recv(fd, query, (size_t)(query[0] << 8 | query[1]), MSG_WAITALL);
    }
    if (len > 0 && answer_query(server, FIRST, 1, query, len, &m)) {
        put_number(&framed, (unsigned int)m.len, 2);
        put(&framed, m.bytes, m.len);
        send(fd, framed.bytes, framed.len, MSG_NOSIGNAL);
    }
    close(fd);
}

static void *serve(void *data)
{
    server_t *server = data;
    struct pollfd fds[ADDRESSES + 1] = { { server->end[0], POLLIN, 0 } };

    for (int i = FIRST; i < ADDRESSES; i++) {
        fds[i].fd = server->fds[i];
        fds[i].events = POLLIN;
    }
    fds[ADDRESSES].fd = server->tcp;
    fds[ADDRESSES].events = POLLIN;
    while (poll(fds, ADDRESSES + 1, -1) >= 0 && !fds[0].revents) {
        if (fds[ADDRESSES].revents) {
            answer_tcp(server);
        }
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

/* @return zero when the port is taken */
static int listen_tcp(server_t *server)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)server->port) };
    int on = 1;

    inet_pton(AF_INET, addresses[FIRST], &address.sin_addr);
    server->tcp = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server->tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(server->tcp, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(server->tcp, 8) != 0) {
        close(server->tcp);
        return 0;
    }
    return 1;
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
        if (server->port && !listen_tcp(server)) {
            for (int i = FIRST; i < ADDRESSES; i++) {
                close(server->fds[i]);
            }
            server->port = 0;
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
    close(server->tcp);
    close(server->end[0]);
    close(server->end[1]);
}

#endif
