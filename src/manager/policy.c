/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "manager/policy.h"

#include <string.h>

#include <apr_hash.h>
#include <apr_strings.h>

#include "challenge/dns_command.h"
#include "challenge/resolver.h"
#include "crypto/csr.h"

#define RSA_SUFFIX "+rsa"
#define FNV_BASIS 14695981039346656037ULL   /* FNV-1a with 64 bits */
#define FNV_PRIME 1099511628211ULL
#define DAY apr_time_from_sec(24 * 3600)
#define SHORT_LIFETIME (10 * DAY)   /* below it half of the lifetime is left for renewal */
#define BEFORE_MAX (30 * DAY)       /* of the default */
#define FLOOR_DIVISOR 10            /* no renewal within the first tenth */
#define SPREAD_DIVISOR 100          /* 1 %, half of the width of Let's Encrypt's windows */
#define SPREAD_LEAST_DIVISOR 1000   /* 0.1 %: more than Go's jitter of an hour for 90 days */
#define SPREAD_STEPS 1024           /* different moments, by the hash of the name */

struct manager_policy_t {
    apr_pool_t *pool;
    apr_array_header_t *names;      /* of manager_policy_name_t * */
    apr_hash_t *by_name;
    int wildcards;                  /* of the names, how many are such */
    apr_array_header_t *vhosts;     /* of const manager_policy_vhost_t * */
};

manager_policy_t *manager_policy_create(apr_pool_t *pool)
{
    manager_policy_t *policy = apr_palloc(pool, sizeof(*policy));

    policy->pool = pool;
    policy->names = apr_array_make(pool, 16, sizeof(manager_policy_name_t *));
    policy->by_name = apr_hash_make(pool);
    policy->wildcards = 0;
    policy->vhosts = apr_array_make(pool, 4, sizeof(const manager_policy_vhost_t *));
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
    entry = apr_pcalloc(policy->pool, sizeof(*entry));
    entry->name = name;
    entry->settings = settings;
    entry->alias = alias != 0;
    apr_hash_set(policy->by_name, name, APR_HASH_KEY_STRING, entry);
    policy->wildcards += base_identifier_kind(name) == BASE_IDENTIFIER_WILDCARD;
    APR_ARRAY_PUSH(policy->names, manager_policy_name_t *) = entry;
}

const manager_policy_name_t *manager_policy_find(const manager_policy_t *policy, const char *name)
{
    return apr_hash_get(policy->by_name, name, APR_HASH_KEY_STRING);
}

const manager_policy_name_t *manager_policy_find_wildcard(const manager_policy_t *policy, const char *name)
{
    char wildcard[BASE_HOSTNAME_SIZE];

    if (policy->wildcards == 0 || !base_identifier_wildcard_of(wildcard, name)) {
        return NULL;
    }
    return manager_policy_find(policy, wildcard);
}

const apr_array_header_t *manager_policy_names(const manager_policy_t *policy)
{
    return policy->names;
}

void manager_policy_add_vhost(manager_policy_t *policy, const manager_policy_vhost_t *vhost)
{
    APR_ARRAY_PUSH(policy->vhosts, const manager_policy_vhost_t *) = vhost;
}

const apr_array_header_t *manager_policy_vhosts(const manager_policy_t *policy)
{
    return policy->vhosts;
}

const manager_policy_vhost_t *manager_policy_find_vhost(const manager_policy_t *policy, apr_uint32_t id)
{
    for (int i = 0; i < policy->vhosts->nelts; i++) {
        const manager_policy_vhost_t *vhost = APR_ARRAY_IDX(policy->vhosts, i,
                                                            const manager_policy_vhost_t *);

        if (vhost->id == id) {
            return vhost;
        }
    }
    return NULL;
}

/* --- Names that no line lists --- */

/* What no rule is asked about: wildcards and addresses are listed, or nobody's. */
static int is_hopeless(const manager_policy_vhost_t *vhost, const char *name)
{
    return base_identifier_kind(name) != BASE_IDENTIFIER_DNS || base_hostname_is_made_up(name)
        || (vhost->public_ca && base_hostname_special_use(name) != NULL);
}

