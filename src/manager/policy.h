/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file manager/policy.h
 * Which names get a certificate, and how: made from the configuration once, then only read. Names
 * that the configuration lists are found in a table; names that a vhost's AutocertHostPolicy lines may
 * allow are judged in two parts: a cheap one for handshakes, which never blocks, and the full one
 * before anything is ordered. Any thread; nothing blocks but manager_policy_confirm().
 */
#ifndef MANAGER_POLICY_H
#define MANAGER_POLICY_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>

#include "base/error.h"
#include "base/identifier.h"
#include "challenge/challenge.h"
#include "crypto/key.h"
#include "manager/ask.h"
#include "manager/ca.h"
#include "manager/host_file.h"

#define MANAGER_POLICY_CHALLENGES_MAX 8     /* kinds of challenge for one name */
#define MANAGER_POLICY_KINDS 2          /* kinds of key that one name can have */

/** When a certificate is renewed (AutocertRenewBefore). */
typedef struct manager_policy_renewal_t {
    apr_interval_time_t before;     /* this long before the end, when > 0 */
    int percent;                    /* else this share of the lifetime, when > 0; else the
                                       default */
} manager_policy_renewal_t;

/** What the names of one vhost have in common; borrowed from the configuration. */
typedef struct manager_policy_settings_t {
    const apr_array_header_t *challenges;   /* of const challenge_kind_t *, preferred first */
    const challenge_dns_t *dns;             /* for the kinds among them that use DNS; NULL: none does */
    crypto_key_type_t key_types[MANAGER_POLICY_KINDS];  /* the usual one, then the one for clients
                                               that cannot use it */
    int kinds;                              /* how many of them there are: 1 or 2 */
    const apr_array_header_t *extensions;   /* of crypto_csr_extension_t, NULL: none */
    manager_policy_renewal_t renewal;
    apr_interval_time_t retire;             /* what nobody visited for so long is not renewed */
} manager_policy_settings_t;

/** What a question about a name comes to. */
typedef enum {
    MANAGER_POLICY_NO,              /* not this one; of a rule: no opinion */
    MANAGER_POLICY_YES,
    MANAGER_POLICY_ASK,             /* an endpoint may allow it */
    MANAGER_POLICY_NEVER            /* of a rule: no, whatever comes after it says; never of judge() */
} manager_policy_verdict_t;

/** One AutocertHostPolicy line, or another module's hook. */
typedef struct manager_policy_rule_t {
    manager_policy_verdict_t (*judge)(void *baton, const char *name);  /* quick, any thread; NULL for
                                               file and ask */
    void *baton;
    const manager_host_file_t *file;        /* NULL: none */
    const manager_ask_endpoint_t *ask;      /* NULL: none */
} manager_policy_rule_t;

/** A vhost whose names need not be listed; borrowed from the configuration. */
typedef struct manager_policy_vhost_t {
    apr_uint32_t id;                /* tells it from others, over restarts too; never 0 */
    const manager_policy_settings_t *settings;
    const apr_array_header_t *rules;        /* of manager_policy_rule_t, in their order */
    int public_ca;                  /* names under special-use suffixes cannot be had */
} manager_policy_vhost_t;

/** One name and kind of key: what has one certificate. A plain value: handshakes make theirs. */
typedef struct manager_policy_name_t {
    const char *name;               /* identifier, see base/identifier.h */
    const manager_policy_settings_t *settings;
    int kind;                       /* which of the settings' key types */
    int alias;                      /* not the ServerName of its vhost: obtained after those
                                       that are */
    const manager_policy_vhost_t *vhost;    /* whose rules allow it; NULL: it is listed */
} manager_policy_name_t;

typedef struct manager_policy_t manager_policy_t;

/** Make an empty one. */
manager_policy_t *manager_policy_create(apr_pool_t *pool);

/** Add a name; strings and settings must live as long as the policy. A name
 * that is there already keeps its settings; it stops being an alias when added as none. */
void manager_policy_add(manager_policy_t *policy, const char *name,
                        const manager_policy_settings_t *settings, int alias);

/** Find a listed name (of the first kind) or NULL. Lock-free; for handshakes too. */
const manager_policy_name_t *manager_policy_find(const manager_policy_t *policy, const char *name);

/** Find the listed wildcard that covers a DNS name, or NULL. Lock-free; for handshakes too. */
const manager_policy_name_t *manager_policy_find_wildcard(const manager_policy_t *policy, const char *name);

