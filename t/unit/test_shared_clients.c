/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_siphash.h>
#include <cmocka.h>

#include "atomics.h"
#include "shared/clients.h"

#define TICK 15625                                  /* microseconds: 1/64 s */
#define NOW (apr_time_from_sec(1700000000))
#define SECONDS(n) apr_time_from_sec((apr_time_t)(n))
#define DAYS(n) SECONDS((n) * 86400)
#define ROUND ((apr_time_t)TICK << 32)              /* after which a 32-bit clock is at 0 again */
#define WINDOW 16                                   /* slots that one network may stand in */
#define THREADS 4
#define CHILDREN 4
#define NETWORKS 100

static const unsigned char key[SHARED_CLIENTS_KEY_SIZE] = "0123456789abcde";
static const shared_clients_limit_t usual = { 20, SECONDS(3600) };
static const shared_clients_limit_t single = { 1, SECONDS(3600) };
static shared_clients_t *clients;
static int crowded;                                 /* all networks want the first slot */
static int tagless;                                 /* and the upper half of their hash is 0 */

/* In place of the library's. */
apr_uint64_t apr_siphash24(const void *src, apr_size_t len, const unsigned char with[APR_SIPHASH_KSIZE])
{
    apr_uint64_t sip = apr_siphash(src, len, with, 2, 4);

    if (tagless) {
        return 0;
    }
    return crowded ? sip >> 32 << 32 : sip;
}

static int clear(void **state)
{
    (void)state;
    memset(clients, 0, sizeof(*clients));
    shared_clients_init(clients, key);
    crowded = tagless = 0;
    return 0;
}

static apr_sockaddr_t address_of(const char *ip)
{
    apr_sockaddr_t address;

    memset(&address, 0, sizeof(address));
    if (strchr(ip, ':')) {
        address.family = address.sa.sin6.sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, ip, &address.sa.sin6.sin6_addr), 1);
    }
    else {
        address.family = address.sa.sin.sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, ip, &address.sa.sin.sin_addr), 1);
    }
    return address;
}

/* The network of that number. */
static apr_sockaddr_t numbered(int i)
{
    apr_sockaddr_t address;

    memset(&address, 0, sizeof(address));
    address.family = address.sa.sin.sin_family = AF_INET;
    address.sa.sin.sin_addr.s_addr = htonl(0x0b000001U + ((apr_uint32_t)i << 8));
    return address;
}

static int take(const char *ip, const shared_clients_limit_t *limit, apr_time_t now)
{
    apr_sockaddr_t address = address_of(ip);

    return shared_clients_take(clients, &address, limit, now);
}

static void give_back(const char *ip, const shared_clients_limit_t *limit, apr_time_t now)
{
    apr_sockaddr_t address = address_of(ip);

    shared_clients_return(clients, &address, limit, now);
}

/* Take one after the other until there is none; how many there were. */
static int drain(const char *ip, const shared_clients_limit_t *limit, apr_time_t now)
{
    int count = 0;

    while (take(ip, limit, now)) {
        count++;
        assert_in_range(count, 1, 100000);
    }
    return count;
}

static int drain_number(int i, const shared_clients_limit_t *limit, apr_time_t now)
{
    apr_sockaddr_t address = numbered(i);
    int count = 0;

    while (shared_clients_take(clients, &address, limit, now)) {
        count++;
        assert_in_range(count, 1, 100000);
    }
    return count;
}

/* The moment when an order is paid for, to the next tick. */
static apr_time_t cost_of(const shared_clients_limit_t *limit)
{
    apr_time_t ticks = (limit->period + (apr_time_t)TICK * limit->orders - 1)
        / ((apr_time_t)TICK * limit->orders);

    return ticks * TICK;
}

/* All of one period at once, then one after each share of the period, from that moment on. */
static void assert_rate(const char *ip, const shared_clients_limit_t *limit, apr_time_t now)
{
    apr_time_t cost = cost_of(limit);

    assert_int_equal(drain(ip, limit, now), limit->orders);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(drain(ip, limit, now + i * cost - TICK), 0);
        assert_int_equal(drain(ip, limit, now + i * cost), 1);
    }
    now += 3 * cost;
    assert_int_equal(drain(ip, limit, now + 2 * cost), limit->orders < 2 ? 1 : 2);
    /* what was not taken for long is not saved up */
    now += 10 * (limit->period + limit->orders * (apr_time_t)TICK);
    assert_int_equal(drain(ip, limit, now), limit->orders);
}

