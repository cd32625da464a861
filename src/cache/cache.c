/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "cache/cache.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <apr_strings.h>

#define KEY_MAX 255
#define PROBE_BYTES (16 * 1024)     /* a key with a chain of four certificates is smaller */
#define PROBE_SUFFIX "+probe"

struct cache_t {
    const autocert_cache_provider_t *provider;
    autocert_cache_t *store;
    const char *argument;
};

struct cache_lock_t {
    cache_t *cache;
    const char *key;
    autocert_cache_lock_t *held;    /* the provider's */
    apr_pool_t *pool;               /* this lock lives in it */
    cache_lock_t *next;
};

/*
 * The locks that this process holds or is trying for, of all caches: a record lock of the
 * kernel belongs to the process and is lost when any descriptor of its file is closed,
 * so a second attempt for the same key must not even open the file. As long as orders run at
 * the same time, so a list is enough. A forked child holds none of its parent's.
 */
static pthread_mutex_t locks_mutex = PTHREAD_MUTEX_INITIALIZER;
static cache_lock_t *locks;
static pid_t locks_owner;

int cache_key_is_valid(const char *key)
{
    size_t i;

    if (!key || key[0] == '.') {
        return 0;
    }
    for (i = 0; key[i]; i++) {
        if (i >= KEY_MAX || key[i] < 0x20 || key[i] > 0x7e || strchr("\\/:*?\"<>|", key[i])) {
            return 0;
        }
    }
    return i > 0;
}

static apr_status_t close_store(void *data)
{
    cache_t *cache = data;

    cache->provider->close(cache->store);
    return APR_SUCCESS;
}

apr_status_t cache_open(cache_t **cache, const autocert_cache_provider_t *provider,
                        const char *argument, apr_pool_t *pool)
{
    cache_t *made = apr_pcalloc(pool, sizeof(*made));
    apr_status_t rv;

    *cache = NULL;
    made->provider = provider;
    made->argument = apr_pstrdup(pool, argument);
    rv = provider->open(&made->store, made->argument, pool);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_pool_cleanup_register(pool, made, close_store, apr_pool_cleanup_null);
    *cache = made;
    return APR_SUCCESS;
}

apr_status_t cache_get(cache_t *cache, autocert_cache_space_t space, const char *key,
                       char **data, apr_size_t *len, apr_pool_t *pool)
{
    apr_status_t rv;

    *data = NULL;
    *len = 0;
    if (!cache_key_is_valid(key)) {
        return APR_NOTFOUND;
    }
    rv = cache->provider->get(cache->store, space, key, data, len, pool);
    if (rv == APR_SUCCESS && *len > AUTOCERT_CACHE_VALUE_MAX) {
        rv = APR_ENOSPC;
    }
    if (rv != APR_SUCCESS) {
        *data = NULL;
        *len = 0;
    }
    return rv;
}

apr_status_t cache_put(cache_t *cache, autocert_cache_space_t space, const char *key,
                       const char *data, apr_size_t len, apr_pool_t *pool)
{
    if (!cache_key_is_valid(key)) {
        return APR_EINVAL;
    }
    if (len > AUTOCERT_CACHE_VALUE_MAX) {
        return APR_ENOSPC;
    }
    return cache->provider->put(cache->store, space, key, data, len, pool);
}

apr_status_t cache_remove(cache_t *cache, autocert_cache_space_t space, const char *key,
                          apr_pool_t *pool)
{
    if (!cache_key_is_valid(key)) {
        return APR_EINVAL;
    }
    return cache->provider->remove(cache->store, space, key, pool);
}

/* A listing under way: a provider's stray names end here. */
typedef struct listing_t {
    autocert_cache_list_fn *fn;
    void *baton;
} listing_t;

static apr_status_t pass_valid_key(void *baton, const char *key)
{
    listing_t *listing = baton;

    return cache_key_is_valid(key) ? listing->fn(listing->baton, key) : APR_SUCCESS;
}

apr_status_t cache_list(cache_t *cache, autocert_cache_space_t space,
                        autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool)
{
    listing_t listing = { fn, baton };

    return cache->provider->list(cache->store, space, pass_valid_key, &listing, pool);
}

