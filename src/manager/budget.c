/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/budget.h"

#include <string.h>

#include <apr_strings.h>
#include <apr_tables.h>

#include "base/hostname.h"
#include "base/json.h"

#define VERSION 1
#define KEY_PREFIX "budget+"
#define KEY_DEMAND "+demand"
#define ONE 1000000                 /* an order, in the unit that the bucket is counted in */
#define ORDERS_MAX 1000000000       /* of a record: more is nonsense */
#define LOCK_STEP apr_time_from_msec(20)

/* A record and its content. */
typedef struct bucket_t {
    const char *key;
    manager_budget_rate_t rate;
    apr_int64_t level;              /* in millionths of an order */
    apr_time_t at;                  /* when that was the level */
    int changed;                    /* differs from what is stored in more than its filling */
} bucket_t;

enum { OF_CA, OF_DEMAND, OF_OWNER, BUCKETS };

/* What an order is paid from: the CA's bucket, whose lock guards the others too, and for
 * on-demand names the shares. */
typedef struct purse_t {
    cache_t *cache;
    const base_stop_t *stop;
    apr_pool_t *pool;
    apr_time_t now;
    int count;                      /* of buckets: one, or all */
    bucket_t bucket[BUCKETS];
} purse_t;

static int is_unlimited(const manager_budget_rate_t *rate)
{
    return rate->orders <= 0 || rate->period <= 0;
}

static apr_int64_t capacity_of(const bucket_t *bucket)
{
    return (apr_int64_t)bucket->rate.orders * ONE;
}

/* Half of what a bucket holds, but at least an order if there is any. */
static manager_budget_rate_t halve(const manager_budget_rate_t *rate)
{
    manager_budget_rate_t half = *rate;

    if (half.orders > 1) {
        half.orders /= 2;
    }
    return half;
}

static const char *demand_key_of(const char *ca_id, apr_pool_t *pool)
{
    return apr_pstrcat(pool, KEY_PREFIX, ca_id, KEY_DEMAND, NULL);
}

/* An owner too long for a key has the key of its hash, which no other owner can be: owners have
 * a dot. */
static const char *owner_key_of(const char *demand_key, const char *owner, apr_pool_t *pool)
{
    const char *key = apr_pstrcat(pool, demand_key, "+", owner, NULL);

    return cache_key_is_valid(key) ? key
        : apr_psprintf(pool, "%s+%08x", demand_key, base_hostname_hash(owner));
}

static void open_purse(purse_t *purse, cache_t *cache, const char *ca_id,
                       const manager_budget_rate_t *rate, apr_time_t now, const base_stop_t *stop,
                       apr_pool_t *pool)
{
    memset(purse, 0, sizeof(*purse));
    purse->cache = cache;
    purse->stop = stop;
    purse->pool = pool;
    purse->now = now;
    purse->count = 1;
    purse->bucket[OF_CA].key = apr_pstrcat(pool, KEY_PREFIX, ca_id, NULL);
    purse->bucket[OF_CA].rate = *rate;
}

static void add_shares(purse_t *purse, const char *ca_id, const char *name)
{
    bucket_t *bucket = purse->bucket;

    bucket[OF_DEMAND].key = demand_key_of(ca_id, purse->pool);
    bucket[OF_DEMAND].rate = halve(&bucket[OF_CA].rate);
    bucket[OF_OWNER].key = owner_key_of(bucket[OF_DEMAND].key, base_hostname_owner(name),
                                        purse->pool);
    bucket[OF_OWNER].rate = halve(&bucket[OF_DEMAND].rate);
    purse->count = BUCKETS;
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
static int read_record(bucket_t *bucket, const json_t *record)
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
    if (orders != bucket->rate.orders) {
        bucket->level = (apr_int64_t)((double)tokens / (double)orders * bucket->rate.orders);
    }
    bucket->at = at;
    return 1;
}

/* Let the bucket run full up to now. */
static void fill(bucket_t *bucket, apr_time_t now)
{
    apr_int64_t capacity = capacity_of(bucket);
    apr_interval_time_t passed = now - bucket->at;

    if (passed > 0) {
        bucket->level = passed >= bucket->rate.period ? capacity
            : bucket->level + (apr_int64_t)((double)capacity * ((double)passed
                                                                / (double)bucket->rate.period));
        bucket->at = now;
    }
    if (bucket->level > capacity) {
        bucket->level = capacity;
    }
}

/* Read the bucket as of now. A record that cannot be understood says that orders were placed,
 * but not how many: then the CA's limit is guarded best by an empty one. */
