/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/queue.h
 * What is to be done, and in which order: one item for each listed name, for its whole life, and one for
 * each certificate that a client wished for, or that the calendar found due, until that is settled.
 * Belongs to the dispatcher thread; nothing here blocks.
 */
#ifndef MANAGER_QUEUE_H
#define MANAGER_QUEUE_H

#include <apr_pools.h>
#include <apr_time.h>

#include "base/error.h"
#include "manager/order.h"
#include "manager/policy.h"
#include "shared/requests.h"

#define MANAGER_QUEUE_PASSING_MAX 8192      /* items that are not of listed names */
#define MANAGER_QUEUE_VHOSTS_MAX 4          /* vhosts that wished for one item and are answered */

/** What is known of an item. */
typedef enum {
    MANAGER_QUEUE_UNKNOWN,      /* the cache has to be looked at */
    MANAGER_QUEUE_SETTLED,      /* nothing to do before `next` */
    MANAGER_QUEUE_RUNNING       /* a worker has it */
} manager_queue_state_t;

/** Order of the queue, most urgent first. */
typedef enum {
    MANAGER_QUEUE_LAST_TENTH,   /* the certificate in service is about to expire */
    MANAGER_QUEUE_WAITING,      /* a client came and there was none */
    MANAGER_QUEUE_RENEWAL,
    MANAGER_QUEUE_NEW,          /* configured, never obtained */
    MANAGER_QUEUE_NEW_ALIAS,
    MANAGER_QUEUE_PRELOAD,      /* listed in a file with preload */
    MANAGER_QUEUE_SECOND_KIND,  /* the second kind of key */
    MANAGER_QUEUE_INFORMATION,  /* nothing to order, but the CA is to be asked for renewal information */
    MANAGER_QUEUE_NOT_DUE
} manager_queue_class_t;

typedef struct manager_queue_item_t manager_queue_item_t;
struct manager_queue_item_t {
    manager_policy_name_t name;         /* its name points to `text` */
    int passing;                        /* goes when it is settled */
    manager_queue_state_t state;
    int waiting;                        /* clients asked for it and were not answered */
    apr_uint32_t vhosts[MANAGER_QUEUE_VHOSTS_MAX];  /* of their wishes */
    int vhost_count;
    char client[SHARED_REQUESTS_CLIENT_SIZE];       /* address of the first of them, "" */
    apr_time_t next;                    /* when something is to be done */
    apr_time_t due;                     /* when a certificate has to be ordered */
    int ca;                             /* index of the CA chosen for that */
    int saved;                          /* of the one with an order under way, -1: none */
    int issuer;                         /* of the one that issued the certificate, -1: unknown */
    apr_uint32_t avoid;                 /* those not to be tried (manager_ledger_avoid()) */
    apr_time_t looked;                  /* when the cache was last looked at */
    apr_time_t not_before;
    apr_time_t not_after;               /* 0: there is no certificate */
    base_error_kind_t problem;          /* why `next` is what it is, NONE when all is well */
    manager_order_scope_t scope;        /* whose problem it is */
    manager_queue_item_t *newer;        /* the list of all */
    manager_queue_item_t *older;
    manager_queue_item_t *next_unknown; /* the list of those to be looked at */
    char key[MANAGER_POLICY_CACHE_KEY_SIZE];
    char text[BASE_HOSTNAME_SIZE];
};

typedef struct manager_queue_t manager_queue_t;

/** Make one with an item for each listed name, all UNKNOWN; freed with the pool. */
manager_queue_t *manager_queue_create(const manager_policy_t *policy, apr_pool_t *pool);

/** Find the item of a name and kind, or NULL. */
manager_queue_item_t *manager_queue_find(manager_queue_t *queue, const manager_policy_name_t *name);

/** Add a passing item, UNKNOWN; the name is copied. @return NULL when there are too many */
manager_queue_item_t *manager_queue_add(manager_queue_t *queue, const manager_policy_name_t *name);

/** Non-zero when there is no room for passing items beyond a share of it that is kept for clients. */
int manager_queue_is_crowded(const manager_queue_t *queue);

/** Take a passing item out and free it. */
void manager_queue_remove(manager_queue_t *queue, manager_queue_item_t *item);

/** Note a wish; `client` may be "". @return zero when too many vhosts wished for it already: nobody would
 * answer this one */
int manager_queue_wish(manager_queue_item_t *item, apr_uint32_t vhost, const char *client);

/** It has to be looked at. */
void manager_queue_mark_unknown(manager_queue_t *queue, manager_queue_item_t *item);

/** The next item to look at, taken from the list, or NULL. */
manager_queue_item_t *manager_queue_next_unknown(manager_queue_t *queue);

/** Non-zero while items have to be looked at. */
int manager_queue_has_unknown(const manager_queue_t *queue);

/** Note how it went. */
void manager_queue_settle(manager_queue_item_t *item, const manager_order_result_t *result);

/** Non-zero when it would draw on the share of the budget for on-demand names: what a client caused and
 * nobody has yet. Renewals never do. */
int manager_queue_draws_on_demand(const manager_queue_item_t *item, apr_time_t now);

/** Can something be done about an item that is due? Then non-zero, with item->ca set; else *wake may be
 * lowered to the moment when that is worth asking again. */
typedef int manager_queue_place_t(void *baton, manager_queue_item_t *item, apr_time_t now, apr_time_t *wake);

/**
 * The most urgent item that is due and that `place` has a place for, or NULL.
 * @param no_demand none that draws on the share of on-demand names
 * @param wake lowered to the earliest moment when another one is due
 */
manager_queue_item_t *manager_queue_choose(manager_queue_t *queue, apr_time_t now,
                                           manager_queue_place_t *place, void *baton, int no_demand,
                                           apr_time_t *wake);

/** Non-zero when only its renewal information is to be asked for. */
int manager_queue_only_asks(const manager_queue_item_t *item, apr_time_t now);

/** The shortest lifetime of a certificate of an item, 0 without one. */
apr_interval_time_t manager_queue_shortest_life(const manager_queue_t *queue);

/** For the summary: listed names, those with a certificate valid now, when the first of these ends (0). */
void manager_queue_count(const manager_queue_t *queue, apr_time_t now, int *names, int *valid,
                         apr_time_t *first);

#endif