static void test_rate(void **state)
{
    static const shared_clients_limit_t limits[] = {
        { 20, SECONDS(3600) }, { 1, SECONDS(3600) }, { 7, SECONDS(3600) }, { 1, 1 }, { 3, SECONDS(1) },
        { 64, SECONDS(1) }, { 2, DAYS(30) }, { 7, DAYS(30) }, { 20000, DAYS(30) }
    };

    for (unsigned int i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        clear(state);
        assert_rate("192.0.2.1", &limits[i], NOW);
    }
    assert_int_equal(cost_of(&usual), SECONDS(180));
}

/* A period that is too long is cut; orders beyond all measure are still counted. */
static void test_limits_at_the_edge(void **state)
{
    static const shared_clients_limit_t longer = { 3, 100 * SHARED_CLIENTS_PERIOD_MAX };
    static const shared_clients_limit_t longest = { 3, SHARED_CLIENTS_PERIOD_MAX };
    static const shared_clients_limit_t many = { INT_MAX, DAYS(30) };
    static const shared_clients_limit_t many_a_second = { 1000, SECONDS(1) };

    (void)state;
    assert_int_equal(drain("192.0.2.1", &longer, NOW), 3);
    assert_int_equal(drain("192.0.2.1", &longer, NOW + cost_of(&longest) - TICK), 0);
    assert_int_equal(drain("192.0.2.1", &longer, NOW + cost_of(&longest)), 1);
    for (int i = 0; i < 1000; i++) {
        assert_true(take("2001:db8::1", &many, NOW));
    }
    assert_int_equal(drain("198.51.100.1", &many_a_second, NOW), 1000);
}

static void test_no_limit(void **state)
{
    static const shared_clients_limit_t limits[] = { { 0, SECONDS(1) }, { -1, SECONDS(1) }, { 1, 0 } };
    shared_clients_t before = *clients;

    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            assert_true(take("192.0.2.1", &limits[i], NOW));
        }
        give_back("192.0.2.1", &limits[i], NOW);
    }
    assert_memory_equal(clients, &before, sizeof(before));
}

static void test_networks(void **state)
{
    (void)state;
    assert_int_equal(drain("192.0.2.1", &usual, NOW), 20);
    assert_false(take("192.0.2.255", &usual, NOW));
    assert_false(take("::ffff:192.0.2.7", &usual, NOW));
    assert_int_equal(drain("::ffff:192.0.3.7", &usual, NOW), 20);
    assert_false(take("192.0.3.1", &usual, NOW));
    assert_int_equal(drain("2001:db8:0:aa00::1", &usual, NOW), 20);
    assert_false(take("2001:db8:0:aaff::1", &usual, NOW));
    assert_true(take("2001:db8:0:ab00::1", &usual, NOW));
    /* the bytes of an IPv4 network are no IPv6 network */
    assert_int_equal(drain("c000:200::1", &usual, NOW), 20);
}

static void test_site_has_four_times_as_much(void **state)
{
    char ip[64];

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(ip, sizeof(ip), "2001:db8:0:%d00::1", i);
        assert_int_equal(drain(ip, &usual, NOW), 20);
    }
    assert_int_equal(drain("2001:db8:0:400::1", &usual, NOW), 0);
    assert_int_equal(drain("2001:db8:1:400::1", &usual, NOW), 20);
    /* the site gets one back after a quarter of the time */
    assert_int_equal(drain("2001:db8:0:400::1", &usual, NOW + SECONDS(45) - TICK), 0);
    assert_int_equal(drain("2001:db8:0:400::1", &usual, NOW + SECONDS(45)), 1);
}

/* Who is refused by one of the two loses nothing of the other. */
static void test_refused_takes_nothing(void **state)
{
    char ip[64];

    (void)state;
    assert_true(take("2001:db8::1", &single, NOW));
    for (int i = 0; i < 10; i++) {
        assert_false(take("2001:db8::1", &single, NOW));
    }
    for (int i = 1; i < 4; i++) {
        snprintf(ip, sizeof(ip), "2001:db8:0:%d00::1", i);
        assert_true(take(ip, &single, NOW));
    }
    for (int i = 0; i < 10; i++) {
        assert_false(take("2001:db8:0:400::1", &single, NOW));
    }
    assert_true(take("2001:db8:0:400::1", &single, NOW + SECONDS(900)));
}