static apr_status_t load(bucket_t *bucket, cache_t *cache, apr_time_t now, apr_pool_t *pool)
{
    json_t *record;
    char *data = NULL;
    apr_size_t len = 0;
    apr_status_t rv = cache_get(cache, AUTOCERT_CACHE_PRIVATE, bucket->key, &data, &len, pool);

    bucket->level = 0;
    bucket->at = now;
    bucket->changed = 0;
    if (APR_STATUS_IS_NOTFOUND(rv)) {
        bucket->level = capacity_of(bucket);
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    record = base_json_parse_object(data, len, pool);
    if (!record || !read_record(bucket, record)
        || bucket->at > now + MANAGER_BUDGET_SKEW) {
        bucket->level = 0;
        bucket->at = now;
        bucket->changed = 1;
        return APR_SUCCESS;
    }
    fill(bucket, now);
    return APR_SUCCESS;
}

static apr_status_t save(const bucket_t *bucket, cache_t *cache, apr_pool_t *pool)
{
    json_int_t seconds = apr_time_sec(bucket->rate.period);
    json_t *record = json_pack("{s:i, s:i, s:I, s:I, s:I}", "v", VERSION,
                               "orders", bucket->rate.orders,
                               "period", seconds > 0 ? seconds : (json_int_t)1,
                               "tokens", (json_int_t)bucket->level,
                               "at", (json_int_t)bucket->at);
    const char *text = record ? base_json_dump(record, pool) : NULL;

    if (!text) {
        return APR_EGENERAL;
    }
    return cache_put(cache, AUTOCERT_CACHE_PRIVATE, bucket->key, text, strlen(text), pool);
}

/* The moment when a whole order will be there; a little late rather than too early. */
static apr_time_t next_order(const bucket_t *bucket, apr_time_t now)
{
    double missing = (double)(ONE - bucket->level) / (double)capacity_of(bucket);
    apr_time_t when = bucket->at + (apr_interval_time_t)(missing * (double)bucket->rate.period) + 2;

    return when > now ? when : now + 1;
}

static apr_status_t load_all(purse_t *purse)
{
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; i < purse->count && rv == APR_SUCCESS; i++) {
        rv = load(&purse->bucket[i], purse->cache, purse->now, purse->pool);
    }
    return rv;
}

/* One order out of each. The CA's bucket is written last: a crash before it costs a share, which
 * is less than an order that nobody counted. */
static apr_status_t pay(purse_t *purse)
{
    apr_status_t rv = APR_SUCCESS;
    int i;

    for (i = purse->count - 1; i >= 0 && rv == APR_SUCCESS; i--) {
        purse->bucket[i].level -= ONE;
        rv = save(&purse->bucket[i], purse->cache, purse->pool);
    }
    if (rv != APR_SUCCESS) {
        for (i += 2; i < purse->count; i++) {
            purse->bucket[i].level += ONE;
            save(&purse->bucket[i], purse->cache, purse->pool);
        }
    }
    return rv;
}

/* Write down what was read as empty: a record from the future would stay so for ever. */
static apr_status_t save_changed(const purse_t *purse)
{
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; i < purse->count && rv == APR_SUCCESS; i++) {
        if (purse->bucket[i].changed) {
            rv = save(&purse->bucket[i], purse->cache, purse->pool);
        }
    }
    return rv;
}

/* Non-zero when a bucket has no order left. An empty one of the CA is all there is to say: the
 * moment is then for every name, and must not be that of one name's share. */
static int is_short(const purse_t *purse, apr_time_t *when, int *everybody)
{
    apr_time_t latest = 0;

    for (int i = 0; i < purse->count; i++) {
        const bucket_t *bucket = &purse->bucket[i];

        if (bucket->level < ONE) {
            apr_time_t next = next_order(bucket, purse->now);

            latest = next > latest ? next : latest;
            *everybody = i == OF_CA;
            if (*everybody) {
                break;
            }
        }
    }
    if (latest) {
        *when = latest;
    }
    return latest != 0;
}

static apr_status_t take(purse_t *purse, apr_time_t *when, int *everybody)
{
    cache_lock_t *lock = NULL;
    apr_status_t rv;

    if (base_stop_is_raised(purse->stop)) {
        return APR_EINTR;
    }
    if (is_unlimited(&purse->bucket[OF_CA].rate)) {
        return APR_SUCCESS;
    }
    rv = wait_for_lock(&lock, purse->cache, purse->bucket[OF_CA].key, purse->stop);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = load_all(purse);
    if (rv == APR_SUCCESS && is_short(purse, when, everybody)) {
        rv = save_changed(purse);
        rv = rv == APR_SUCCESS ? APR_EAGAIN : rv;
    }
    else if (rv == APR_SUCCESS) {
        rv = pay(purse);
    }
    cache_unlock(lock);
    return rv;
}