/** All listed names in the order they were added: of manager_policy_name_t *. */
const apr_array_header_t *manager_policy_names(const manager_policy_t *policy);

/** Add a vhost with rules; it must live as long as the policy. */
void manager_policy_add_vhost(manager_policy_t *policy, const manager_policy_vhost_t *vhost);

/** The vhosts with rules, in the order they were added: of const manager_policy_vhost_t *. */
const apr_array_header_t *manager_policy_vhosts(const manager_policy_t *policy);

/** Find one by its id or NULL. */
const manager_policy_vhost_t *manager_policy_find_vhost(const manager_policy_t *policy, apr_uint32_t id);

/**
 * The cheap part, for handshakes: what the vhost's rules say of a name that nobody lists. Names that no CA
 * would issue for, or that look made up, are NO before any rule is asked. YES of a file is as good as
 * shared/names.h. The first yes wins.
 * @param name as base_hostname_from_client() makes it
 */
manager_policy_verdict_t manager_policy_judge(const manager_policy_vhost_t *vhost, const char *name);

/**
 * The vhost and kind of key that a certificate found in the cache belongs to.
 * @param rsa it has an RSA key
 * @param out filled in (out->name = name) when somebody allows it or an endpoint may; a listed name too
 * @return non-zero when it was
 */
int manager_policy_adopt(const manager_policy_t *policy, const char *name, int rsa,
                         manager_policy_name_t *out);

/**
 * The full check of a name that no line lists, before it is ordered: files are read, endpoints are
 * asked. Blocks; worker threads of the elected child.
 * @param client text of the address that caused it, "" unknown
 * @param until set to the moment up to which a refusal holds
 * @return APR_SUCCESS: somebody allows it; else err (kind REFUSED, or CANCELLED) says who did not
 */
apr_status_t manager_policy_confirm(const manager_policy_name_t *name, manager_ask_t *ask,
                                    const char *client, apr_time_t now, apr_time_t *until,
                                    apr_pool_t *pool, base_error_t *err);

/** Non-zero for what is obtained only because a client came, and renewed only while clients come: names
 * that are not listed, and second kinds of key. */
int manager_policy_is_on_demand(const manager_policy_name_t *name);

/** The type of its key. */
crypto_key_type_t manager_policy_key_type(const manager_policy_name_t *name);

/** What tells one configuration of names from another, over restarts: kinds of challenges, types of keys,
 * extensions and the CAs (directory, profile, account binding, own account key or not), not the time of
 * renewal.
 * @param cas of const manager_ca_config_t *, in order
 * @return never 0 */
apr_uint64_t manager_policy_fingerprint(const manager_policy_settings_t *settings,
                                        const apr_array_header_t *cas);

/** The first kinds of challenge of a name that can prove it, at most max, preferred first.
 * @return how many */
int manager_policy_challenges(const manager_policy_name_t *name, const challenge_kind_t *kinds[], int max);

/** Non-zero when one of them uses DNS: its order may take minutes without anybody being at fault. */
int manager_policy_uses_dns(const manager_policy_name_t *name);

/** Non-zero when two settings mean the same for a name. */
int manager_policy_settings_equal(const manager_policy_settings_t *a,
                                  const manager_policy_settings_t *b);

#define MANAGER_POLICY_CACHE_KEY_SIZE (BASE_IDENTIFIER_STEM_SIZE + 4)

/** The cache key of a name's certificate: its stem (base/identifier.h), "+rsa" behind it for RSA keys.
 * @return key */
const char *manager_policy_cache_key(const manager_policy_name_t *name,
                                     char key[MANAGER_POLICY_CACHE_KEY_SIZE]);

/** The other way round: is this the cache key of a certificate? Then its name and kind. @return non-zero */
int manager_policy_parse_cache_key(const char *key, char name[BASE_HOSTNAME_SIZE], int *rsa);

/**
 * When to renew: the configured share or time before the end, else a third of
 * the lifetime (half below 10 days), at most 30 days; never before a tenth of
 * the lifetime has passed (so a setting longer than the lifetime cannot make a
 * loop). Moved earlier by 0.1 to 1 % of the lifetime, by the hash of the name, so that names
 * obtained together are not renewed together. By default that is before the moment of Go's autocert, and
 * within the window that Let's Encrypt suggests (1 % of the lifetime around the same third or half).
 */
apr_time_t manager_policy_renew_at(const manager_policy_name_t *name, apr_time_t not_before,
                                   apr_time_t not_after);

#endif
