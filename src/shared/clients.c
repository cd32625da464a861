/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "shared/clients.h"

#include <apr_siphash.h>
#include <string.h>

/*
 * The generic cell rate algorithm: each network has one moment, until when what it took is paid for.
 * An order moves it on by period / orders (its cost), from now if it has passed, and is refused when
 * that would be further ahead than all orders of one period (the room). So a network that
 * was quiet may take them all at once, and then one after each cost.
 *
 * Moments are 1/64 s in 32 bits, which go round in 777 days; what matters are differences, and those of
 * at most half of that. A moment further ahead than can be is one that has passed: the clock was set
 * back, or went round since.
 *
 * A network stands in one of PROBES slots, from the one that its hash says. Slots are never freed, only
 * given to another network: first the slot gets its new owner, then the moment that was there before it
 * is brought to now, if it is still the same. So two threads that come for one network at once never get
 * more than there is. What a race may do, when the table is full only: a network inherits the debt of the
 * one before, the least there was; or an order is counted for the one that is just getting the slot.
 */
#define TICK (APR_USEC_PER_SEC / 64)
#define PERIOD_MAX ((apr_int32_t)(SHARED_CLIENTS_PERIOD_MAX / TICK))
#define ROOM_MAX (1 << 29)          /* ticks; more than a period needs, however its orders are rounded */
#define SLACK (60 * 64)             /* ticks between two callers' ideas of now */
#define PROBES 16U                  /* slots looked at for one network */
#define TRIES 8                     /* how often a slot is looked for again that somebody else took */

#define NETWORKS_MAX 2              /* that one address is counted against */
#define SITE 1                      /* of them, the number of the IPv6 /48 */
#define NETWORK_SIZE 8              /* bytes: the length of the prefix, and the prefix */

typedef struct network_t {
    unsigned char bytes[NETWORK_SIZE];
} network_t;

/* A limit in ticks. */
typedef struct rate_t {
    apr_int32_t cost;               /* of one order */
    apr_int32_t room;               /* of all orders of one period */
} rate_t;

/* Compare-and-swap is a full barrier in every APR, which plain set and read are not. */
static int move(volatile apr_uint32_t *word, apr_uint32_t from, apr_uint32_t to)
{
    return apr_atomic_cas32(word, to, from) == from;
}

static apr_uint32_t ticks_of(apr_time_t now)
{
    return (apr_uint32_t)(now / TICK);
}

/* The four bytes of an IPv4 address, in IPv6 clothes too; NULL when it is none. */
static const unsigned char *ipv4_of(const apr_sockaddr_t *address)
{
    if (address->family == APR_INET) {
        return (const unsigned char *)&address->sa.sin.sin_addr.s_addr;
    }
#if APR_HAVE_IPV6
    if (address->family == APR_INET6 && IN6_IS_ADDR_V4MAPPED(&address->sa.sin6.sin6_addr)) {
        return address->sa.sin6.sin6_addr.s6_addr + 12;
    }
#endif
    return NULL;
}

/* The sixteen bytes of an IPv6 address; NULL when it is none. */
static const unsigned char *ipv6_of(const apr_sockaddr_t *address)
{
#if APR_HAVE_IPV6
    if (address->family == APR_INET6) {
        return address->sa.sin6.sin6_addr.s6_addr;
    }
#endif
    return NULL;
}

static void set_network(network_t *network, const unsigned char *address, unsigned char bits)
{
    memset(network, 0, sizeof(*network));
    network->bytes[0] = bits;
    memcpy(network->bytes + 1, address, bits / 8);
}

/* What an address is counted against; how many networks. */
static int find_networks(network_t network[NETWORKS_MAX], const apr_sockaddr_t *address)
{
    const unsigned char *ipv4 = ipv4_of(address);
    const unsigned char *ipv6 = ipv6_of(address);

    if (ipv4) {
        set_network(&network[0], ipv4, 24);
        return 1;
    }
    if (ipv6) {
        set_network(&network[0], ipv6, 56);
        set_network(&network[SITE], ipv6, 48);
        return 2;
    }
    return 0;
}

