/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/resolver.h
 * TXT records as the authoritative servers of their zone have them; the only file that knows c-ares. Any
 * thread, each call has channels of its own; blocks on the network within CHALLENGE_RESOLVER_LOOK_MAX;
 * ended at once by the stop signal.
 */
#ifndef CHALLENGE_RESOLVER_H
#define CHALLENGE_RESOLVER_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/stop.h"

#define CHALLENGE_RESOLVER_LOOK_MAX apr_time_from_sec(10)   /* one look, all of it */
#define CHALLENGE_RESOLVER_SERVERS_MAX 16       /* addresses of authoritative servers that are asked */
#define CHALLENGE_RESOLVER_CNAMES_MAX 8
#define CHALLENGE_RESOLVER_VALUES_MAX 64        /* TXT records of one answer */
#define CHALLENGE_RESOLVER_VALUE_MAX 4096       /* bytes of one, its strings joined */

/** Borrowed from the configuration. */
typedef struct challenge_resolver_config_t {
    const char *servers;            /* recursive: "192.0.2.53,[2001:db8::1]:5353"; NULL: the system's */
    unsigned int port;              /* of authoritative servers, 0: 53; another one is for tests */
} challenge_resolver_config_t;

typedef enum {
    CHALLENGE_RESOLVER_EVERYWHERE,  /* each server that answered has such a record, and at least one did */
    CHALLENGE_RESOLVER_SOMEWHERE,   /* some have it, others have not */
    CHALLENGE_RESOLVER_NOWHERE,     /* they answered, and none has it */
    CHALLENGE_RESOLVER_UNKNOWN,     /* nobody could be asked */
    CHALLENGE_RESOLVER_STOPPED      /* stop was raised */
} challenge_resolver_seen_t;

/** Is a value of the record the one that is looked for? Called on the caller's thread. */
typedef int challenge_resolver_match_fn(void *baton, const char *value);

typedef struct challenge_resolver_look_t {
    const challenge_resolver_config_t *config;  /* NULL: the system's servers */
    const char *name;               /* of the TXT record, without a last dot */
    challenge_resolver_match_fn *match;
    void *baton;
    const base_stop_t *stop;        /* may be NULL */
} challenge_resolver_look_t;

/**
 * Look once. CNAMEs are followed; at the end of them the zone is found by its SOA record, its servers by
 * NS, A and AAAA records through the recursive servers; each of those servers is asked for the TXT record
 * on port 53. A zone whose servers cannot be found is asked for through the recursive servers themselves.
 * So is one whose servers gave no answer (a firewall); only a record that is there counts then, as its
 * absence may come from a cache: UNKNOWN.
 * @param detail set to a sentence for people, in the pool: which server has it, or not, or what failed
 */
challenge_resolver_seen_t challenge_resolver_look(const challenge_resolver_look_t *look, const char **detail,
                                                  apr_pool_t *pool);

/** Once in a process that will look, before its threads start; never in the parent. Idempotent. */
apr_status_t challenge_resolver_init(void);

/** Judge AutocertDNSResolver's words.
 * @return NULL, or what is wrong with the address, as the end of a sentence */
const char *challenge_resolver_check(const char *server);

#endif
