/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/policy.h
 * Which names get a certificate, and how: made from the configuration once, then
 * only read. Any thread; nothing blocks.
 */
#ifndef MANAGER_POLICY_H
#define MANAGER_POLICY_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "crypto/key.h"

/** When a certificate is renewed (AutocertRenewBefore). */
typedef struct manager_policy_renewal_t {
    apr_interval_time_t before;     /* this long before the end, when > 0 */
    int percent;                    /* else this share of the lifetime, when > 0; else the
                                       default */
} manager_policy_renewal_t;

/** What the names of one vhost have in common; borrowed from the configuration. */
typedef struct manager_policy_settings_t {
    const apr_array_header_t *challenges;   /* of const challenge_kind_t *, preferred first */
    crypto_key_type_t key_type;
    const apr_array_header_t *extensions;   /* of crypto_csr_extension_t, NULL: none */
    manager_policy_renewal_t renewal;
} manager_policy_settings_t;

/** One name. */
typedef struct manager_policy_name_t {
    const char *name;               /* A-label */
    const manager_policy_settings_t *settings;
    int alias;                      /* not the ServerName of its vhost: obtained after those
                                       that are */
} manager_policy_name_t;

typedef struct manager_policy_t manager_policy_t;

/** Make an empty one. */
manager_policy_t *manager_policy_create(apr_pool_t *pool);

/** Add a name; strings and settings must live as long as the policy. A name
 * that is there already keeps its settings; it stops being an alias when added as none. */
void manager_policy_add(manager_policy_t *policy, const char *name,
                        const manager_policy_settings_t *settings, int alias);

/** Find a name or NULL. Lock-free; for handshakes too. */
const manager_policy_name_t *manager_policy_find(const manager_policy_t *policy, const char *name);

/** All names in the order they were added: of manager_policy_name_t *. */
const apr_array_header_t *manager_policy_names(const manager_policy_t *policy);

/** Non-zero when two settings mean the same for a name. */
int manager_policy_settings_equal(const manager_policy_settings_t *a,
                                  const manager_policy_settings_t *b);

/** The cache key of a name's certificate: the name, "+rsa" behind it for RSA keys. In the pool. */
const char *manager_policy_cache_key(const manager_policy_name_t *name, apr_pool_t *pool);

/**
 * When to renew: the configured share or time before the end, else a third of
 * the lifetime (half below 10 days), at most 30 days; never before a tenth of
 * the lifetime has passed (so a setting longer than the lifetime cannot make a
 * loop). Moved earlier by up to 2 % of the lifetime, by the hash of the name, so that names
 * obtained together are not renewed together.
 */
apr_time_t manager_policy_renew_at(const manager_policy_name_t *name, apr_time_t not_before,
                                   apr_time_t not_after);

#endif