/* The rate of the network of that number. Costs are rounded up: never more than the limit. */
static rate_t rate_of(const shared_clients_limit_t *limit, int number)
{
    apr_int64_t orders = (apr_int64_t)limit->orders * (number == SITE ? SHARED_CLIENTS_SITE_FACTOR : 1);
    apr_int64_t period = limit->period < SHARED_CLIENTS_PERIOD_MAX ? limit->period
        : SHARED_CLIENTS_PERIOD_MAX;
    apr_int64_t cost = (period + orders * TICK - 1) / (orders * TICK);
    apr_int64_t room = cost * orders;
    rate_t rate = { (apr_int32_t)cost, room < ROOM_MAX ? (apr_int32_t)room : ROOM_MAX };

    return rate;
}

static int has_limit(const shared_clients_limit_t *limit)
{
    return limit->orders > 0 && limit->period > 0;
}

/* How far a moment is ahead of now, 0 when it has passed. */
static apr_int32_t debt_until(apr_uint32_t until, apr_uint32_t now, apr_int32_t room)
{
    apr_int32_t ahead = (apr_int32_t)(until - now);

    return ahead > 0 && ahead <= room + SLACK ? ahead : 0;
}

static apr_uint64_t hash(const shared_clients_t *clients, const network_t *network)
{
    return apr_siphash24(network->bytes, NETWORK_SIZE, clients->key);
}

static apr_uint32_t tag_of(apr_uint64_t sip)
{
    apr_uint32_t tag = (apr_uint32_t)(sip >> 32);

    return tag ? tag : 1;
}

static shared_clients_slot_t *probe(shared_clients_t *clients, apr_uint64_t sip, unsigned int i)
{
    return &clients->slot[((apr_uint32_t)sip + i) & (SHARED_CLIENTS_SLOTS - 1)];
}

static shared_clients_slot_t *find(shared_clients_t *clients, apr_uint64_t sip)
{
    for (unsigned int i = 0; i < PROBES; i++) {
        shared_clients_slot_t *slot = probe(clients, sip, i);

        if (apr_atomic_read32(&slot->network) == tag_of(sip)) {
            return slot;
        }
    }
    return NULL;
}

/* The slot of a network, or the one that it may have: a free one, else one whose moment has passed, else
 * the one with the least debt. One walk for all of this: two threads that come for the same network
 * choose the same slot, and one finds it taken. @param seen set to what stood there */
static shared_clients_slot_t *choose(shared_clients_t *clients, apr_uint64_t sip, apr_uint32_t now,
                                     shared_clients_slot_t *seen)
{
    shared_clients_slot_t *best = NULL;
    apr_int32_t least = 0;

    for (unsigned int i = 0; i < PROBES; i++) {
        shared_clients_slot_t *slot = probe(clients, sip, i);
        apr_uint32_t until = apr_atomic_read32(&slot->until);
        apr_uint32_t network = apr_atomic_read32(&slot->network);
        apr_int32_t debt = network ? debt_until(until, now, PERIOD_MAX) : -1;

        if (network == tag_of(sip) || !best || debt < least) {
            best = slot;
            least = debt;
            seen->network = network;
            seen->until = until;
        }
        if (network == tag_of(sip)) {
            break;
        }
    }
    return best;
}

/* The slot of a network, which gets one if it has none; NULL when others were faster again and again. If
 * a network ever has two, because a slot changed while somebody walked past it, the first counts
 * and the other passes. */
static shared_clients_slot_t *find_or_claim(shared_clients_t *clients, apr_uint64_t sip,
                                            apr_uint32_t now)
{
    for (int i = 0; i < TRIES; i++) {
        shared_clients_slot_t seen;
        shared_clients_slot_t *slot = choose(clients, sip, now, &seen);

        if (seen.network == tag_of(sip)) {
            return slot;
        }
        if (move(&slot->network, seen.network, tag_of(sip))) {
            move(&slot->until, seen.until, now);
            return slot;
        }
    }
    return NULL;
}

static int has_room(apr_int32_t debt, const rate_t *rate)
{
    return debt <= rate->room - rate->cost;
}

/* Count one order against one network; zero when it has no room. Somebody else may get the slot at any
 * moment, and first of all when nothing is counted in it yet. */