static const manager_policy_rule_t *rule_of(const manager_policy_vhost_t *vhost, int i)
{
    return &APR_ARRAY_IDX(vhost->rules, i, manager_policy_rule_t);
}

static manager_policy_verdict_t judge_rule(const manager_policy_rule_t *rule, const char *name)
{
    if (rule->ask) {
        return MANAGER_POLICY_ASK;
    }
    if (rule->file) {
        return manager_host_file_allows(rule->file, name) ? MANAGER_POLICY_YES : MANAGER_POLICY_NO;
    }
    return rule->judge(rule->baton, name);
}

manager_policy_verdict_t manager_policy_judge(const manager_policy_vhost_t *vhost, const char *name)
{
    manager_policy_verdict_t verdict = MANAGER_POLICY_NO;

    if (is_hopeless(vhost, name)) {
        return MANAGER_POLICY_NO;
    }
    for (int i = 0; i < vhost->rules->nelts; i++) {
        switch (judge_rule(rule_of(vhost, i), name)) {
        case MANAGER_POLICY_YES:
            return MANAGER_POLICY_YES;
        case MANAGER_POLICY_NEVER:
            return verdict;
        case MANAGER_POLICY_ASK:
            verdict = MANAGER_POLICY_ASK;
            break;
        default:
            break;
        }
    }
    return verdict;
}

/* Which kind of the settings has such a key; -1 when none has. */
static int find_kind(const manager_policy_settings_t *settings, int rsa)
{
    for (int i = 0; i < settings->kinds; i++) {
        if (!crypto_key_type_is_rsa(settings->key_types[i]) == !rsa) {
            return i;
        }
    }
    return -1;
}

int manager_policy_adopt(const manager_policy_t *policy, const char *name, int rsa,
                         manager_policy_name_t *out)
{
    const manager_policy_name_t *listed = manager_policy_find(policy, name);
    manager_policy_verdict_t best = MANAGER_POLICY_NO;

    memset(out, 0, sizeof(*out));
    if (listed) {
        *out = *listed;
        out->kind = find_kind(listed->settings, rsa);
        return out->kind >= 0;
    }
    for (int i = 0; i < policy->vhosts->nelts && best != MANAGER_POLICY_YES; i++) {
        const manager_policy_vhost_t *vhost = APR_ARRAY_IDX(policy->vhosts, i,
                                                            const manager_policy_vhost_t *);
        manager_policy_verdict_t verdict = manager_policy_judge(vhost, name);
        int kind = find_kind(vhost->settings, rsa);

        if (verdict == MANAGER_POLICY_NO || kind < 0 || verdict == best) {
            continue;
        }
        best = verdict;
        out->name = name;
        out->settings = vhost->settings;
        out->kind = kind;
        out->vhost = vhost;
    }
    return best != MANAGER_POLICY_NO;
}

/* One rule in full. @return YES, NEVER, NO; *trouble is set when an endpoint gave no answer */
static manager_policy_verdict_t confirm_rule(const manager_policy_rule_t *rule, const char *name,
                                             manager_ask_t *ask, const char *client, apr_time_t *until,
                                             int *trouble, apr_pool_t *pool, base_error_t *err)
{
    apr_time_t holds = 0;

    if (rule->file) {
        return manager_host_file_lists(rule->file, name, pool) ? MANAGER_POLICY_YES : MANAGER_POLICY_NO;
    }
    if (!rule->ask) {
        return rule->judge(rule->baton, name);
    }
    switch (manager_ask(ask, rule->ask, name, client, &holds, pool, err)) {
    case MANAGER_ASK_YES:
        return MANAGER_POLICY_YES;
    case MANAGER_ASK_TROUBLE:
        *trouble = 1;
        break;
    default:
        break;
    }
    /* A refusal holds no longer than each of the answers that it is made of. */
    if (holds < *until) {
        *until = holds;
    }
    return MANAGER_POLICY_NO;
}

