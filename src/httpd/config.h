/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/config.h
 * What the configuration says. Written while httpd reads its configuration and in
 * check_config (one thread, the parent), read only ever after. Everything lives in pconf.
 */
#ifndef HTTPD_CONFIG_H
#define HTTPD_CONFIG_H

#include <httpd.h>
#include <http_config.h>

#include "challenge/dns_command.h"
#include "challenge/resolver.h"
#include "manager/ca.h"
#include "manager/policy.h"
#include "mod_autocert.h"
#include "shared/clients.h"

#define HTTPD_CONFIG_WAIT_DEFAULT apr_time_from_sec(10)
#define HTTPD_CONFIG_RETIRE_DEFAULT apr_time_from_sec(30 * 24 * 3600)

extern module AP_MODULE_DECLARE_DATA autocert_module;

/** A switch that may not have been set. */
typedef enum { HTTPD_CONFIG_UNSET = -1, HTTPD_CONFIG_OFF, HTTPD_CONFIG_ON } httpd_config_flag_t;

typedef enum {
    HTTPD_CONFIG_REDIRECT_UNSET = -1,
    HTTPD_CONFIG_REDIRECT_OFF,
    HTTPD_CONFIG_REDIRECT_TEMPORARY,
    HTTPD_CONFIG_REDIRECT_PERMANENT
} httpd_config_redirect_t;

typedef enum {
    HTTPD_CONFIG_FALLBACK_UNSET = -1,
    HTTPD_CONFIG_FALLBACK_ALERT,
    HTTPD_CONFIG_FALLBACK_PLACEHOLDER
} httpd_config_fallback_t;

/** Where a line stands, for messages. */
typedef struct httpd_config_place_t {
    const char *file;
    int line;
} httpd_config_place_t;

/** One AutocertDNSCommand line. */
typedef struct httpd_config_dns_t {
    challenge_dns_command_t command;    /* its secret is read at start, as root */
    apr_interval_time_t wait;           /* for a new record, before the CA is asked */
} httpd_config_dns_t;

/** One server record's part. */
typedef struct httpd_config_t {
    /* as written in this server */
    httpd_config_flag_t engine;
    httpd_config_flag_t base_engine;    /* of the main server, known after the merge */
    int listed;                         /* AutocertDomain stands here, with or without names */
    httpd_config_place_t place;         /* of the first AutocertDomain */
    apr_array_header_t *domains;        /* const char *, identifiers (base/identifier.h) */
    apr_array_header_t *challenges;     /* const challenge_kind_t *, NULL: unset */
    httpd_config_place_t challenges_place;
    httpd_config_dns_t *dns;            /* AutocertDNSCommand, NULL: unset */
    crypto_key_type_t key_types[MANAGER_POLICY_KINDS];
    int kinds;                          /* how many of them, 0: unset */
    apr_array_header_t *rules;          /* manager_policy_rule_t, of AutocertHostPolicy; NULL: unset */
    int own_rules;                      /* such lines stand here */
    int any;                            /* one of them is "any" */
    const char *unbounded;              /* pattern that allows any number of names, NULL: none */
    httpd_config_place_t rules_place;   /* of the last of them */
    apr_interval_time_t retire;
    int retire_set;
    apr_interval_time_t wait;
    int wait_most;                      /* how many may wait over all children, 0: a quarter */
    int wait_set;
    apr_array_header_t *extensions;     /* crypto_csr_extension_t, NULL: unset */
    manager_policy_renewal_t renewal;
    int renewal_set;
    httpd_config_redirect_t redirect;
    httpd_config_fallback_t fallback;
    const char *default_host;           /* A-label, "none", NULL: unset */
    httpd_config_place_t default_host_place;
    /* found out by check_config */
    int managed;
    apr_array_header_t *names;          /* const char *, the names of this vhost with a certificate */
    challenge_dns_t dns_settings;       /* what settings.dns points to, when DNS is used */
    manager_policy_settings_t settings;
    manager_policy_vhost_t vhost;       /* with rules: id is not 0 */
    const char *no_sni;                 /* name for clients without SNI, NULL: none */
    /* found out by mod_ssl's hooks */
    int has_placeholder;                /* no certificate files of its own */
} httpd_config_t;

/** One AutocertCA line. Its first member is what the other rooms see. */
typedef struct httpd_config_ca_t {
    manager_ca_config_t ca;
    int is_public;                      /* one of the built-in CAs */
    int needs_eab;                      /* such a one that makes no account without a binding ... */
    int needs_email;                    /* ... or without a contact */
    const char *account_file;           /* secrets, read at start as root; NULL: none */
    const char *eab_file;
    httpd_config_place_t place;
} httpd_config_ca_t;

/** What there is once for the whole server. */
typedef struct httpd_config_global_t {
    apr_array_header_t *cas;            /* of httpd_config_ca_t *, preferred first; never empty once
                                         * check_config has run */
    int tos_any;                        /* AutocertAcceptTOS on */
    apr_array_header_t *tos_urls;       /* of const char * */
    const char *email;
    int tos_set;
    const char *cache_kind;
    const char *cache_argument;
    const autocert_cache_provider_t *cache_provider;    /* NULL when the kind is unknown */
    httpd_config_place_t cache_place;
    apr_size_t memory;                  /* bytes */
    challenge_resolver_config_t resolver;   /* AutocertDNSResolver */
    manager_policy_t *policy;           /* made by check_config */
    int has_addresses;                  /* some of its names are IP addresses */
    int vhosts;                         /* managed ones */
    apr_array_header_t *listener_ports; /* apr_port_t, of AutocertListener lines */
    apr_array_header_t *files;          /* manager_host_file_t *, of AutocertHostPolicy file lines */
    shared_clients_limit_t client_limit;    /* orders 0: none */
    apr_array_header_t *client_except;  /* apr_ipsubnet_t * */
    int client_limit_set;
} httpd_config_global_t;

/** Begin a new configuration: all defaults. pre_config. */
void httpd_config_begin(apr_pool_t *pconf);

/** The global part; valid from pre_config on. */
httpd_config_global_t *httpd_config_global(void);

/** A server's part. */
httpd_config_t *httpd_config_of(const server_rec *s);

/** create_server_config and merge_server_config of the module record. */
void *httpd_config_create(apr_pool_t *pool, server_rec *s);
void *httpd_config_merge(apr_pool_t *pool, void *base, void *add);

/** Who httpd's children are: User, or without such a line whoever starts httpd. */
void httpd_config_user(autocert_cache_user_t *user);

/** Settings with the defaults put in. */
httpd_config_redirect_t httpd_config_redirect(const server_rec *s);
httpd_config_fallback_t httpd_config_fallback(const server_rec *s);

#endif
