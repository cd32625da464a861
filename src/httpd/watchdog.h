/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/watchdog.h
 * The election: a mod_watchdog thread in every child tries for a process mutex at each tick (about
 * 100 ms); the one that has it runs the scheduler. mod_watchdog's own singleton would take ten
 * seconds to change hands.
 */
#ifndef HTTPD_WATCHDOG_H
#define HTTPD_WATCHDOG_H

#include <httpd.h>

/** pre_config: make the mutex known to the Mutex directive. */
void httpd_watchdog_register_mutex(apr_pool_t *pconf);

/** post_config, before mod_watchdog's: mutex and callback. Logged when it cannot be. */
void httpd_watchdog_prepare(apr_pool_t *pconf, server_rec *s);

/** child_init, before mod_watchdog's starts its threads. */
void httpd_watchdog_child_init(apr_pool_t *pchild, server_rec *s);

/** child_stopping: this child ends, gracefully perhaps in minutes; its orders go on elsewhere. Never
 * blocks. */
void httpd_watchdog_child_stopping(apr_pool_t *pchild, int graceful);

#endif
