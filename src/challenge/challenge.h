/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file challenge/challenge.h
 * The kinds of challenge (RFC 8555 section 8, RFC 8737, draft-ietf-acme-dns-persist): publish, look at it as
 * the CA will, answer, withdraw. What is answered by this server goes through the cache under Go's keys,
 * so every child and every node that shares the cache can answer; what is answered by DNS is set by a
 * program of the administrator.
 */
#ifndef CHALLENGE_CHALLENGE_H
#define CHALLENGE_CHALLENGE_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/identifier.h"
#include "base/stop.h"
#include "cache/cache.h"

struct challenge_dns_command_t;
struct challenge_resolver_config_t;

/** How records of a vhost's names are set and looked for; borrowed from the configuration. */
typedef struct challenge_dns_t {
    const struct challenge_dns_command_t *command;      /* AutocertDNSCommand, NULL: none */
    const struct challenge_resolver_config_t *resolver; /* AutocertDNSResolver, NULL: the system's */
    apr_interval_time_t wait;       /* how long a new record is looked for before the CA is asked */
} challenge_dns_t;

/** Where this server listens, for looks at itself; addresses that can be connected to. */
typedef struct challenge_listeners_t {
    const apr_array_header_t *http;     /* of const char *, "127.0.0.1:80", "[::1]:80": without TLS */
    const apr_array_header_t *https;    /* the same: with TLS */
} challenge_listeners_t;

/** One challenge of one order. */
typedef struct challenge_task_t {
    cache_t *cache;
    const char *name;               /* identifier, see base/identifier.h */
    const char *token;              /* checked by acme/authorization.c; NULL: the kind has none */
    const char *key_authorization;  /* NULL: the kind has none */
    const apr_array_header_t *issuers;  /* const char *, the CA's issuer-domain-names; NULL: none were told */
    const char *account_uri;        /* of the account that orders */
    const challenge_dns_t *dns;     /* never NULL for kinds that use DNS */
    const challenge_listeners_t *listeners;     /* NULL: there is nothing to look at */
    const base_stop_t *stop;        /* ends every wait with CANCELLED; may be NULL */
    apr_time_t now;
} challenge_task_t;

typedef struct challenge_kind_t {
    const char *type;               /* "http-01" */
    unsigned int proves;            /* base_identifier_kind_t bits */
    int uses_dns;                   /* task->dns is needed */
    /** Make the answer visible. Blocks: on the cache, or on a program within its timeout. VALIDATION when the
     * CA need not be asked, as nothing can be there for it to see. */
    apr_status_t (*publish)(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err);
    /** Look whether it can be seen; blocks on the network, within a bound that the kind's header tells.
     * What is wrong is logged; it never forbids the try. NULL: there is nothing to look at.
     * @return CANCELLED, else success */
    apr_status_t (*check)(const challenge_task_t *task, apr_pool_t *pool, base_error_t *err);
    /** Take it away again; what is gone already is fine. Blocks as publish does. */
    void (*withdraw)(const challenge_task_t *task, apr_pool_t *pool);
} challenge_kind_t;

/** All kinds by their type; NULL when there is none. Any thread. */
const challenge_kind_t *challenge_find(const char *type);

/** The list of types for messages: "tls-alpn-01, http-01, dns-01, dns-persist-01". */
const char *challenge_types(apr_pool_t *pool);

#endif
