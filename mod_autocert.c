/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file mod_autocert.c
 * The module record, the hook table with the reason for each place in it, and what happens at
 * start-up and in a new child, step by step.
 */
#include <httpd.h>
#include <ap_mmn.h>
#include <ap_mpm.h>
#include <ap_provider.h>
#include <apr_network_io.h>
#include <apr_portable.h>
#include <ap_listen.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <mod_ssl_openssl.h>
#include <mpm_common.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <apr_optional_hooks.h>

#include "base/log.h"
#include "cache/dir.h"
#include "httpd/cas.h"
#include "httpd/check.h"
#include "httpd/config.h"
#include "httpd/directives.h"
#include "httpd/dns.h"
#include "httpd/placeholder.h"
#include "httpd/requests.h"
#include "httpd/runtime.h"
#include "httpd/tls.h"
#include "httpd/watchdog.h"

#ifndef AUTOCERT_VERSION
#define AUTOCERT_VERSION "0.0.0-dev"
#endif

#define KEEPALIVE_IDLE_SECONDS 180      /* Go's listener: 3 minutes */

/* The seam of base/log.h: everything goes to the main error log. */
static void write_log(void *baton, int level, const char *line)
{
    ap_log_error(APLOG_MARK, level, 0, (server_rec *)baton, "%s", line);
}

static int is_first_pass(void)
{
    return ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG;
}

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    (void)plog;
    (void)ptemp;
    /* 1. All settings at their defaults. */
    httpd_config_begin(pconf);
    /* 2. Placeholders of the last pass are kept for this one. */
    httpd_placeholder_begin(pconf);
    /* 3. The election's mutex, so that the Mutex directive knows it. */
    httpd_watchdog_register_mutex(pconf);
    return OK;
}

/* Listeners with keep-alive hand it to accepted sockets; the system's two hours are too long for
 * clients that vanish. Only what AutocertListener opens is ours to change. */
static void shorten_keepalive(void)
{
#ifdef TCP_KEEPIDLE
    const apr_array_header_t *ports = httpd_config_global()->listener_ports;
    ap_listen_rec *lr;
    int idle = KEEPALIVE_IDLE_SECONDS, i;
    apr_os_sock_t fd;

    for (lr = ap_listeners; lr != NULL; lr = lr->next)
        for (i = 0; i < ports->nelts; i++)
            if (lr->sd != NULL && lr->bind_addr->port == APR_ARRAY_IDX(ports, i, apr_port_t)
                && apr_os_sock_get(&fd, lr->sd) == APR_SUCCESS)
                setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
#endif
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    if (is_first_pass() || httpd_config_global()->vhosts == 0)
        return OK;
    base_log_set(write_log, s);
    ap_add_version_component(pconf, "mod_autocert/" AUTOCERT_VERSION);
    /* 1. Secrets, while this is still root. */
    httpd_cas_read_secrets(pconf, ptemp, s);
    httpd_dns_read_secrets(pconf, ptemp, s);
    /* 2. Shared memory, wake pipe, the place of the cache. */
    httpd_runtime_prepare(pconf, ptemp, s);
    /* 3. Managed vhosts agree to acme-tls/1. */
    httpd_tls_offer_protocol(pconf, s);
    /* 4. The election. */
    httpd_watchdog_prepare(pconf, s);
    /* 5. Keep-alive of AutocertListener. */
    shorten_keepalive();
    return OK;
}

static int post_config_last(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    (void)s;
    httpd_placeholder_remove_files();
    return OK;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    if (httpd_config_global()->vhosts == 0)
        return;
    /* 1. The cache and this child's table of certificates. */
    httpd_runtime_open(pchild, s);
    /* 2. Take part in the election; the watchdog's thread starts right after this. */
    httpd_watchdog_child_init(pchild, s);
}

static void register_hooks(apr_pool_t *pool)
{
    static const char *const watchdog[] = { "mod_watchdog.c", NULL };
    static const char *const ssl[] = { "mod_ssl.c", NULL };
    static const char *const http2[] = { "mod_http2.c", NULL };
    static const char *const setenvif[] = { "mod_setenvif.c", NULL };

    ap_register_provider(pool, AUTOCERT_CACHE_PROVIDER_GROUP, CACHE_DIR_KIND,
                         AUTOCERT_CACHE_PROVIDER_VERSION, &cache_dir_provider);

    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(httpd_check_config, NULL, NULL, APR_HOOK_LAST);
    /* Before mod_watchdog's: it starts only what is registered by then. */
    ap_hook_post_config(post_config, NULL, watchdog, APR_HOOK_LAST);
    /* After mod_ssl's, which reads the placeholder files. */
    ap_hook_post_config(post_config_last, ssl, NULL, APR_HOOK_REALLY_LAST);
    /* Before mod_watchdog's: its threads call us at once. */
    ap_hook_child_init(child_init, NULL, watchdog, APR_HOOK_FIRST);
#if AP_MODULE_MAGIC_AT_LEAST(20120211, 110)
    ap_hook_child_stopping(httpd_watchdog_child_stopping, NULL, NULL, APR_HOOK_MIDDLE);
#endif

    /* Optional hooks: mod_ssl may be loaded after this module, or not at all. */
    APR_OPTIONAL_HOOK(ssl, add_cert_files, httpd_tls_add_cert_files, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, init_server, httpd_tls_init_server, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, pre_handshake, httpd_tls_pre_handshake, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ssl, init_stapling_status, httpd_tls_init_stapling, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_optional_fn_retrieve(httpd_requests_retrieve, NULL, NULL, APR_HOOK_MIDDLE);

    ap_hook_protocol_propose(httpd_tls_protocol_propose, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_protocol_switch(httpd_tls_protocol_switch, NULL, NULL, APR_HOOK_MIDDLE);
    /* After mod_ssl has done the handshake, before anybody speaks HTTP. */
    ap_hook_process_connection(httpd_tls_process_connection, ssl, http2, APR_HOOK_MIDDLE);

    /* First of all: no password, proxy, redirect or other ACME client may come before it. */
    ap_hook_post_read_request(httpd_requests_answer_challenge, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_read_request(httpd_requests_explain_placeholder, NULL, NULL, APR_HOOK_FIRST);
    /* After mod_setenvif: autocert-no-redirect may be set by it. */
    ap_hook_post_read_request(httpd_requests_redirect, setenvif, NULL, APR_HOOK_LAST);
}

AP_DECLARE_MODULE(autocert) = {
    STANDARD20_MODULE_STUFF,
    NULL,                       /* create per-dir config */
    NULL,                       /* merge per-dir config */
    httpd_config_create,
    httpd_config_merge,
    httpd_directives_table,
    register_hooks,
    AP_MODULE_FLAG_NONE
};