apr_status_t cache_stat(cache_t *cache, autocert_cache_space_t space, const char *key,
                        autocert_cache_stat_t *st, apr_pool_t *pool)
{
    memset(st, 0, sizeof(*st));
    if (!cache_key_is_valid(key)) {
        return APR_NOTFOUND;
    }
    return cache->provider->stat(cache->store, space, key, st, pool);
}

/* Enter the lock into the list; zero when its key is there already. */
static int enter_lock(cache_lock_t *lock)
{
    const cache_lock_t *other;

    pthread_mutex_lock(&locks_mutex);
    if (locks_owner != getpid()) {
        locks = NULL;
        locks_owner = getpid();
    }
    for (other = locks; other; other = other->next) {
        if (other->cache->provider == lock->cache->provider
            && strcmp(other->cache->argument, lock->cache->argument) == 0
            && strcmp(other->key, lock->key) == 0) {
            break;
        }
    }
    if (!other) {
        lock->next = locks;
        locks = lock;
    }
    pthread_mutex_unlock(&locks_mutex);
    return !other;
}

static void leave_lock(const cache_lock_t *lock)
{
    cache_lock_t **at;

    pthread_mutex_lock(&locks_mutex);
    for (at = &locks; *at; at = &(*at)->next) {
        if (*at == lock) {
            *at = lock->next;
            break;
        }
    }
    pthread_mutex_unlock(&locks_mutex);
}

apr_status_t cache_lock(cache_t *cache, const char *key, cache_lock_t **lock)
{
    apr_pool_t *pool = NULL;
    cache_lock_t *made;
    apr_status_t rv;

    *lock = NULL;
    if (!cache_key_is_valid(key)) {
        return APR_EINVAL;
    }
    rv = apr_pool_create(&pool, NULL);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    made = apr_pcalloc(pool, sizeof(*made));
    made->cache = cache;
    made->key = apr_pstrdup(pool, key);
    made->pool = pool;
    if (!enter_lock(made)) {
        apr_pool_destroy(pool);
        return APR_EBUSY;
    }
    rv = cache->provider->lock(cache->store, key, &made->held, pool);
    if (rv != APR_SUCCESS) {
        leave_lock(made);
        apr_pool_destroy(pool);
        return rv;
    }
    *lock = made;
    return APR_SUCCESS;
}

void cache_unlock(cache_lock_t *lock)
{
    if (lock) {
        /* First the store's: while the key is in the list nobody here opens its file. */
        lock->cache->provider->unlock(lock->cache->store, lock->held);
        leave_lock(lock);
        apr_pool_destroy(lock->pool);
    }
}

apr_status_t cache_probe_write(cache_t *cache, const char *key, apr_pool_t *pool)
{
    /* Each space can be the one that cannot be written: they are different directories. */
    static const autocert_cache_space_t spaces[] = {
        AUTOCERT_CACHE_SHARED, AUTOCERT_CACHE_PRIVATE
    };
    autocert_cache_stat_t st;
    const char *probe;
    char *value;
    apr_status_t rv;

    if (!cache_key_is_valid(key)) {
        return APR_EINVAL;
    }
    rv = cache_stat(cache, AUTOCERT_CACHE_SHARED, key, &st, pool);
    if (rv == APR_NOTFOUND) {
        rv = APR_SUCCESS;
    }
    probe = apr_psprintf(pool, "%.*s%s", (int)(KEY_MAX - strlen(PROBE_SUFFIX)), key, PROBE_SUFFIX);
    value = apr_palloc(pool, PROBE_BYTES);
    memset(value, 'x', PROBE_BYTES);
    for (size_t i = 0; rv == APR_SUCCESS && i < sizeof(spaces) / sizeof(spaces[0]); i++) {
        rv = cache_put(cache, spaces[i], probe, value, PROBE_BYTES, pool);
        if (rv == APR_SUCCESS) {
            rv = cache_remove(cache, spaces[i], probe, pool);
        }
    }
    return rv;
}