static void test_return(void **state)
{
    (void)state;
    give_back("192.0.2.1", &usual, NOW);
    assert_int_equal(drain("192.0.2.1", &usual, NOW), 20);
    give_back("192.0.2.9", &usual, NOW);
    assert_int_equal(drain("192.0.2.1", &usual, NOW), 1);
    for (int i = 0; i < 30; i++) {
        give_back("192.0.2.1", &usual, NOW);
    }
    assert_int_equal(drain("192.0.2.1", &usual, NOW), 20);
    /* half an order is left to pay */
    give_back("192.0.2.1", &single, NOW + SECONDS(1800));
    assert_int_equal(drain("192.0.2.1", &usual, NOW + SECONDS(1800)), 20);
    give_back("192.0.2.1", &usual, NOW + DAYS(3));
    assert_int_equal(drain("192.0.2.1", &usual, NOW + DAYS(3)), 20);
}

static void test_return_of_both(void **state)
{
    char ip[64];

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(ip, sizeof(ip), "2001:db8:0:%d00::1", i);
        assert_true(take(ip, &single, NOW));
    }
    give_back("2001:db8::1", &single, NOW);
    assert_true(take("2001:db8:0:400::1", &single, NOW));
    assert_false(take("2001:db8::1", &single, NOW));
    give_back("2001:db8:0:400::1", &single, NOW);
    assert_true(take("2001:db8::1", &single, NOW));
}

static void test_clock_goes_round(void **state)
{
    static const shared_clients_limit_t month = { 4, DAYS(30) };
    const apr_time_t rounds = (NOW / ROUND + 1) * ROUND;

    assert_rate("192.0.2.1", &usual, rounds - TICK);
    assert_rate("198.51.100.1", &usual, rounds - SECONDS(180));
    assert_rate("203.0.113.1", &month, rounds - DAYS(1));
    /* at the moment whose number is 0, in an empty table */
    clear(state);
    assert_rate("192.0.2.1", &usual, rounds);
    clear(state);
    assert_rate("192.0.2.1", &month, rounds - DAYS(29));
}

/* What was taken long ago is no debt, though its moment seems to be ahead again. */
static void test_old_entries_are_no_debt(void **state)
{
    static const int days[] = { 1, 31, 300, 388, 389, 400, 700, 776 };

    (void)state;
    for (unsigned int i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        assert_int_equal(drain_number((int)i, &usual, NOW), 20);
        assert_int_equal(drain_number((int)i, &usual, NOW + DAYS(days[i])), 20);
    }
}

static void test_clock_set_back(void **state)
{
    (void)state;
    assert_int_equal(drain("192.0.2.1", &usual, NOW), 20);
    /* a caller that looked at the clock a little earlier gets nothing by that */
    assert_int_equal(drain("192.0.2.1", &usual, NOW - SECONDS(30)), 0);
    /* a wrong clock keeps nobody out for longer than a period */
    assert_int_equal(drain("192.0.2.1", &usual, NOW - DAYS(2)), 20);
    assert_int_equal(drain("192.0.2.1", &usual, NOW - DAYS(2) + SECONDS(180)), 1);
}

static void test_lower_limit(void **state)
{
    static const shared_clients_limit_t month = { 20, DAYS(30) };

    (void)state;
    assert_int_equal(drain("192.0.2.1", &month, NOW), 20);
    assert_int_equal(drain("192.0.2.1", &usual, NOW + SECONDS(1)), 20);
}

static void test_no_ip_address(void **state)
{
    shared_clients_t before = *clients;
    apr_sockaddr_t address;

    (void)state;
    memset(&address, 0, sizeof(address));
    address.family = AF_UNIX;
    for (int i = 0; i < 3; i++) {
        assert_true(shared_clients_take(clients, &address, &single, NOW));
    }
    shared_clients_return(clients, &address, &single, NOW);
    assert_memory_equal(clients, &before, sizeof(before));
}

/* --- a full table ------------------------------------------------------------------------------- */