apr_status_t manager_policy_confirm(const manager_policy_name_t *name, manager_ask_t *ask,
                                    const char *client, apr_time_t now, apr_time_t *until,
                                    apr_pool_t *pool, base_error_t *err)
{
    const manager_policy_vhost_t *vhost = name->vhost;
    int trouble = 0;

    *until = now + MANAGER_ASK_NO_KEPT;
    if (!vhost) {
        return APR_SUCCESS;
    }
    base_error_clear(err);
    for (int i = 0; !is_hopeless(vhost, name->name) && i < vhost->rules->nelts; i++) {
        manager_policy_verdict_t verdict = confirm_rule(rule_of(vhost, i), name->name, ask, client, until,
                                                        &trouble, pool, err);

        if (verdict == MANAGER_POLICY_YES) {
            base_error_clear(err);
            return APR_SUCCESS;
        }
        if (err->kind == BASE_ERROR_CANCELLED) {
            return err->status;
        }
        if (verdict == MANAGER_POLICY_NEVER) {
            break;
        }
    }
    if (trouble && err->kind != BASE_ERROR_NONE) {
        return err->status;
    }
    return base_error_set(err, BASE_ERROR_REFUSED, APR_EACCES, "no AutocertHostPolicy line allows it");
}

int manager_policy_is_on_demand(const manager_policy_name_t *name)
{
    return name->vhost != NULL || name->kind > 0;
}

crypto_key_type_t manager_policy_key_type(const manager_policy_name_t *name)
{
    return name->settings->key_types[name->kind];
}

/* --- Settings --- */

int manager_policy_challenges(const manager_policy_name_t *name, const challenge_kind_t *kinds[], int max)
{
    const apr_array_header_t *wanted = name->settings->challenges;
    base_identifier_kind_t identifier = base_identifier_kind(name->name);
    int n = 0;

    for (int i = 0; i < wanted->nelts && n < max; i++) {
        const challenge_kind_t *kind = APR_ARRAY_IDX(wanted, i, const challenge_kind_t *);

        if (kind->proves & identifier) {
            kinds[n++] = kind;
        }
    }
    return n;
}

