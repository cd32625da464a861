/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/budget.h"

#include <string.h>

#include <apr_strings.h>
#include <apr_tables.h>

#include "base/json.h"

#define VERSION 1
#define KEY_PREFIX "budget+"
#define ONE 1000000                 /* an order, in the unit that the bucket is counted in */
#define ORDERS_MAX 1000000000       /* of a record: more is nonsense */
#define LOCK_STEP apr_time_from_msec(20)
#define OWNER_MAX 160               /* bytes of a domain in the key of a record */

/* The content of a record. */
typedef struct bucket_t {
    apr_int64_t level;              /* in millionths of an order */
    apr_time_t at;                  /* when that was the level */
    int changed;                    /* differs from what is stored in more than its filling */
} bucket_t;

static int is_unlimited(const manager_budget_rate_t *rate)
{
    return rate->orders <= 0 || rate->period <= 0;
}

static apr_int64_t capacity_of(const manager_budget_rate_t *rate)
{
    return (apr_int64_t)rate->orders * ONE;
}

/* Get the lock of the record, waiting for it; also a stopped process tries once. */
static apr_status_t wait_for_lock(cache_lock_t **lock, cache_t *cache, const char *key,
                                  const base_stop_t *stop)
{
    apr_interval_time_t waited = 0;
    apr_status_t rv;

    while ((rv = cache_lock(cache, key, lock)) == APR_EBUSY
           && waited < MANAGER_BUDGET_LOCK_WAIT) {
        rv = base_stop_wait(stop, LOCK_STEP);
        if (rv != APR_SUCCESS) {
            break;
        }
        waited += LOCK_STEP;
    }
    return rv;
}

/* Read the members of a record; zero when it is none of ours. Scaled to the rate. */
static int read_record(bucket_t *bucket, const json_t *record, const manager_budget_rate_t *rate)
{
    json_int_t orders = base_json_integer(record, "orders", 0);
    json_int_t period = base_json_integer(record, "period", 0);
    json_int_t tokens = base_json_integer(record, "tokens", -1);
    json_int_t at = base_json_integer(record, "at", -1);

    if (base_json_integer(record, "v", 0) != VERSION || orders <= 0 || orders > ORDERS_MAX
        || period <= 0 || tokens < 0 || at < 0) {
        return 0;
    }
    if (tokens > orders * ONE) {
        tokens = orders * ONE;
    }
    bucket->level = tokens;
    if (orders != rate->orders) {
        bucket->level = (apr_int64_t)((double)tokens / (double)orders * rate->orders);
    }
    bucket->at = at;
    return 1;
}

/* Let the bucket run full up to now. */
static void fill(bucket_t *bucket, const manager_budget_rate_t *rate, apr_time_t now)
{
    apr_int64_t capacity = capacity_of(rate);
    apr_interval_time_t passed = now - bucket->at;

    if (passed > 0) {
        bucket->level = passed >= rate->period ? capacity
            : bucket->level + (apr_int64_t)((double)capacity * ((double)passed
                                                                / (double)rate->period));
        bucket->at = now;
    }
    if (bucket->level > capacity) {
        bucket->level = capacity;
    }
}

/* Read the bucket as of now. A record that cannot be understood says that orders were placed,
 * but not how many: then the CA's limit is guarded best by an empty one. */
