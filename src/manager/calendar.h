/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/calendar.h
 * Certificates that no configuration lists are renewed by the calendar: the elected child walks through
 * the cache again and again, a slice at a time, and puts what is due before the next walk into the queue.
 * Nothing is kept of the others, so memory does not grow with their number. The walk also fills the set of
 * certificates that are there (handshakes ask it before they touch the cache), notes in the ledgers who was
 * visited, and finds the names of files with preload that have none yet. Belongs to the dispatcher thread;
 * blocks on the cache.
 */
#ifndef MANAGER_CALENDAR_H
#define MANAGER_CALENDAR_H

#include <apr_pools.h>
#include <apr_time.h>

#include "manager/order.h"
#include "manager/policy.h"
#include "manager/queue.h"
#include "shared/names.h"

#define MANAGER_CALENDAR_INTERVAL apr_time_from_sec(3600)   /* between two walks, at the most */
#define MANAGER_CALENDAR_INTERVAL_MIN apr_time_from_sec(1)
#define MANAGER_CALENDAR_VISIT_GRAIN apr_time_from_sec(24 * 3600)   /* a ledger's visit is at most so
                                                                      old before it is noted anew */

typedef struct manager_calendar_t manager_calendar_t;

/** Make one; the first walk is due at once. Everything is borrowed.
 * @param visits set of cache keys that clients came for lately, NULL: nobody knows, all count as visited */
manager_calendar_t *manager_calendar_create(const manager_policy_t *policy,
                                            const manager_order_context_t *context,
                                            shared_names_t *visits, apr_pool_t *pool);

/** Go on with the walk, or begin one when it is time.
 * @param looks certificates to look at now, at the most
 * @return non-zero while the walk is not at its end */
int manager_calendar_walk(manager_calendar_t *calendar, manager_queue_t *queue, int looks,
                          apr_time_t now);

/** When the next walk begins. */
apr_time_t manager_calendar_next(const manager_calendar_t *calendar);

/** A certificate of this lifetime is there: walk often enough for it. */
void manager_calendar_note_lifetime(manager_calendar_t *calendar, apr_interval_time_t lifetime,
                                    apr_time_t now);

/** Begin a walk as soon as the one under way ends. */
void manager_calendar_hurry(manager_calendar_t *calendar, apr_time_t now);

/** Non-zero when something due at a moment may be forgotten: a later walk finds it in time. */
int manager_calendar_will_find(const manager_calendar_t *calendar, apr_time_t due, apr_time_t now);

#endif