/* Which of the first slots has another network than before. */
static int changed_slot(const shared_clients_t *before)
{
    int changed = -1;

    for (int i = 0; i < SHARED_CLIENTS_SLOTS; i++) {
        if (clients->slot[i].network != before->slot[i].network) {
            assert_int_equal(changed, -1);
            changed = i;
        }
    }
    return changed;
}

/* One order of a network. */
static void take_number(int i, const shared_clients_limit_t *limit, apr_time_t now)
{
    apr_sockaddr_t address = numbered(i);

    assert_true(shared_clients_take(clients, &address, limit, now));
}

/* Fill the window: slot i has a network that took i + 2 orders, but slot 9 only one. */
static void crowd(void)
{
    crowded = 1;
    for (int i = 0; i < WINDOW; i++) {
        for (int j = i == 9 ? 1 : 0; j < (i == 9 ? 2 : i + 2); j++) {
            take_number(i, &usual, NOW);
        }
        assert_int_not_equal(clients->slot[i].network, 0);
        assert_int_equal(clients->slot[i + 1].network, 0);
    }
}

static void test_least_debt_is_forgotten(void **state)
{
    shared_clients_t before;

    (void)state;
    crowd();
    before = *clients;
    /* the new one has all that anybody has */
    assert_int_equal(drain_number(100, &usual, NOW), 20);
    assert_int_equal(changed_slot(&before), 9);
    before = *clients;
    assert_int_equal(drain_number(101, &usual, NOW), 20);
    assert_int_equal(changed_slot(&before), 0);
    assert_int_equal(drain_number(5, &usual, NOW), 13);
    assert_int_equal(drain_number(100, &usual, NOW), 0);
}

static void test_passed_goes_before_debt(void **state)
{
    shared_clients_t before;

    (void)state;
    crowd();
    before = *clients;
    /* by then slot 9 has paid, slot 0 not yet */
    take_number(100, &usual, NOW + SECONDS(180));
    assert_int_equal(changed_slot(&before), 9);
    /* of those that have paid, the first */
    before = *clients;
    take_number(101, &usual, NOW + SECONDS(1200));
    assert_int_equal(changed_slot(&before), 0);
}

/* A moment that has passed long ago is further behind than one of today, however numbers go round. */
static void test_passed_long_ago(void **state)
{
    shared_clients_t before;

    (void)state;
    crowd();
    for (int i = 0; i < WINDOW; i++) {
        if (i != 12) {
            assert_int_not_equal(drain_number(i, &usual, NOW + DAYS(600)), 0);
        }
    }
    before = *clients;
    take_number(100, &usual, NOW + DAYS(600));
    assert_int_equal(changed_slot(&before), 12);
}

static void test_free_goes_before_passed(void **state)
{
    shared_clients_t before;

    (void)state;
    crowded = 1;
    take_number(0, &usual, NOW);
    before = *clients;
    take_number(1, &usual, NOW + DAYS(1));
    assert_int_equal(changed_slot(&before), 1);
}

/* A network without a number is none: its slot would be free. */
static void test_network_zero(void **state)
{
    shared_clients_t before;

    (void)state;
    tagless = 1;
    take_number(0, &usual, NOW);
    assert_int_equal(drain_number(0, &usual, NOW), 19);
    before = *clients;
    tagless = 0;
    crowded = 1;
    take_number(1, &usual, NOW);
    assert_int_equal(changed_slot(&before), 1);
}

/* Refused clients take no slot from others. */
static void test_refused_takes_no_slot(void **state)
{
    shared_clients_t before;
    char ip[64];

    (void)state;
    for (int i = 0; i < 4; i++) {
        snprintf(ip, sizeof(ip), "2001:db8:0:%d00::1", i);
        assert_true(take(ip, &single, NOW));
    }
    before = *clients;
    assert_false(take("2001:db8:0:400::1", &single, NOW));
    assert_false(take("2001:db8::1", &single, NOW));
    assert_memory_equal(clients, &before, sizeof(before));
}

/* A flood of networks: who took all stays refused, and each newcomer is counted. */
static void test_flood(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(drain_number(i, &usual, NOW), 20);
    }
    for (int i = 10; i < 3 * SHARED_CLIENTS_SLOTS; i++) {
        take_number(i, &usual, NOW);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(drain_number(i, &usual, NOW), 0);
    }
    assert_int_equal(drain_number(1 << 20, &usual, NOW), 20);
}