static apr_status_t load(bucket_t *bucket, cache_t *cache, const char *key,
                         const manager_budget_rate_t *rate, apr_time_t now, apr_pool_t *pool)
{
    json_t *record;
    char *data = NULL;
    apr_size_t len = 0;
    apr_status_t rv = cache_get(cache, AUTOCERT_CACHE_PRIVATE, key, &data, &len, pool);

    memset(bucket, 0, sizeof(*bucket));
    bucket->at = now;
    if (APR_STATUS_IS_NOTFOUND(rv)) {
        bucket->level = capacity_of(rate);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    record = base_json_parse_object(data, len, pool);
    if (!record || !read_record(bucket, record, rate)
        || bucket->at > now + MANAGER_BUDGET_SKEW) {
        bucket->level = 0;
        bucket->at = now;
        bucket->changed = 1;
        return APR_SUCCESS;
    }
    fill(bucket, rate, now);
    return APR_SUCCESS;
}

static apr_status_t save(const bucket_t *bucket, cache_t *cache, const char *key,
                         const manager_budget_rate_t *rate, apr_pool_t *pool)
{
    json_int_t seconds = apr_time_sec(rate->period);
    json_t *record = json_pack("{s:i, s:i, s:I, s:I, s:I}", "v", VERSION, "orders", rate->orders,
                               "period", seconds > 0 ? seconds : (json_int_t)1,
                               "tokens", (json_int_t)bucket->level,
                               "at", (json_int_t)bucket->at);
    const char *text = record ? base_json_dump(record, pool) : NULL;

    if (!text) {
        return APR_EGENERAL;
    }
    return cache_put(cache, AUTOCERT_CACHE_PRIVATE, key, text, strlen(text), pool);
}

/* The moment when a whole order will be there; a little late rather than too early. */
static apr_time_t next_order(const bucket_t *bucket, const manager_budget_rate_t *rate,
                             apr_time_t now)
{
    double missing = (double)(ONE - bucket->level) / (double)capacity_of(rate);
    apr_time_t when = bucket->at + (apr_interval_time_t)(missing * (double)rate->period) + 2;

    return when > now ? when : now + 1;
}

apr_status_t manager_budget_take(cache_t *cache, const char *ca_id,
                                 const manager_budget_rate_t *rate, apr_time_t now,
                                 apr_time_t *when, const base_stop_t *stop, apr_pool_t *pool)
{
    const char *key = apr_pstrcat(pool, KEY_PREFIX, ca_id, NULL);
    cache_lock_t *lock = NULL;
    bucket_t bucket;
    apr_status_t rv;

    if (base_stop_is_raised(stop)) {
        return APR_EINTR;
    }
    if (is_unlimited(rate)) {
        return APR_SUCCESS;
    }
    rv = wait_for_lock(&lock, cache, key, stop);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = load(&bucket, cache, key, rate, now, pool);
    if (rv != APR_SUCCESS) {
        goto leave;
    }
    if (bucket.level < ONE) {
        *when = next_order(&bucket, rate, now);
        /* Without this a record from the future would be empty for ever. */
        rv = bucket.changed ? save(&bucket, cache, key, rate, pool) : APR_SUCCESS;
        rv = rv == APR_SUCCESS ? APR_EAGAIN : rv;
        goto leave;
    }
    bucket.level -= ONE;
    rv = save(&bucket, cache, key, rate, pool);
leave:
    cache_unlock(lock);
    return rv;
}

void manager_budget_return(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                           apr_time_t now, const base_stop_t *stop, apr_pool_t *pool)
{
    const char *key = apr_pstrcat(pool, KEY_PREFIX, ca_id, NULL);
    cache_lock_t *lock = NULL;
    bucket_t bucket;

    if (is_unlimited(rate) || wait_for_lock(&lock, cache, key, stop) != APR_SUCCESS) {
        return;
    }
    if (load(&bucket, cache, key, rate, now, pool) == APR_SUCCESS) {
        bucket.level += ONE;
        fill(&bucket, rate, now);       /* to cut it at the capacity */
        save(&bucket, cache, key, rate, pool);
    }
    cache_unlock(lock);
}

/* --- Names on demand --- */

#define DEMAND "+demand"
#define SHARES 3

/* A bucket of its own, with its rate. */
typedef struct share_t {
    const char *id;
    manager_budget_rate_t rate;
} share_t;

static manager_budget_rate_t part_of(const manager_budget_rate_t *rate, int divisor)
{
    manager_budget_rate_t part = *rate;

    part.orders = rate->orders / divisor > 0 ? rate->orders / divisor : 1;
    return part;
}

/* A record's key has at most 255 bytes: an owner that is too long for it is known by its hash. */
static const char *owner_of(const char *name, apr_pool_t *pool)
{
    const char *owner = base_hostname_owner(name);

    return strlen(owner) <= OWNER_MAX ? owner : apr_psprintf(pool, "%08x", base_hostname_hash(owner));
}

/* The narrowest first: it is the one that is most likely empty. */
static void make_shares(share_t shares[SHARES], const char *ca_id, const manager_budget_rate_t *rate,
                        const char *name, apr_pool_t *pool)
{
    shares[0].id = apr_pstrcat(pool, ca_id, DEMAND "+", owner_of(name, pool), NULL);
    shares[0].rate = part_of(rate, 4);
    shares[1].id = apr_pstrcat(pool, ca_id, DEMAND, NULL);
    shares[1].rate = part_of(rate, 2);
    shares[2].id = ca_id;
    shares[2].rate = *rate;
}

apr_status_t manager_budget_take_demand(cache_t *cache, const char *ca_id,
                                        const manager_budget_rate_t *rate, const char *name, apr_time_t now,
                                        apr_time_t *when, int *everybody, const base_stop_t *stop,
                                        apr_pool_t *pool)
{
    share_t shares[SHARES];
    apr_status_t result = APR_SUCCESS;
    int taken[SHARES] = { 0 }, i;

    *when = 0;
    *everybody = 0;
    if (is_unlimited(rate)) {
        return base_stop_is_raised(stop) ? APR_EINTR : APR_SUCCESS;
    }
    make_shares(shares, ca_id, rate, name, pool);
    /* All of them, also when the first is empty: the latest moment counts. */
    for (i = 0; i < SHARES && (result == APR_SUCCESS || result == APR_EAGAIN); i++) {
        apr_time_t at = 0;
        apr_status_t rv = manager_budget_take(cache, shares[i].id, &shares[i].rate, now, &at, stop, pool);

        taken[i] = rv == APR_SUCCESS;
        if (rv == APR_EAGAIN && at > *when) {
            *when = at;
        }
        *everybody = *everybody || (rv == APR_EAGAIN && i == SHARES - 1);
        result = rv == APR_SUCCESS ? result : rv;
    }
    for (i = 0; i < SHARES && result != APR_SUCCESS; i++) {
        if (taken[i]) {
            manager_budget_return(cache, shares[i].id, &shares[i].rate, now, stop, pool);
        }
    }
    return result;
}

void manager_budget_return_demand(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                                  const char *name, apr_time_t now, const base_stop_t *stop,
                                  apr_pool_t *pool)
{
    share_t shares[SHARES];
    int i;

    if (is_unlimited(rate)) {
        return;
    }
    make_shares(shares, ca_id, rate, name, pool);
    for (i = 0; i < SHARES; i++) {
        manager_budget_return(cache, shares[i].id, &shares[i].rate, now, stop, pool);
    }
}

/* --- Tidying --- */

typedef struct owners_t {
    const char *prefix;
    apr_array_header_t *keys;       /* of const char * */
    apr_pool_t *pool;
} owners_t;

static apr_status_t note_owner(void *baton, const char *key)
{
    owners_t *owners = baton;

    if (strncmp(key, owners->prefix, strlen(owners->prefix)) == 0) {
        APR_ARRAY_PUSH(owners->keys, const char *) = apr_pstrdup(owners->pool, key);
    }
    return APR_SUCCESS;
}

static void tidy_one(cache_t *cache, const char *key, const manager_budget_rate_t *rate, apr_time_t now,
                     const base_stop_t *stop, apr_pool_t *pool)
{
    cache_lock_t *lock = NULL;
    bucket_t bucket;

    if (wait_for_lock(&lock, cache, key, stop) != APR_SUCCESS) {
        return;
    }
    if (load(&bucket, cache, key, rate, now, pool) == APR_SUCCESS && !bucket.changed
        && bucket.level >= capacity_of(rate)) {
        cache_remove(cache, AUTOCERT_CACHE_PRIVATE, key, pool);
    }
    cache_unlock(lock);
}

void manager_budget_tidy(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                         apr_time_t now, const base_stop_t *stop, apr_pool_t *pool)
{
    manager_budget_rate_t share = part_of(rate, 4);
    owners_t owners;
    apr_pool_t *scratch = NULL;
    int i;

    if (is_unlimited(rate)) {
        return;
    }
    owners.prefix = apr_pstrcat(pool, KEY_PREFIX, ca_id, DEMAND "+", NULL);
    owners.keys = apr_array_make(pool, 16, sizeof(const char *));
    owners.pool = pool;
    if (cache_list(cache, AUTOCERT_CACHE_PRIVATE, note_owner, &owners, pool) != APR_SUCCESS
        || apr_pool_create(&scratch, pool) != APR_SUCCESS) {
        return;
    }
    for (i = 0; i < owners.keys->nelts && !base_stop_is_raised(stop); i++) {
        tidy_one(cache, APR_ARRAY_IDX(owners.keys, i, const char *), &share, now, stop, scratch);
        apr_pool_clear(scratch);
    }
    apr_pool_destroy(scratch);
}
