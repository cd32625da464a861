/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/scheduler.h
 * What the elected child does: one dispatcher thread takes what handshakes wish for and what the calendar
 * finds due, decides what comes next, and answers the wishes; a pool of worker threads runs one blocking
 * order (or question to an endpoint) each.
 */
#ifndef MANAGER_SCHEDULER_H
#define MANAGER_SCHEDULER_H

#include <apr_pools.h>

#include "base/stop.h"
#include "cache/cache.h"
#include "manager/ca.h"
#include "manager/policy.h"
#include "shared/segment.h"

#define MANAGER_SCHEDULER_WORKERS 16    /* orders side by side */
#define MANAGER_SCHEDULER_DEMAND_WORKERS 12     /* of them, for names that clients came for: renewals
                                           always find a worker */
#define MANAGER_SCHEDULER_DNS_WORKERS 8 /* of them, for names that DNS may prove: programs may hang, and
                                           others are not to wait for them */
#define MANAGER_SCHEDULER_CANARY_EVERY apr_time_from_sec(3600)
#define MANAGER_SCHEDULER_FILES_EVERY apr_time_from_sec(2)  /* host files are compared so often */

typedef struct manager_scheduler_t manager_scheduler_t;

typedef struct manager_scheduler_config_t {
    const manager_policy_t *policy;
    int vhosts;                         /* how many have names, for the summary in the log */
    const char *cache_text;             /* the cache, for that summary */
    const apr_array_header_t *cas;      /* of const manager_ca_config_t *: in order of preference, at
                                         * least one, at most MANAGER_CA_MAX */
    cache_t *cache;
    shared_segment_t *segment;
    shared_names_t *present;            /* set of the certificates in the cache */
    shared_names_t *visits;             /* set of those that clients came for */
    const challenge_listeners_t *listeners;     /* of this server; NULL: it does not look at itself */
    int wake_fd;                        /* readable when a request was added; drained here; -1: none */
    apr_time_t (*now)(void);            /* the clock */
} manager_scheduler_config_t;

/**
 * Start the threads; returns at once. Called once in a process. All of config is borrowed
 * until join() returned.
 * @param stop the process's own; raised by the caller, ends everything within a second
 */
apr_status_t manager_scheduler_start(manager_scheduler_t **scheduler,
                                     const manager_scheduler_config_t *config,
                                     base_stop_t *stop, apr_pool_t *pool);

/**
 * Wait for all threads to end; the stop is raised already. Once, by one thread; takes no
 * lock, so that a signal handler may do it (prefork ends its children in one).
 * @return APR_TIMEUP when they did not end within the time (microseconds): then
 *         nothing they use may be freed
 */
apr_status_t manager_scheduler_join(manager_scheduler_t *scheduler, apr_interval_time_t timeout);

#endif
