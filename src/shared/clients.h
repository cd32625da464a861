/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file shared/clients.h
 * How many orders a client network may still cause: a rate limit for each network (IPv4 /24, IPv6 /56;
 * four times as much for an IPv6 /48), in a bounded table of shared memory. One 32-bit word for each
 * network, the generic cell rate algorithm's theoretical arrival time. Any thread of any process;
 * lock-free, never blocks. When the table is full, the network with the least debt is forgotten.
 */
#ifndef SHARED_CLIENTS_H
#define SHARED_CLIENTS_H

#include <apr_atomic.h>
#include <apr_network_io.h>
#include <apr_time.h>

#define SHARED_CLIENTS_SLOTS 8192           /* a power of two */
#define SHARED_CLIENTS_PERIOD_MAX apr_time_from_sec(30 * 24 * 3600)
#define SHARED_CLIENTS_SITE_FACTOR 4        /* an IPv6 /48 may cause so many times what a /56 may */
#define SHARED_CLIENTS_KEY_SIZE 16

typedef struct shared_clients_slot_t {
    volatile apr_uint32_t network;          /* keyed hash of the network, 0: free */
    volatile apr_uint32_t until;            /* theoretical arrival time, in 1/64 s, cut to 32 bits */
} shared_clients_slot_t;

typedef struct shared_clients_t {
    unsigned char key[SHARED_CLIENTS_KEY_SIZE];
    shared_clients_slot_t slot[SHARED_CLIENTS_SLOTS];
} shared_clients_t;

/** Orders per period (at most SHARED_CLIENTS_PERIOD_MAX); orders 0: no limit. All of one period may come
 * at once, then one after each period / orders, rounded up to 1/64 s. */
typedef struct shared_clients_limit_t {
    int orders;
    apr_interval_time_t period;
} shared_clients_limit_t;

/** Once, on zeroed memory. @param key random bytes */
void shared_clients_init(shared_clients_t *clients,
                         const unsigned char key[SHARED_CLIENTS_KEY_SIZE]);

/** Count one order against the network of an address (an IPv4 address in IPv6 clothes counts as IPv4;
 * what is no IP address may always).
 * @return non-zero when it may, zero when the network has none left (nothing is counted then) */
int shared_clients_take(shared_clients_t *clients, const apr_sockaddr_t *address,
                        const shared_clients_limit_t *limit, apr_time_t now);

/** Give one back that was taken and not used. */
void shared_clients_return(shared_clients_t *clients, const apr_sockaddr_t *address,
                           const shared_clients_limit_t *limit, apr_time_t now);

/** Non-zero for an address that is nobody's own on the Internet: loopback, private, link-local,
 * unique local, shared (RFC 6598), unspecified, or no IP address at all. */
int shared_clients_is_private(const apr_sockaddr_t *address);

#endif