int manager_policy_uses_dns(const manager_policy_name_t *name)
{
    const challenge_kind_t *kinds[MANAGER_POLICY_CHALLENGES_MAX];
    int n = manager_policy_challenges(name, kinds, MANAGER_POLICY_CHALLENGES_MAX);

    for (int i = 0; i < n; i++) {
        if (kinds[i]->uses_dns) {
            return 1;
        }
    }
    return 0;
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

static int texts_equal(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static int commands_equal(const challenge_dns_command_t *a, const challenge_dns_command_t *b)
{
    int i;

    if (!a || !b) {
        return a == b;
    }
    for (i = 0; a->argv[i] && texts_equal(a->argv[i], b->argv[i]); i++)
        ;
    return !a->argv[i] && !b->argv[i] && texts_equal(a->secret_file, b->secret_file)
        && a->timeout == b->timeout;
}

/* The resolver is one for the whole server. */
static int dns_equal(const challenge_dns_t *a, const challenge_dns_t *b)
{
    return a == b || (a && b && a->wait == b->wait && commands_equal(a->command, b->command));
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

static int key_types_equal(const manager_policy_settings_t *a, const manager_policy_settings_t *b)
{
    return a->kinds == b->kinds
        && memcmp(a->key_types, b->key_types, (size_t)a->kinds * sizeof(a->key_types[0])) == 0;
}

int manager_policy_settings_equal(const manager_policy_settings_t *a,
                                  const manager_policy_settings_t *b)
{
    return a == b
        || (key_types_equal(a, b) && renewals_equal(&a->renewal, &b->renewal) && a->retire == b->retire
            && challenges_equal(a->challenges, b->challenges) && dns_equal(a->dns, b->dns)
            && extensions_equal(a->extensions, b->extensions));
}

static apr_uint64_t mix_bytes(apr_uint64_t hash, const void *data, apr_size_t len)
{
    const unsigned char *bytes = data;

    for (apr_size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * FNV_PRIME;
    }
    return hash;
}

/* The NUL counts, so two texts are not one longer; a byte before tells NULL from "". */
static apr_uint64_t mix_text(apr_uint64_t hash, const char *text)
{
    hash = mix_bytes(hash, text ? "+" : "-", 1);
    return text ? mix_bytes(hash, text, strlen(text) + 1) : hash;
}

/* Numbers as text: the same on every machine that shares the cache. */
static apr_uint64_t mix_number(apr_uint64_t hash, apr_size_t number)
{
    char text[24];

    apr_snprintf(text, sizeof(text), "%" APR_SIZE_T_FMT, number);
    return mix_text(hash, text);
}

/* What a change of may make a failure good. */
static apr_uint64_t mix_command(apr_uint64_t hash, const challenge_dns_command_t *command)
{
    for (int i = 0; command && command->argv[i]; i++) {
        hash = mix_text(hash, command->argv[i]);
    }
    return hash;
}

static apr_uint64_t mix_settings(apr_uint64_t hash, const manager_policy_settings_t *settings)
{
    hash = mix_number(hash, (apr_size_t)count_of(settings->challenges));
    for (int i = 0; i < count_of(settings->challenges); i++) {
        hash = mix_text(hash, APR_ARRAY_IDX(settings->challenges, i, const challenge_kind_t *)->type);
    }
    hash = mix_command(hash, settings->dns ? settings->dns->command : NULL);
    hash = mix_number(hash, (apr_size_t)settings->kinds);
    for (int i = 0; i < settings->kinds; i++) {
        hash = mix_text(hash, crypto_key_type_name(settings->key_types[i]));
    }
    hash = mix_number(hash, (apr_size_t)count_of(settings->extensions));
    for (int i = 0; i < count_of(settings->extensions); i++) {
        const crypto_csr_extension_t *x = &APR_ARRAY_IDX(settings->extensions, i, crypto_csr_extension_t);

        hash = mix_text(hash, x->oid);
        hash = mix_number(hash, x->critical != 0);
        hash = mix_number(hash, x->len);
        hash = mix_bytes(hash, x->value, x->len);
    }
    return hash;
}

apr_uint64_t manager_policy_fingerprint(const manager_policy_settings_t *settings,
                                        const apr_array_header_t *cas)
{
    apr_uint64_t hash = mix_settings(FNV_BASIS, settings);

    for (int i = 0; i < cas->nelts; i++) {
        const acme_client_config_t *ca = &APR_ARRAY_IDX(cas, i, const manager_ca_config_t *)->acme;

        hash = mix_text(hash, ca->directory_url);
        hash = mix_text(hash, ca->profile);
        hash = mix_text(hash, ca->eab_kid);
        hash = mix_text(hash, ca->eab_key);
        hash = mix_number(hash, ca->account_pem != NULL);
    }
    return hash != 0 ? hash : 1;
}

const char *manager_policy_cache_key(const manager_policy_name_t *name,
                                     char key[MANAGER_POLICY_CACHE_KEY_SIZE])
{
    char stem[BASE_IDENTIFIER_STEM_SIZE];

    apr_snprintf(key, MANAGER_POLICY_CACHE_KEY_SIZE, "%s%s", base_identifier_stem(stem, name->name),
                 crypto_key_type_is_rsa(manager_policy_key_type(name)) ? RSA_SUFFIX : "");
    return key;
}

int manager_policy_parse_cache_key(const char *key, char name[BASE_HOSTNAME_SIZE], int *rsa)
{
    const size_t suffix = sizeof(RSA_SUFFIX) - 1;
    size_t len = strlen(key);

    *rsa = len > suffix && strcmp(key + len - suffix, RSA_SUFFIX) == 0;
    return base_identifier_from_stem(name, key, *rsa ? len - suffix : len) != NULL;
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
    apr_interval_time_t least = lifetime / SPREAD_LEAST_DIVISOR, spread;
    apr_time_t at, first;

    if (lifetime <= 0) {
        return not_before;
    }
    /* Never 0, so it is before the moment that another program computes from the same rule
     * without a spread, or with an hour of it. */
    spread = least + (lifetime / SPREAD_DIVISOR - least) / SPREAD_STEPS
        * (base_hostname_hash(name->name) % SPREAD_STEPS);
    at = not_after - time_before(&name->settings->renewal, lifetime);
    /* The floor leaves room for the spread: names that meet it must not meet each other. */
    first = not_before + lifetime / FLOOR_DIVISOR + lifetime / SPREAD_DIVISOR;
    return (at > first ? at : first) - spread;
}
