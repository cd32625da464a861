/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/clients.h"

#include <string.h>

#include <apr_siphash.h>

#define PROBES 8u
#define TICKS 64                /* in a second */
#define HORIZON (40 * 24 * 3600 * TICKS)    /* further ahead than any debt: from another turn of the clock */

/* A network: how many bits of an address, and how many of its parts share the rate. */
typedef struct network_t {
    unsigned char bytes[17];    /* its address, the rest zeros; then the number of bits */
    int factor;
} network_t;

/* An order's worth of time, and how much debt a network may have. */
typedef struct rate_t {
    apr_uint32_t step;
    apr_uint32_t most;
} rate_t;

static apr_uint32_t ticks_of(apr_interval_time_t time)
{
    return (apr_uint32_t)(time / (APR_USEC_PER_SEC / TICKS));
}

static rate_t rate_of(const shared_clients_limit_t *limit, int factor)
{
    apr_int64_t period = limit->period * TICKS / APR_USEC_PER_SEC;
    apr_int64_t orders = (apr_int64_t)limit->orders * factor;
    rate_t rate;

    /* A rate finer than the clock is no limit that anybody would notice. */
    rate.step = (apr_uint32_t)(period / orders > 0 ? period / orders : 1);
    rate.most = (apr_uint32_t)(rate.step * orders);
    return rate;
}

/* The bytes of an IP address, those of IPv4 in IPv6 clothes as IPv4. @return how many, 0: none */
static int read_address(const unsigned char **bytes, const apr_sockaddr_t *address)
{
    static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

    if (address == NULL || address->ipaddr_ptr == NULL) {
        return 0;
    }
    *bytes = address->ipaddr_ptr;
    if (address->family == APR_INET) {
        return 4;
    }
#if APR_HAVE_IPV6
    if (address->family == APR_INET6) {
        if (memcmp(*bytes, mapped, sizeof(mapped)) != 0) {
            return 16;
        }
        *bytes += sizeof(mapped);
        return 4;
    }
#endif
    return 0;
}

static void cut(network_t *network, const unsigned char *bytes, int bits, int factor)
{
    memset(network, 0, sizeof(*network));
    memcpy(network->bytes, bytes, (size_t)bits / 8);
    network->bytes[16] = (unsigned char)bits;
    network->factor = factor;
}

/* The networks that an address counts for. @return how many */
static int networks_of(network_t networks[2], const apr_sockaddr_t *address)
{
    const unsigned char *bytes;

    switch (read_address(&bytes, address)) {
    case 4:
        cut(&networks[0], bytes, 24, 1);
        return 1;
    case 16:
        cut(&networks[0], bytes, 56, 1);
        cut(&networks[1], bytes, 48, SHARED_CLIENTS_SITE_FACTOR);
        return 2;
    default:
        return 0;
    }
}

/* Debt of a network at a moment, in ticks; none of what lies in the past or beyond all debts. */
static apr_uint32_t debt_of(apr_uint32_t until, apr_uint32_t now)
{
    apr_int32_t debt = (apr_int32_t)(until - now);

    return debt > 0 && debt < HORIZON ? (apr_uint32_t)debt : 0;
}

/* The slot of a network: its own, else the one whose network owes least. */
static shared_clients_slot_t *find_slot(shared_clients_t *clients, const network_t *network,
                                        apr_uint32_t now)
{
    apr_uint64_t hash = apr_siphash24(network->bytes, sizeof(network->bytes), clients->key);
    apr_uint32_t print = (apr_uint32_t)(hash >> 32), start = (apr_uint32_t)hash;
    shared_clients_slot_t *best = NULL;
    apr_uint32_t best_debt = 0, best_network = 0;

    print = print ? print : 1;
    for (apr_uint32_t i = 0; i < PROBES; i++) {
        shared_clients_slot_t *slot = &clients->slot[(start + i) & (SHARED_CLIENTS_SLOTS - 1)];
        apr_uint32_t other = apr_atomic_read32(&slot->network);
        apr_uint32_t debt = other ? debt_of(apr_atomic_read32(&slot->until), now) : 0;

        if (other == print) {
            return slot;
        }
        if (best == NULL || debt < best_debt) {
            best = slot;
            best_debt = debt;
            best_network = other;
        }
    }
    /* Who loses the race takes what the winner made of it: the same network, or another's small debt. */
    if (apr_atomic_cas32(&best->network, print, best_network) == best_network) {
        apr_atomic_set32(&best->until, now);
    }
    return best;
}