static void put_back(purse_t *purse)
{
    cache_lock_t *lock = NULL;

    if (is_unlimited(&purse->bucket[OF_CA].rate)
        || wait_for_lock(&lock, purse->cache, purse->bucket[OF_CA].key, purse->stop)
           != APR_SUCCESS) {
        return;
    }
    for (int i = 0; i < purse->count; i++) {
        bucket_t *bucket = &purse->bucket[i];

        if (load(bucket, purse->cache, purse->now, purse->pool) == APR_SUCCESS) {
            bucket->level += ONE;
            fill(bucket, purse->now);   /* to cut it at the capacity */
            save(bucket, purse->cache, purse->pool);
        }
    }
    cache_unlock(lock);
}

apr_status_t manager_budget_take(cache_t *cache, const char *ca_id,
                                 const manager_budget_rate_t *rate, apr_time_t now,
                                 apr_time_t *when, const base_stop_t *stop, apr_pool_t *pool)
{
    purse_t purse;
    int everybody = 0;

    open_purse(&purse, cache, ca_id, rate, now, stop, pool);
    return take(&purse, when, &everybody);
}

void manager_budget_return(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                           apr_time_t now, const base_stop_t *stop, apr_pool_t *pool)
{
    purse_t purse;

    open_purse(&purse, cache, ca_id, rate, now, stop, pool);
    put_back(&purse);
}

apr_status_t manager_budget_take_demand(cache_t *cache, const char *ca_id,
                                        const manager_budget_rate_t *rate, const char *name,
                                        apr_time_t now, apr_time_t *when, int *everybody,
                                        const base_stop_t *stop, apr_pool_t *pool)
{
    purse_t purse;

    *everybody = 0;
    open_purse(&purse, cache, ca_id, rate, now, stop, pool);
    add_shares(&purse, ca_id, name);
    return take(&purse, when, everybody);
}

void manager_budget_return_demand(cache_t *cache, const char *ca_id,
                                  const manager_budget_rate_t *rate, const char *name,
                                  apr_time_t now, const base_stop_t *stop, apr_pool_t *pool)
{
    purse_t purse;

    open_purse(&purse, cache, ca_id, rate, now, stop, pool);
    add_shares(&purse, ca_id, name);
    put_back(&purse);
}

/* Keys with a prefix, as they are listed. */
typedef struct search_t {
    const char *prefix;
    apr_array_header_t *keys;       /* of const char * */
} search_t;

static apr_status_t collect_key(void *baton, const char *key)
{
    search_t *search = baton;

    if (strncmp(key, search->prefix, strlen(search->prefix)) == 0) {
        APR_ARRAY_PUSH(search->keys, const char *) = apr_pstrdup(search->keys->pool, key);
    }
    return APR_SUCCESS;
}

/* Remove the owner's bucket in the purse if it is full; most are looked at without the lock. One
 * that cannot be understood begins to fill now. */
static apr_status_t tidy(purse_t *purse)
{
    bucket_t *bucket = &purse->bucket[OF_OWNER];
    cache_lock_t *lock = NULL;
    apr_status_t rv = load(bucket, purse->cache, purse->now, purse->pool);

    if (rv != APR_SUCCESS || (bucket->level < capacity_of(bucket) && !bucket->changed)) {
        return APR_SUCCESS;
    }
    rv = wait_for_lock(&lock, purse->cache, purse->bucket[OF_CA].key, purse->stop);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (load(bucket, purse->cache, purse->now, purse->pool) == APR_SUCCESS) {
        if (bucket->level >= capacity_of(bucket)) {
            cache_remove(purse->cache, AUTOCERT_CACHE_PRIVATE, bucket->key, purse->pool);
        }
        else if (bucket->changed) {
            save(bucket, purse->cache, purse->pool);
        }
    }
    cache_unlock(lock);
    return APR_SUCCESS;
}

void manager_budget_tidy(cache_t *cache, const char *ca_id, const manager_budget_rate_t *rate,
                         apr_time_t now, const base_stop_t *stop, apr_pool_t *pool)
{
    manager_budget_rate_t half = halve(rate);
    apr_pool_t *listed = NULL;
    search_t search;
    purse_t purse;

    if (apr_pool_create(&listed, pool) != APR_SUCCESS) {
        return;
    }
    open_purse(&purse, cache, ca_id, rate, now, stop, listed);
    purse.bucket[OF_OWNER].rate = halve(&half);
    search.prefix = apr_pstrcat(listed, demand_key_of(ca_id, listed), "+", NULL);
    search.keys = apr_array_make(listed, 64, sizeof(const char *));
    cache_list(cache, AUTOCERT_CACHE_PRIVATE, collect_key, &search, listed);
    if (apr_pool_create(&purse.pool, listed) == APR_SUCCESS) {
        for (int i = 0; i < search.keys->nelts && !base_stop_is_raised(stop); i++) {
            purse.bucket[OF_OWNER].key = APR_ARRAY_IDX(search.keys, i, const char *);
            if (tidy(&purse) != APR_SUCCESS) {
                break;
            }
            apr_pool_clear(purse.pool);
        }
    }
    apr_pool_destroy(listed);
}
