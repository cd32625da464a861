/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>
#include <apr_strings.h>

#include "manager/budget.h"
#include "manager/ledger.h"

#define NOW apr_time_from_sec(1700000000)

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* A store whose every key holds the input; what is written is forgotten. */
static const unsigned char *input;
static size_t input_size;

static apr_status_t open_input(autocert_cache_t **cache, const char *argument, apr_pool_t *pool)
{
    (void)argument;
    *cache = apr_palloc(pool, 1);
    return APR_SUCCESS;
}

static apr_status_t get_input(autocert_cache_t *cache, autocert_cache_space_t space,
                              const char *key, char **data, apr_size_t *len, apr_pool_t *pool)
{
    (void)cache;
    (void)space;
    (void)key;
    *data = apr_pstrmemdup(pool, (const char *)input, input_size);
    *len = input_size;
    return APR_SUCCESS;
}

static apr_status_t forget(autocert_cache_t *cache, autocert_cache_space_t space,
                           const char *key, const char *data, apr_size_t len, apr_pool_t *pool)
{
    (void)cache;
    (void)space;
    (void)key;
    (void)data;
    (void)len;
    (void)pool;
    return APR_SUCCESS;
}

static apr_status_t remove_nothing(autocert_cache_t *cache, autocert_cache_space_t space,
                                   const char *key, apr_pool_t *pool)
{
    (void)cache;
    (void)space;
    (void)key;
    (void)pool;
    return APR_SUCCESS;
}

static apr_status_t list_owner(autocert_cache_t *cache, autocert_cache_space_t space,
                               autocert_cache_list_fn *fn, void *baton, apr_pool_t *pool)
{
    (void)cache;
    (void)space;
    (void)pool;
    return fn(baton, "budget+ca+demand+a.example");
}

static apr_status_t lock_nothing(autocert_cache_t *cache, const char *key,
                                 autocert_cache_lock_t **lock, apr_pool_t *pool)
{
    (void)cache;
    (void)key;
    *lock = apr_palloc(pool, 1);
    return APR_SUCCESS;
}

static void unlock_nothing(autocert_cache_t *cache, autocert_cache_lock_t *lock)
{
    (void)cache;
    (void)lock;
}

static void close_input(autocert_cache_t *cache)
{
    (void)cache;
}

static const autocert_cache_provider_t provider = {
    .open = open_input, .get = get_input, .put = forget, .remove = remove_nothing,
    .list = list_owner, .lock = lock_nothing, .unlock = unlock_nothing, .close = close_input
};

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const manager_budget_rate_t rate = { 300, apr_time_from_sec(3 * 3600) };
    apr_pool_t *pool = NULL;
    manager_ledger_t ledger;
    cache_t *cache = NULL;
    apr_time_t when = 0;
    apr_status_t rv;
    int everybody = 0;

    apr_initialize();
    input = data;
    input_size = size;
    if (apr_pool_create(&pool, NULL) != APR_SUCCESS
        || cache_open(&cache, &provider, "", pool) != APR_SUCCESS) {
        abort();
    }
    manager_ledger_load(&ledger, cache, "a.example", pool);
    if (ledger.failures < 0 || ledger.next_try < 0 || ledger.problem.retry_at < 0
        || ledger.visited < 0
        || (ledger.problem.kind != BASE_ERROR_NONE) != (ledger.problem.status != APR_SUCCESS)
        || manager_ledger_store(&ledger, cache, "a.example", pool) != APR_SUCCESS) {
        abort();
    }
    rv = manager_budget_take(cache, "ca", &rate, NOW, &when, NULL, pool);
    if (rv != APR_SUCCESS && (rv != APR_EAGAIN || when <= NOW || when > NOW + rate.period)) {
        abort();
    }
    manager_budget_return(cache, "ca", &rate, NOW, NULL, pool);
    rv = manager_budget_take_demand(cache, "ca", &rate, "a.example", NOW, &when, &everybody, NULL,
                                    pool);
    if (rv != APR_SUCCESS && (rv != APR_EAGAIN || when <= NOW || when > NOW + rate.period)) {
        abort();
    }
    manager_budget_return_demand(cache, "ca", &rate, "a.example", NOW, NULL, pool);
    manager_budget_tidy(cache, "ca", &rate, NOW, NULL, pool);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
