/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/config.h"

#include <string.h>
#include <unistd.h>

#include <apr_strings.h>
#include <unixd.h>

#include "cache/dir.h"

#ifndef AUTOCERT_CACHE_DIR
#define AUTOCERT_CACHE_DIR "/var/lib/apache2/autocert"
#endif

#define MEMORY_DEFAULT (128 * 1024 * 1024)
#define CLIENT_ORDERS 20
#define CLIENT_PERIOD apr_time_from_sec(3600)

/* The module is loaded anew for each configuration, so this always belongs to the current one. */
static httpd_config_global_t *current;

void httpd_config_begin(apr_pool_t *pconf)
{
    current = apr_pcalloc(pconf, sizeof(*current));
    current->cas = apr_array_make(pconf, 1, sizeof(httpd_config_ca_t *));
    current->tos_urls = apr_array_make(pconf, 2, sizeof(const char *));
    current->cache_kind = CACHE_DIR_KIND;
    current->cache_argument = AUTOCERT_CACHE_DIR;
    current->cache_provider = &cache_dir_provider;
    current->memory = MEMORY_DEFAULT;
    current->policy = manager_policy_create(pconf);
    current->listener_ports = apr_array_make(pconf, 1, sizeof(apr_port_t));
    current->files = apr_array_make(pconf, 1, sizeof(manager_host_file_t *));
    current->client_limit.orders = CLIENT_ORDERS;
    current->client_limit.period = CLIENT_PERIOD;
    current->client_except = apr_array_make(pconf, 1, sizeof(apr_ipsubnet_t *));
}

httpd_config_global_t *httpd_config_global(void)
{
    return current;
}

httpd_config_t *httpd_config_of(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &autocert_module);
}

void *httpd_config_create(apr_pool_t *pool, server_rec *s)
{
    httpd_config_t *config = apr_pcalloc(pool, sizeof(*config));

    (void)s;
    config->engine = config->base_engine = HTTPD_CONFIG_UNSET;
    config->domains = apr_array_make(pool, 2, sizeof(const char *));
    config->names = apr_array_make(pool, 2, sizeof(const char *));
    config->redirect = HTTPD_CONFIG_REDIRECT_UNSET;
    config->fallback = HTTPD_CONFIG_FALLBACK_UNSET;
    return config;
}

void *httpd_config_merge(apr_pool_t *pool, void *base_config, void *add_config)
{
    const httpd_config_t *base = base_config, *add = add_config;
    httpd_config_t *config = apr_pmemdup(pool, add, sizeof(*add));

    /* Which names stand here, and whether, is never inherited. */
    config->base_engine = base->engine;
    if (config->challenges == NULL) {
        config->challenges = base->challenges;
        config->challenges_place = base->challenges_place;
    }
    if (config->dns == NULL)
        config->dns = base->dns;
    if (config->kinds == 0) {
        memcpy(config->key_types, base->key_types, sizeof(config->key_types));
        config->kinds = base->kinds;
    }
    if (config->rules == NULL) {
        config->rules = base->rules;
        config->any = base->any;
        config->unbounded = base->unbounded;
        config->rules_place = base->rules_place;
    }
    if (!config->retire_set) {
        config->retire = base->retire;
        config->retire_set = base->retire_set;
    }
    if (!config->wait_set) {
        config->wait = base->wait;
        config->wait_most = base->wait_most;
        config->wait_set = base->wait_set;
    }
    if (config->extensions == NULL)
        config->extensions = base->extensions;
    if (!config->renewal_set) {
        config->renewal = base->renewal;
        config->renewal_set = base->renewal_set;
    }
    if (config->redirect == HTTPD_CONFIG_REDIRECT_UNSET)
        config->redirect = base->redirect;
    if (config->fallback == HTTPD_CONFIG_FALLBACK_UNSET)
        config->fallback = base->fallback;
    if (config->default_host == NULL) {
        config->default_host = base->default_host;
        config->default_host_place = base->default_host_place;
    }
    return config;
}

void httpd_config_user(autocert_cache_user_t *user)
{
    user->is_root = geteuid() == 0;
    user->uid = ap_unixd_config.user_id;
    user->gid = ap_unixd_config.group_id;
    /* httpd's "#-1": no line has set it. */
    if (user->uid == (uid_t)-1)
        user->uid = geteuid();
    if (user->gid == (gid_t)-1)
        user->gid = getegid();
}

httpd_config_redirect_t httpd_config_redirect(const server_rec *s)
{
    httpd_config_redirect_t redirect = httpd_config_of(s)->redirect;

    return redirect == HTTPD_CONFIG_REDIRECT_UNSET ? HTTPD_CONFIG_REDIRECT_OFF : redirect;
}

httpd_config_fallback_t httpd_config_fallback(const server_rec *s)
{
    httpd_config_fallback_t fallback = httpd_config_of(s)->fallback;

    return fallback == HTTPD_CONFIG_FALLBACK_UNSET ? HTTPD_CONFIG_FALLBACK_ALERT : fallback;
}