static int take_one(shared_clients_t *clients, const network_t *network,
                    const shared_clients_limit_t *limit, apr_uint32_t now)
{
    shared_clients_slot_t *slot = find_slot(clients, network, now);
    rate_t rate = rate_of(limit, network->factor);
    apr_uint32_t until, debt;

    do {
        until = apr_atomic_read32(&slot->until);
        debt = debt_of(until, now);
        if (debt + rate.step > rate.most) {
            return 0;
        }
    } while (apr_atomic_cas32(&slot->until, now + debt + rate.step, until) != until);
    return 1;
}

static void return_one(shared_clients_t *clients, const network_t *network,
                       const shared_clients_limit_t *limit, apr_uint32_t now)
{
    shared_clients_slot_t *slot = find_slot(clients, network, now);
    rate_t rate = rate_of(limit, network->factor);
    apr_uint32_t until, debt;

    do {
        until = apr_atomic_read32(&slot->until);
        debt = debt_of(until, now);
        debt = debt > rate.step ? debt - rate.step : 0;
    } while (apr_atomic_cas32(&slot->until, now + debt, until) != until);
}

void shared_clients_init(shared_clients_t *clients, const unsigned char key[SHARED_CLIENTS_KEY_SIZE])
{
    memcpy(clients->key, key, SHARED_CLIENTS_KEY_SIZE);
}

int shared_clients_take(shared_clients_t *clients, const apr_sockaddr_t *address,
                        const shared_clients_limit_t *limit, apr_time_t now)
{
    network_t networks[2];
    int count = networks_of(networks, address), i;

    for (i = 0; limit->orders > 0 && i < count; i++) {
        if (!take_one(clients, &networks[i], limit, ticks_of(now))) {
            while (i-- > 0) {
                return_one(clients, &networks[i], limit, ticks_of(now));
            }
            return 0;
        }
    }
    return 1;
}

void shared_clients_return(shared_clients_t *clients, const apr_sockaddr_t *address,
                           const shared_clients_limit_t *limit, apr_time_t now)
{
    network_t networks[2];
    int count = networks_of(networks, address), i;

    for (i = 0; limit->orders > 0 && i < count; i++) {
        return_one(clients, &networks[i], limit, ticks_of(now));
    }
}

/* The special-purpose blocks (RFC 6890) that say nothing about who a client is. */
static const struct {
    unsigned char bytes[16];
    int len;                    /* of the address: 4 or 16 */
    int bits;
} private_blocks[] = {
    { { 0 }, 4, 8 }, { { 10 }, 4, 8 }, { { 100, 64 }, 4, 10 }, { { 127 }, 4, 8 }, { { 169, 254 }, 4, 16 },
    { { 172, 16 }, 4, 12 }, { { 192, 168 }, 4, 16 },
    { { 0 }, 16, 127 },                 /* :: and ::1 */
    { { 0xfc }, 16, 7 }, { { 0xfe, 0x80 }, 16, 10 }
};

static int is_within(const unsigned char *bytes, const unsigned char *block, int bits)
{
    int whole = bits / 8, rest = bits % 8;

    return memcmp(bytes, block, (size_t)whole) == 0
        && (rest == 0 || (bytes[whole] ^ block[whole]) >> (8 - rest) == 0);
}

int shared_clients_is_private(const apr_sockaddr_t *address)
{
    const unsigned char *bytes;
    int len = read_address(&bytes, address);

    for (size_t i = 0; len > 0 && i < sizeof(private_blocks) / sizeof(private_blocks[0]); i++) {
        if (private_blocks[i].len == len && is_within(bytes, private_blocks[i].bytes, private_blocks[i].bits)) {
            return 1;
        }
    }
    return len == 0;
}
