/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/order.h
 * The story of one order, from "this name needs a certificate" to "stored and live"
 * (design: walk two). Blocking, for one worker thread; ended at once when the process
 * is asked to stop, and resumed by whoever comes next from the private record "NAME+order".
 */
#ifndef MANAGER_ORDER_H
#define MANAGER_ORDER_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "cache/cache.h"
#include "manager/ask.h"
#include "manager/ca.h"
#include "manager/policy.h"
#include "shared/names.h"
#include "shared/versions.h"

/** What all orders of a process share. */
typedef struct manager_order_context_t {
    cache_t *cache;
    const apr_array_header_t *configs;  /* of const manager_ca_config_t *: the CAs in order */
    apr_array_header_t *cas;            /* of manager_ca_t: the same, as this process knows them */
    manager_ask_t *ask;                 /* endpoints of AutocertHostPolicy */
    shared_versions_t *versions;        /* raised when a certificate is stored */
    shared_names_t *present;            /* cache keys of certificates that are there */
    const challenge_listeners_t *listeners;     /* of this server; NULL: it is not to look at itself */
    apr_time_t (*now)(void);
} manager_order_context_t;

/** Whom a problem concerns. */
typedef enum {
    MANAGER_ORDER_SCOPE_NAME,   /* this name only; its ledger knows */
    MANAGER_ORDER_SCOPE_CA,     /* every name that needs this CA; no failure of the name */
    MANAGER_ORDER_SCOPE_DEMAND  /* the share of on-demand names is used up until retry_at; the same */
} manager_order_scope_t;

/** What to obtain, and on whose account. */
typedef struct manager_order_task_t {
    const manager_policy_name_t *name;
    int ca;                     /* index of the CA that is asked */
    const char *client;         /* text of the address that caused it, "": nobody's, or unknown */
    int demand;                 /* it draws on the share of the budget for on-demand names */
    int funded;                 /* an order was taken out of the budget already; put back when it turns
                                 * out not to be needed */
} manager_order_task_t;

/** How it went, for the scheduler. */
typedef struct manager_order_result_t {
    int known;                  /* the cache was looked at: all but next, scope, problem is filled in */
    apr_time_t next;            /* when something is to be done: the earlier of due and ask, or later, when
                                 * the name has to wait for its next try; for SCOPE_CA: 0, the
                                 * scheduler decides, or the moment the CA or the budget named */
    apr_time_t due;             /* when a certificate has to be ordered; 0: there is none */
    apr_time_t ask;             /* when renewal information is to be asked for; 0: never */
    int issuer;                 /* index of the CA that issued the certificate, -1: unknown or not ours */
    apr_uint32_t avoid;         /* CAs not to be tried for it: manager_ledger_avoid() */
    apr_time_t visited;         /* when a client last came for it, 0 unknown */
    apr_time_t not_before;      /* of the certificate in service, 0: none */
    apr_time_t not_after;
    int saved;                  /* index of the CA that has an order under way, which costs no budget; -1 */
    int damaged;                /* there is a file that no date makes good */
    int answered;               /* the CA was asked in this run and is well */
    int refunded;               /* an order was put back into the CA's budget */
    manager_order_scope_t scope;
    base_error_t problem;       /* kind NONE when there is a good certificate now */
} manager_order_result_t;

/**
 * Obtain or renew the certificate of a name, or only ask for its renewal information when that is all that is
 * due, unless it turns out under the name's lock that there is a
 * good one, or that no policy allows it (kind REFUSED, next is how long that holds; only asked when
 * something has to be ordered). Logs the outcome (AC0110, AC0120), keeps the ledger.
 * Never touches the certificate in service before the new one is complete.
 * @param result filled in whatever happens
 * @param pool of the calling thread, emptied by the caller afterwards
 */
void manager_order_run(const manager_order_context_t *context, const manager_order_task_t *task,
                       manager_order_result_t *result, apr_pool_t *pool);

/** Let all children know that the certificate of a name is there, or changed. Never blocks. */
void manager_order_publish(const manager_order_context_t *context, const manager_policy_name_t *name);

/** Note in the ledger when a client last came for a certificate, unless somebody has its lock (then the
 * next call will). Blocks on the cache. */
void manager_order_note_visit(const manager_order_context_t *context, const manager_policy_name_t *name,
                              apr_time_t visited, apr_pool_t *pool);

/**
 * What the cache holds for a name, without network: result->next is when it must be
 * renewed or, with a moment that is not in the future, that it must be obtained now; a name in
 * back-off has the moment of its next try, and its last problem. A file that cannot serve is
 * logged (AC0301) and left to be replaced; run() keeps a copy of a damaged one as the private
 * record "KEY+damaged".
 */
void manager_order_look(const manager_order_context_t *context, const manager_policy_name_t *name,
                        manager_order_result_t *result, apr_pool_t *pool);

#endif