/* --- interrupted at each step ------------------------------------------------------------------- */

static int at;
static int granted;
static int other_number;

static void take_once(int step)
{
    apr_sockaddr_t address = numbered(other_number);

    if (step == at) {
        granted += shared_clients_take(clients, &address, &single, NOW);
    }
}

/* Somebody of the same network comes at each step: one of the two gets it. */
static void test_two_for_one(void **state)
{
    apr_sockaddr_t address = numbered(100);

    for (int full = 0; full < 2; full++) {
        int steps = 0;

        do {
            clear(state);
            crowded = 1;
            for (int i = 0; full && i < WINDOW; i++) {
                take_number(i, &usual, NOW - SECONDS(i == 7));
            }
            other_number = 100;
            granted = 0;
            at = steps++;
            atomics_set_hook(take_once);
            granted += shared_clients_take(clients, &address, &single, NOW);
            if (atomics_set_hook(NULL) <= at) {
                break;
            }
            assert_int_equal(granted, 1);
            assert_int_equal(drain_number(100, &single, NOW), 0);
        } while (steps < 1000);
        assert_in_range(steps, WINDOW, 999);
    }
}

/* Somebody of another network comes and wants the same slot: both get what is theirs, and no more. */
static void test_two_for_one_slot(void **state)
{
    apr_sockaddr_t address = numbered(100);

    for (at = 0; at < 6 * WINDOW; at++) {
        clear(state);
        crowded = 1;
        for (int i = 0; i < WINDOW - 1; i++) {
            take_number(i, &usual, NOW);
        }
        other_number = 101;
        granted = 0;
        atomics_set_hook(take_once);
        granted += shared_clients_take(clients, &address, &single, NOW);
        atomics_set_hook(NULL);
        assert_in_range(granted, 1, 2);
        assert_int_equal(drain_number(100, &single, NOW), 0);
    }
}

static void take_last_of_site(int step)
{
    if (step == at) {
        granted += take("2001:db8:0:400::1", &single, NOW);
    }
}

/* Somebody takes the site's last order at each step: who is refused then has not paid for it. */
static void test_two_for_one_site(void **state)
{
    char ip[64];
    int late = 0;

    for (at = 0; at < 12 * WINDOW; at++) {
        clear(state);
        for (int i = 0; i < 3; i++) {
            snprintf(ip, sizeof(ip), "2001:db8:0:%d00::1", i);
            assert_true(take(ip, &single, NOW));
        }
        granted = 0;
        atomics_set_hook(take_last_of_site);
        if (!take("2001:db8:0:300::1", &single, NOW)) {
            late++;
            assert_int_equal(granted, 1);
            assert_true(take("2001:db8:0:300::1", &single, NOW + SECONDS(900)));
        }
        else {
            assert_int_equal(granted, 0);
        }
        atomics_set_hook(NULL);
    }
    assert_in_range(late, WINDOW, 12 * WINDOW);
}

/* --- threads and processes ---------------------------------------------------------------------- */

/* Try all networks, each address of them more often than it may; how often it was granted. */
static int take_all(void)
{
    int count = 0;

    for (int i = 0; i < NETWORKS; i++) {
        apr_sockaddr_t address = numbered(i);

        for (int j = 0; j < usual.orders; j++) {
            count += shared_clients_take(clients, &address, &usual, NOW);
        }
    }
    return count;
}

static void *run_taker(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)take_all();
}

static void test_threads(void **state)
{
    pthread_t thread[THREADS];
    intptr_t total = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, run_taker, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *count;

        assert_int_equal(pthread_join(thread[i], &count), 0);
        total += (intptr_t)count;
    }
    assert_int_equal(total, NETWORKS * usual.orders);
    assert_int_equal(take_all(), 0);
}

/* Take and give back for ever and ever: nothing gets lost, nothing is made. */
static void *run_borrower(void *unused)
{
    apr_sockaddr_t address = address_of("2001:db8::1");

    (void)unused;
    for (int i = 0; i < 2000; i++) {
        if (shared_clients_take(clients, &address, &usual, NOW)) {
            shared_clients_return(clients, &address, &usual, NOW);
        }
    }
    return NULL;
}

