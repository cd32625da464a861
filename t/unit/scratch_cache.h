/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file scratch_cache.h
 * The fixture of tests that need a pool and a cache: an empty "dir" cache for each test.
 */
#ifndef SCRATCH_CACHE_H
#define SCRATCH_CACHE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <apr_pools.h>
#include <cmocka.h>

#include "cache/dir.h"
#include "scratch.h"

static apr_pool_t *pool;
static cache_t *cache;
static char base[SCRATCH_SIZE];     /* the cache's directory */

static inline int scratch_cache_set_up(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    return scratch_make(base) || cache_open(&cache, &cache_dir_provider, base, pool) != APR_SUCCESS;
}

static inline int scratch_cache_tear_down(void **state)
{
    (void)state;
    apr_pool_destroy(pool);
    return scratch_remove(base);
}

/** A test with pool, cache and base. */
#define WITH_CACHE(test) \
    cmocka_unit_test_setup_teardown(test, scratch_cache_set_up, scratch_cache_tear_down)

#endif
