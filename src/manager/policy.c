/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/policy.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "base/hostname.h"
#include "challenge/challenge.h"
#include "crypto/csr.h"

#define RSA_SUFFIX "+rsa"
#define DAY apr_time_from_sec(24 * 3600)
#define SHORT_LIFETIME (10 * DAY)   /* below it half of the lifetime is left for renewal */
#define BEFORE_MAX (30 * DAY)       /* of the default */
#define FLOOR_DIVISOR 10            /* no renewal within the first tenth */
#define SPREAD_DIVISOR 50           /* 2 % */
#define SPREAD_STEPS 1024           /* different moments, by the hash of the name */

struct manager_policy_t {
    apr_pool_t *pool;
    apr_array_header_t *names;      /* of manager_policy_name_t * */
    apr_hash_t *by_name;
};

manager_policy_t *manager_policy_create(apr_pool_t *pool)
{
    manager_policy_t *policy = apr_palloc(pool, sizeof(*policy));

    policy->pool = pool;
    policy->names = apr_array_make(pool, 16, sizeof(manager_policy_name_t *));
    policy->by_name = apr_hash_make(pool);
    return policy;
}

void manager_policy_add(manager_policy_t *policy, const char *name,
                        const manager_policy_settings_t *settings, int alias)
{
    manager_policy_name_t *entry = apr_hash_get(policy->by_name, name, APR_HASH_KEY_STRING);

    if (entry) {
        entry->alias = entry->alias && alias;
        return;
    }
    entry = apr_palloc(policy->pool, sizeof(*entry));
    entry->name = name;
    entry->settings = settings;
    entry->alias = alias != 0;
    apr_hash_set(policy->by_name, name, APR_HASH_KEY_STRING, entry);
    APR_ARRAY_PUSH(policy->names, manager_policy_name_t *) = entry;
}

const manager_policy_name_t *manager_policy_find(const manager_policy_t *policy, const char *name)
{
    return apr_hash_get(policy->by_name, name, APR_HASH_KEY_STRING);
}

const apr_array_header_t *manager_policy_names(const manager_policy_t *policy)
{
    return policy->names;
}

static int count_of(const apr_array_header_t *array)
{
    return array ? array->nelts : 0;
}

static int challenges_equal(const apr_array_header_t *a, const apr_array_header_t *b)
{
    if (count_of(a) != count_of(b)) {
        return 0;
    }
    for (int i = 0; i < count_of(a); i++) {
        if (strcmp(APR_ARRAY_IDX(a, i, const challenge_kind_t *)->type,
                   APR_ARRAY_IDX(b, i, const challenge_kind_t *)->type) != 0) {
            return 0;
        }
    }
    return 1;
}

static int extensions_equal(const apr_array_header_t *a, const apr_array_header_t *b)
{
    if (count_of(a) != count_of(b)) {
        return 0;
    }
    for (int i = 0; i < count_of(a); i++) {
        const crypto_csr_extension_t *x = &APR_ARRAY_IDX(a, i, crypto_csr_extension_t);
        const crypto_csr_extension_t *y = &APR_ARRAY_IDX(b, i, crypto_csr_extension_t);

        if (strcmp(x->oid, y->oid) != 0 || !x->critical != !y->critical || x->len != y->len
            || (x->len > 0 && memcmp(x->value, y->value, x->len) != 0)) {
            return 0;
        }
    }
    return 1;
}

static int renewals_equal(const manager_policy_renewal_t *a, const manager_policy_renewal_t *b)
{
    if (a->before > 0 || b->before > 0) {
        return a->before == b->before;
    }
    return a->percent == b->percent || (a->percent <= 0 && b->percent <= 0);
}

int manager_policy_settings_equal(const manager_policy_settings_t *a,
                                  const manager_policy_settings_t *b)
{
    return a == b
        || (a->key_type == b->key_type && renewals_equal(&a->renewal, &b->renewal)
            && challenges_equal(a->challenges, b->challenges)
            && extensions_equal(a->extensions, b->extensions));
}

const char *manager_policy_cache_key(const manager_policy_name_t *name, apr_pool_t *pool)
{
    return apr_pstrcat(pool, name->name,
                       crypto_key_type_is_rsa(name->settings->key_type) ? RSA_SUFFIX : "", NULL);
}

/* How long before its end a certificate of this lifetime is renewed. */
static apr_interval_time_t time_before(const manager_policy_renewal_t *renewal,
                                       apr_interval_time_t lifetime)
{
    apr_interval_time_t before;

    if (renewal->before > 0) {
        return renewal->before < lifetime ? renewal->before : lifetime;
    }
    if (renewal->percent > 0) {
        return renewal->percent < 100 ? lifetime / 100 * renewal->percent : lifetime;
    }
    before = lifetime < SHORT_LIFETIME ? lifetime / 2 : lifetime / 3;
    return before < BEFORE_MAX ? before : BEFORE_MAX;
}

apr_time_t manager_policy_renew_at(const manager_policy_name_t *name, apr_time_t not_before,
                                   apr_time_t not_after)
{
    apr_interval_time_t lifetime = not_after - not_before;
    apr_time_t at, first;
    apr_interval_time_t spread;

    if (lifetime <= 0) {
        return not_before;
    }
    /* Never 0, so it is before the moment that another program computes from the same rule
     * without a spread. */
    spread = lifetime / SPREAD_DIVISOR / SPREAD_STEPS
        * (base_hostname_hash(name->name) % SPREAD_STEPS + 1);
    at = not_after - time_before(&name->settings->renewal, lifetime);
    /* The floor leaves room for the spread: names that meet it must not meet each other. */
    first = not_before + lifetime / FLOOR_DIVISOR + lifetime / SPREAD_DIVISOR;
    return (at > first ? at : first) - spread;
}
