/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/stop.h
 * "This process is asked to leave", as something every wait can wait for. Made
 * of a pipe that becomes readable once and stays so: raising it is one write(),
 * fit for a signal handler (prefork ends its children in one), takes no lock and
 * wakes every waiter, those in poll() on other descriptors too.
 */
#ifndef BASE_STOP_H
#define BASE_STOP_H

#include <apr_pools.h>
#include <apr_time.h>

typedef struct base_stop_t base_stop_t;

/** Make one; closed with the pool. */
apr_status_t base_stop_create(base_stop_t **stop, apr_pool_t *pool);

/** Raise it, for ever. Any thread, also a signal handler; never blocks. */
void base_stop_raise(base_stop_t *stop);

/** Non-zero once raised. Any thread; one atomic read. NULL is never raised. */
int base_stop_is_raised(const base_stop_t *stop);

/** The descriptor that is readable once raised, for poll(); -1 for NULL. */
int base_stop_fd(const base_stop_t *stop);

/** Sleep. @return APR_SUCCESS after the interval (microseconds), APR_EINTR at
 * once when it is or becomes raised. */
apr_status_t base_stop_wait(const base_stop_t *stop, apr_interval_time_t interval);

#endif
