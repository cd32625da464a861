/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file cache/cache.h
 * A provider opened for use: the rules that every provider can rely on (keys,
 * sizes, one lock attempt per process and key) are enforced here once.
 * Functions may be called by any thread and block as long as the store does,
 * which is why none of them is called while a lock is held.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <apr_pools.h>
#include <apr_user.h>

#include "mod_autocert.h"

typedef struct cache_t cache_t;
typedef struct cache_lock_t cache_lock_t;

/** Open a provider's store; closed with the pool. Threads and processes may
 * share the result over a fork only if they do not: open after the fork. */
apr_status_t cache_open(cache_t **cache, const autocert_cache_provider_t *provider,
                        const char *argument, apr_pool_t *pool);

/** Non-zero when a key may reach a provider (see mod_autocert.h). */
int cache_key_is_valid(const char *key);

/** As the provider's functions of the same names. An invalid key is a miss for
 * get and stat, APR_EINVAL for put, remove and lock. */
apr_status_t cache_get(cache_t *cache, autocert_cache_space_t space, const char *key,
                       char **data, apr_size_t *len, apr_pool_t *pool);
apr_status_t cache_put(cache_t *cache, autocert_cache_space_t space, const char *key,
                       const char *data, apr_size_t len, apr_pool_t *pool);
apr_status_t cache_remove(cache_t *cache, autocert_cache_space_t space, const char *key,
                          apr_pool_t *pool);
apr_status_t cache_list(cache_t *cache, autocert_cache_space_t space,
                        autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool);
apr_status_t cache_stat(cache_t *cache, autocert_cache_space_t space, const char *key,
                        autocert_cache_stat_t *st, apr_pool_t *pool);

/**
 * Lock a key against every other thread of this process and every other process
 * that shares the store; never waits.
 * @param lock made in its own memory; given back with cache_unlock() only
 * @return APR_EBUSY when somebody else holds it
 */
apr_status_t cache_lock(cache_t *cache, const char *key, cache_lock_t **lock);

/** Give it back; NULL is fine. */
void cache_unlock(cache_lock_t *lock);

/** Find out whether a value of a certificate's size could be stored under this
 * shared key: writes 16 KiB under "KEY+probe" in both spaces and removes them again. */
apr_status_t cache_probe_write(cache_t *cache, const char *key, apr_pool_t *pool);

#endif