static void test_threads_that_give_back(void **state)
{
    pthread_t thread[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, run_borrower, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    assert_int_equal(drain("2001:db8::1", &usual, NOW), 20);
    assert_int_equal(drain("2001:db8:0:100::1", &usual, NOW), 20);
}

static void test_forked_children(void **state)
{
    volatile apr_uint32_t *total = mmap(NULL, sizeof(*total), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(total, MAP_FAILED);
    for (int i = 0; i < CHILDREN; i++) {
        if (fork() == 0) {
            for (int left = take_all(); left > 0; left--) {
                apr_atomic_inc32(total);
            }
            _exit(0);
        }
    }
    while (wait(NULL) > 0) {
    }
    assert_int_equal(*total, NETWORKS * usual.orders);
    assert_int_equal(take_all(), 0);
    munmap((void *)total, sizeof(*total));
}

/* --- private addresses -------------------------------------------------------------------------- */

static void test_private(void **state)
{
    static const char *const private[] = {
        "0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "127.0.0.1", "127.255.255.255",
        "100.64.0.0", "100.127.255.255", "169.254.0.0", "169.254.255.255", "172.16.0.0",
        "172.31.255.255", "192.168.0.0", "192.168.255.255", "::", "::1", "fe80::1", "febf::1",
        "fc00::1", "fdff:ffff::1", "::ffff:10.1.2.3", "::ffff:127.0.0.1", "::ffff:0.0.0.0"
    };
    static const char *const public[] = {
        "1.0.0.0", "9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0", "100.63.255.255",
        "100.128.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
        "192.167.255.255", "192.169.0.0", "255.1.1.1", "::2", "::1:1", "::100", "fe7f::1",
        "fec0::1", "fb00::1", "fe00::1", "2001:db8::1", "::ffff:192.0.2.1", "a00::1"
    };
    apr_sockaddr_t address;

    (void)state;
    for (unsigned int i = 0; i < sizeof(private) / sizeof(private[0]); i++) {
        address = address_of(private[i]);
        assert_true(shared_clients_is_private(&address));
    }
    for (unsigned int i = 0; i < sizeof(public) / sizeof(public[0]); i++) {
        address = address_of(public[i]);
        assert_false(shared_clients_is_private(&address));
    }
    memset(&address, 0, sizeof(address));
    address.family = AF_UNIX;
    assert_true(shared_clients_is_private(&address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_rate, clear),
        cmocka_unit_test_setup(test_limits_at_the_edge, clear),
        cmocka_unit_test_setup(test_no_limit, clear),
        cmocka_unit_test_setup(test_networks, clear),
        cmocka_unit_test_setup(test_site_has_four_times_as_much, clear),
        cmocka_unit_test_setup(test_refused_takes_nothing, clear),
        cmocka_unit_test_setup(test_return, clear),
        cmocka_unit_test_setup(test_return_of_both, clear),
        cmocka_unit_test_setup(test_clock_goes_round, clear),
        cmocka_unit_test_setup(test_old_entries_are_no_debt, clear),
        cmocka_unit_test_setup(test_clock_set_back, clear),
        cmocka_unit_test_setup(test_lower_limit, clear),
        cmocka_unit_test_setup(test_no_ip_address, clear),
        cmocka_unit_test_setup(test_least_debt_is_forgotten, clear),
        cmocka_unit_test_setup(test_passed_goes_before_debt, clear),
        cmocka_unit_test_setup(test_passed_long_ago, clear),
        cmocka_unit_test_setup(test_free_goes_before_passed, clear),
        cmocka_unit_test_setup(test_network_zero, clear),
        cmocka_unit_test_setup(test_refused_takes_no_slot, clear),
        cmocka_unit_test_setup(test_flood, clear),
        cmocka_unit_test_setup(test_two_for_one, clear),
        cmocka_unit_test_setup(test_two_for_one_slot, clear),
        cmocka_unit_test_setup(test_two_for_one_site, clear),
        cmocka_unit_test_setup(test_threads, clear),
        cmocka_unit_test_setup(test_threads_that_give_back, clear),
        cmocka_unit_test_setup(test_forked_children, clear),
        cmocka_unit_test(test_private)
    };

    clients = mmap(NULL, sizeof(*clients), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (clients == MAP_FAILED) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
