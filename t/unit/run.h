/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file run.h
 * What main() of a test program does when its tests need APR.
 */
#ifndef RUN_H
#define RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_general.h>
#include <apr_pools.h>
#include <cmocka.h>

static inline void run_begin(apr_pool_t **pool)
{
    apr_initialize();
    if (pool) {
        apr_pool_create(pool, NULL);
    }
}

static inline int run_end(apr_pool_t **pool, int failed)
{
    if (pool) {
        apr_pool_destroy(*pool);
    }
    apr_terminate();
    return failed;
}

/** Run the tests of an array. @return what main() returns */
#define RUN_TESTS(tests) \
    (run_begin(NULL), run_end(NULL, cmocka_run_group_tests(tests, NULL, NULL)))

/** The same, with a pool for all of them in the variable "pool". */
#define RUN_TESTS_WITH_POOL(tests, pool) \
    (run_begin(&(pool)), run_end(&(pool), cmocka_run_group_tests(tests, NULL, NULL)))

#endif