static int charge(shared_clients_t *clients, const network_t *network, const rate_t *rate,
                  apr_uint32_t now)
{
    apr_uint64_t sip = hash(clients, network);

    for (;;) {
        shared_clients_slot_t *slot = find_or_claim(clients, sip, now);
        apr_uint32_t until = slot ? apr_atomic_read32(&slot->until) : 0;
        apr_int32_t debt = debt_until(until, now, rate->room);

        if (slot && apr_atomic_read32(&slot->network) != tag_of(sip)) {
            continue;
        }
        if (!slot || !has_room(debt, rate)) {
            return 0;
        }
        if (move(&slot->until, until, now + (apr_uint32_t)(debt + rate->cost))) {
            return 1;
        }
    }
}

static void refund(shared_clients_t *clients, const network_t *network, const rate_t *rate,
                   apr_uint32_t now)
{
    shared_clients_slot_t *slot = find(clients, hash(clients, network));
    apr_uint32_t until;
    apr_int32_t debt;

    if (!slot) {
        return;
    }
    do {
        until = apr_atomic_read32(&slot->until);
        debt = debt_until(until, now, rate->room);
    } while (!move(&slot->until, until, now + (apr_uint32_t)(debt - rate->cost)));
}

/* Looked at before anything is counted, so that who is refused takes no slot from others. */
static int may_take(shared_clients_t *clients, const network_t *network, const rate_t *rate,
                    apr_uint32_t now)
{
    shared_clients_slot_t *slot = find(clients, hash(clients, network));

    return !slot || has_room(debt_until(apr_atomic_read32(&slot->until), now, rate->room), rate);
}

void shared_clients_init(shared_clients_t *clients,
                         const unsigned char key[SHARED_CLIENTS_KEY_SIZE])
{
    memcpy(clients->key, key, SHARED_CLIENTS_KEY_SIZE);
}

int shared_clients_take(shared_clients_t *clients, const apr_sockaddr_t *address,
                        const shared_clients_limit_t *limit, apr_time_t now)
{
    network_t network[NETWORKS_MAX];
    rate_t rate[NETWORKS_MAX];
    int count = find_networks(network, address);

    if (!has_limit(limit)) {
        return 1;
    }
    for (int i = 0; i < count; i++) {
        rate[i] = rate_of(limit, i);
        if (!may_take(clients, &network[i], &rate[i], ticks_of(now))) {
            return 0;
        }
    }
    for (int i = 0; i < count; i++) {
        if (!charge(clients, &network[i], &rate[i], ticks_of(now))) {
            while (i-- > 0) {
                refund(clients, &network[i], &rate[i], ticks_of(now));
            }
            return 0;
        }
    }
    return 1;
}

void shared_clients_return(shared_clients_t *clients, const apr_sockaddr_t *address,
                           const shared_clients_limit_t *limit, apr_time_t now)
{
    network_t network[NETWORKS_MAX];
    int count = has_limit(limit) ? find_networks(network, address) : 0;

    for (int i = 0; i < count; i++) {
        rate_t rate = rate_of(limit, i);

        refund(clients, &network[i], &rate, ticks_of(now));
    }
}

static int is_private_ipv4(const unsigned char *ip)
{
    return ip[0] == 0 || ip[0] == 10 || ip[0] == 127
        || (ip[0] == 100 && (ip[1] & 0xc0) == 64)
        || (ip[0] == 169 && ip[1] == 254)
        || (ip[0] == 172 && (ip[1] & 0xf0) == 16)
        || (ip[0] == 192 && ip[1] == 168);
}

static int is_private_ipv6(const unsigned char *ip)
{
    static const unsigned char unspecified[15];

    return (memcmp(ip, unspecified, sizeof(unspecified)) == 0 && ip[15] <= 1)
        || (ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80)
        || (ip[0] & 0xfe) == 0xfc;
}

int shared_clients_is_private(const apr_sockaddr_t *address)
{
    const unsigned char *ipv4 = ipv4_of(address);
    const unsigned char *ipv6 = ipv6_of(address);

    if (ipv4) {
        return is_private_ipv4(ipv4);
    }
    return !ipv6 || is_private_ipv6(ipv6);
}
