/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "httpd/tls.h"

#include <string.h>

#include <apr_strings.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <http_protocol.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/identifier.h"
#include "challenge/tlsalpn01.h"
#include "crypto/bundle.h"
#include "crypto/peer.h"
#include "httpd/certificates.h"
#include "httpd/config.h"
#include "httpd/demand.h"
#include "httpd/placeholder.h"
#include "httpd/runtime.h"

APLOG_USE_MODULE(autocert);

/** What we know of a connection; hangs on conn_rec. */
typedef struct connection_t {
    SSL *ssl;                   /* a reference: mod_ssl frees its own when it gives a client up */
    int challenge_asked;        /* the ClientHello offers acme-tls/1 and nothing else */
    int challenge_served;       /* it was given the challenge certificate: no HTTP for it */
    int placeholder;            /* it was given the placeholder */
    int looked_at;              /* process_connection has done its part */
    int waited;                 /* the handshake waited for a certificate once */
    const char *name;           /* asked for, for the page that explains the placeholder */
} connection_t;

/** Whom a handshake is for. */
typedef struct target_t {
    manager_policy_verdict_t verdict;   /* NO: the name is not to have a certificate; ASK: if an endpoint
                                           says so */
    manager_policy_name_t name;         /* unless NO */
    const char *spelled;                /* what a certificate has to cover, unless NO */
    char buffer[BASE_HOSTNAME_SIZE];
    char wildcard[BASE_HOSTNAME_SIZE];  /* above it */
} target_t;

static connection_t *get_connection(const conn_rec *c)
{
    return c ? ap_get_module_config(c->conn_config, &autocert_module) : NULL;
}

/* --- Start-up ----------------------------------------------------------------- */

/* A vhost for names on demand may list none; mod_ssl wants the ServerName in its certificate. */
static const apr_array_header_t *placeholder_names(const server_rec *s, const httpd_config_t *config,
                                                   apr_pool_t *pool)
{
    apr_array_header_t *names;
    const char *name;

    if (config->names->nelts > 0)
        return config->names;
    names = apr_array_make(pool, 1, sizeof(const char *));
    if (s->server_hostname == NULL || base_hostname_from_config(&name, s->server_hostname, pool) != NULL)
        name = "placeholder.invalid";
    APR_ARRAY_PUSH(names, const char *) = name;
    return names;
}

int httpd_tls_add_cert_files(server_rec *s, apr_pool_t *p, apr_array_header_t *cert_files,
                             apr_array_header_t *key_files)
{
    httpd_config_t *config = httpd_config_of(s);
    const char *path;

    config->has_placeholder = 0;
    if (!config->managed || cert_files->nelts > 0)
        return DECLINED;
    path = httpd_placeholder_file(s, placeholder_names(s, config, p), s->process->pconf);
    if (path == NULL)
        return DECLINED;
    APR_ARRAY_PUSH(cert_files, const char *) = path;
    APR_ARRAY_PUSH(key_files, const char *) = path;
    config->has_placeholder = 1;
    return OK;
}

int httpd_tls_init_stapling(server_rec *s, apr_pool_t *p, X509 *cert, X509 *issuer)
{
    const httpd_config_t *config = httpd_config_of(s);

    (void)p;
    (void)cert;
    (void)issuer;
    return config->managed && config->has_placeholder ? OK : DECLINED;
}

/* Vhosts share the main server's list of protocols until they have one of their own. The
 * name goes last: names before http/1.1 would be announced in Upgrade headers. */
static void add_protocol(apr_pool_t *pconf, server_rec *s)
{
    core_server_config *core = ap_get_core_module_config(s->module_config);
    int i;

    for (i = 0; i < core->protocols->nelts; i++)
        if (strcmp(APR_ARRAY_IDX(core->protocols, i, const char *), CHALLENGE_TLSALPN01_PROTOCOL) == 0)
            return;
    core->protocols = apr_array_copy(pconf, core->protocols);
    if (core->protocols->nelts == 0)
        APR_ARRAY_PUSH(core->protocols, const char *) = AP_PROTOCOL_HTTP1;
    APR_ARRAY_PUSH(core->protocols, const char *) = CHALLENGE_TLSALPN01_PROTOCOL;
}

void httpd_tls_offer_protocol(apr_pool_t *pconf, server_rec *main_server)
{
    server_rec *s;

    for (s = main_server; s != NULL; s = s->next)
        if (httpd_config_of(s)->managed)
            add_protocol(pconf, s);
}

/* --- Which name ----------------------------------------------------------------- */

static int use_listed(target_t *target, const manager_policy_name_t *listed, const char *spelled)
{
    if (listed == NULL)
        return 0;
    target->name = *listed;
    target->spelled = spelled;
    target->verdict = MANAGER_POLICY_YES;
    return 1;
}

/* The address that the client connected to, as one of our names; NULL when none is listed. */
static const manager_policy_name_t *find_local_address(const conn_rec *c, char buffer[BASE_HOSTNAME_SIZE])
{
    const httpd_config_global_t *global = httpd_config_global();
    const apr_sockaddr_t *local = c->local_addr;

    if (!global->has_addresses || local == NULL || (local->ipaddr_len != 4 && local->ipaddr_len != 16))
        return NULL;
    base_identifier_from_address(buffer, local->ipaddr_ptr, local->ipaddr_len);
    return manager_policy_find(global->policy, buffer);
}

/* A client without SNI means the address it reached, else the default host. */
static void find_unnamed(target_t *target, const conn_rec *c, const httpd_config_t *config)
{
    const manager_policy_t *policy = httpd_config_global()->policy;

    if (!use_listed(target, find_local_address(c, target->buffer), target->buffer) && config->no_sni != NULL)
        use_listed(target, manager_policy_find(policy, config->no_sni), config->no_sni);
}

/* A CA that validates an address names it in its reverse form (RFC 8738 section 6). */
static int find_reversed(target_t *target, const connection_t *connection)
{
    char address[BASE_HOSTNAME_SIZE];

    if (connection == NULL || !connection->challenge_asked
        || base_identifier_from_reverse(address, target->buffer) == NULL)
        return 0;
    return use_listed(target, manager_policy_find(httpd_config_global()->policy, address), target->buffer);
}

/* The name a client means. Syntax first, then what is listed, exactly or by a wildcard, then what the vhost's
 * rules say; nothing here costs more than looks at memory. */
static void find_target(target_t *target, const SSL *ssl, const server_rec *s)
{
    const manager_policy_t *policy = httpd_config_global()->policy;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    const httpd_config_t *config = httpd_config_of(s);
    const conn_rec *c = SSL_get_app_data(ssl);

    memset(&target->name, 0, sizeof(target->name));
    target->verdict = MANAGER_POLICY_NO;
    if (sni == NULL) {
        find_unnamed(target, c, config);
        return;
    }
    if (!base_hostname_from_client(target->buffer, sni, strlen(sni))
        || find_reversed(target, get_connection(c))
        || use_listed(target, manager_policy_find(policy, target->buffer), target->buffer)
        || use_listed(target, manager_policy_find_wildcard(policy, target->buffer), target->buffer)
        || config->vhost.id == 0)
        return;
    target->verdict = manager_policy_judge(&config->vhost, target->buffer);
    target->spelled = target->buffer;
    target->name.name = target->buffer;
    target->name.settings = &config->settings;
    target->name.vhost = &config->vhost;
}

/* The wildcard whose certificate serves a name that has none of its own: one that is listed, or, for a name
 * on demand, one that is in the cache. @return zero without one */
static int find_cover(manager_policy_name_t *cover, target_t *target)
{
    const manager_policy_name_t *listed = manager_policy_find_wildcard(httpd_config_global()->policy,
                                                                       target->name.name);

    if (listed != NULL) {
        *cover = *listed;
        return 1;
    }
    *cover = target->name;
    cover->name = base_identifier_wildcard_of(target->wildcard, target->name.name);
    return target->name.vhost != NULL && cover->name != NULL;
}

static int is_covered(target_t *target)
{
    const serve_certs_entry_t *entry = NULL;
    manager_policy_name_t cover;

    if (find_cover(&cover, target))
        entry = httpd_certificates_acquire(&cover, apr_time_now());
    httpd_certificates_release(entry);
    return entry != NULL;
}

/* The only callback that can send unrecognized_name; a failing certificate callback is
 * internal_error. Runs on resumption too. */
static int on_servername(SSL *ssl, int *alert, void *arg)
{
    server_rec *s = arg;
    const httpd_config_t *config = httpd_config_of(s);
    target_t target;

    if (SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    if (!config->has_placeholder || httpd_config_fallback(s) != HTTPD_CONFIG_FALLBACK_ALERT)
        return SSL_TLSEXT_ERR_OK;
    find_target(&target, ssl, s);
    if (target.verdict == MANAGER_POLICY_NO
        || (httpd_certificates_is_refused(&target.name) && !is_covered(&target))) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_OK;
}

/* --- Which certificate ------------------------------------------------------------ */

/* Make a pair the only one. The chain is always a stack: with NULL OpenSSL would look for one in the
 * vhost's client CAs at every handshake. */
static int use_pair(SSL *ssl, X509 *leaf, EVP_PKEY *key, STACK_OF(X509) *chain)
{
    SSL_certs_clear(ssl);
    if (SSL_use_cert_and_key(ssl, leaf, key, chain, 1) == 1)
        return 1;
    ERR_clear_error();
    return 0;
}

/* The vhost's security level can refuse what others take: put the configured pair back. */
static void restore_configured(SSL *ssl)
{
    SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);
    STACK_OF(X509) *chain = NULL;
    X509 *leaf = SSL_CTX_get0_certificate(ctx);
    EVP_PKEY *key = SSL_CTX_get0_privatekey(ctx);

    SSL_CTX_get0_chain_certs(ctx, &chain);
    if (leaf != NULL && key != NULL)
        SSL_use_cert_and_key(ssl, leaf, key, chain, 1);
    ERR_clear_error();
}

static int serve_managed(SSL *ssl, const manager_policy_name_t *name, server_rec *s, apr_time_t now)
{
    const serve_certs_entry_t *entry = httpd_certificates_acquire(name, now);
    int served;

    if (entry == NULL)
        return 0;
    served = use_pair(ssl, entry->bundle->leaf, entry->bundle->key, entry->bundle->chain);
    httpd_certificates_note_visit(name, entry, now);
    if (serve_certs_is_orphaned(entry))
        httpd_demand_restore(name, now);
    httpd_certificates_release(entry);
    if (!served) {
        restore_configured(ssl);
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "AC0320: autocert: %s: this virtual host's SSLCipherSuite "
                     "security level refuses the certificate; allow it, or set another AutocertKeyTypes",
                     name->name);
    }
    return served;
}

/* For the CA's validator only, as the only certificate; its connection ends after the handshake. */
static int serve_challenge(SSL *ssl, conn_rec *c, connection_t *connection,
                           const manager_policy_name_t *name)
{
    cache_t *cache = httpd_runtime()->cache;
    crypto_bundle_t *bundle = NULL;
    int served;

    if (name == NULL || cache == NULL
        || challenge_tlsalpn01_answer(&bundle, cache, name->name, c->pool) != APR_SUCCESS)
        return 0;
    served = use_pair(ssl, bundle->leaf, bundle->key, bundle->chain);
    crypto_bundle_free(bundle);
    if (!served)
        return 0;
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    connection->challenge_served = 1;
    return 1;
}

/* Does the configured pair do for this name now? @param name NULL: it is not ours */
static int static_pair_fits(SSL *ssl, const server_rec *s, const char *name)
{
    X509 *leaf = SSL_get_certificate(ssl);

    if (httpd_config_of(s)->has_placeholder || leaf == NULL)
        return 0;
    /* A name that is not ours gets what mod_ssl would give it. */
    if (name == NULL)
        return 1;
    return crypto_bundle_covers(leaf, name)
           && X509_cmp_current_time(X509_get0_notBefore(leaf)) < 0
           && X509_cmp_current_time(X509_get0_notAfter(leaf)) > 0;
}

static int fall_back(SSL *ssl, server_rec *s, conn_rec *c, connection_t *connection)
{
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (httpd_config_fallback(s) == HTTPD_CONFIG_FALLBACK_ALERT)
        return 0;
    connection->placeholder = 1;
    connection->name = sni ? apr_pstrdup(c->pool, sni) : NULL;
    return 1;
}

/* The first of the name's kinds of key that the client can use; -1 when it can use none: then nothing is
 * obtained for it. */
static int choose_kind(SSL *ssl, const manager_policy_name_t *name)
{
    int kind;

    for (kind = 0; kind < name->settings->kinds; kind++)
        if (crypto_peer_can_use(ssl, name->settings->key_types[kind]))
            return kind;
    return -1;
}

/* The certificate of the name itself, else that of the wildcard above it. */
static int serve_present(SSL *ssl, target_t *target, server_rec *s, apr_time_t now)
{
    manager_policy_name_t cover;

    if (serve_managed(ssl, &target->name, s, now))
        return 1;
    if (!find_cover(&cover, target))
        return 0;
    cover.kind = choose_kind(ssl, &cover);
    return cover.kind >= 0 && serve_managed(ssl, &cover, s, now);
}

/** A look at the certificate while a handshake waits for it. */
typedef struct look_t {
    SSL *ssl;
    target_t *target;
    server_rec *s;
} look_t;

static int look_again(void *baton)
{
    const look_t *look = baton;

    return serve_present(look->ssl, look->target, look->s, apr_time_now());
}

/* There is none: wish for it, and wait, but only once in a handshake. The version was read before it was
 * looked for. */
static int obtain(SSL *ssl, server_rec *s, conn_rec *c, connection_t *connection, target_t *target,
                  apr_uint32_t version)
{
    look_t look = { ssl, target, s };

    if (!httpd_demand_wish(c, &target->name, apr_time_now()) || connection->waited)
        return 0;
    connection->waited = 1;
    return httpd_demand_wait(c, s, &target->name, version, look_again, &look);
}

/* The managed certificate of the kind that the client can use. */
static int serve_target(SSL *ssl, server_rec *s, conn_rec *c, connection_t *connection, target_t *target)
{
    const httpd_runtime_t *runtime = httpd_runtime();
    apr_uint32_t version;
    int kind;

    if (target->verdict == MANAGER_POLICY_NO || runtime->segment == NULL)
        return 0;
    kind = choose_kind(ssl, &target->name);
    if (kind < 0)
        return 0;
    target->name.kind = kind;
    version = shared_versions_get(shared_segment_versions(runtime->segment), target->name.name);
    if (serve_present(ssl, target, s, apr_time_now()))
        return 1;
    return obtain(ssl, s, c, connection, target, version);
}

/* The certificate callback. Called again on a HelloRetryRequest and on TLS 1.2 renegotiation, so it
 * does the same again. @return 1 to go on, 0 for internal_error */
static int on_certificate(SSL *ssl, void *arg)
{
    server_rec *s = arg;
    conn_rec *c = SSL_get_app_data(ssl);
    connection_t *connection = get_connection(c);
    target_t target;

    if (connection == NULL)
        return 1;
    find_target(&target, ssl, s);
    if (connection->challenge_asked)
        return serve_challenge(ssl, c, connection, target.verdict != MANAGER_POLICY_NO ? &target.name : NULL);
    connection->placeholder = 0;
    if (serve_target(ssl, s, c, connection, &target)
        || static_pair_fits(ssl, s, target.verdict != MANAGER_POLICY_NO ? target.spelled : NULL))
        return 1;
    return fall_back(ssl, s, c, connection);
}

int httpd_tls_init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx)
{
    (void)p;
    if (is_proxy || !httpd_config_of(s)->managed)
        return DECLINED;
    SSL_CTX_set_cert_cb(ctx, on_certificate, s);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_servername);
    SSL_CTX_set_tlsext_servername_arg(ctx, s);
    return OK;
}

/* --- The ClientHello ----------------------------------------------------------------- */

/* TLS 1.3 agrees on ALPN before the certificate callback and TLS 1.2 after it, so the offer is
 * read here. Only the first message matters; the callback would cost time for every record. */
static void on_message(int write_p, int version, int content_type, const void *buf, size_t len,
                       SSL *ssl, void *arg)
{
    connection_t *connection = arg;
    const unsigned char *message = buf;

    (void)version;
    if (write_p || content_type != SSL3_RT_HANDSHAKE || len < 1 || message[0] != SSL3_MT_CLIENT_HELLO)
        return;
    connection->challenge_asked = challenge_tlsalpn01_is_asked(message, len);
    SSL_set_msg_callback(ssl, NULL);
    SSL_set_msg_callback_arg(ssl, NULL);
}

static apr_status_t drop_ssl(void *data)
{
    SSL_free(data);
    return APR_SUCCESS;
}

int httpd_tls_pre_handshake(conn_rec *c, SSL *ssl, int is_proxy)
{
    connection_t *connection;

    if (is_proxy || httpd_config_global()->vhosts == 0)
        return DECLINED;
    connection = apr_pcalloc(c->pool, sizeof(*connection));
    if (SSL_up_ref(ssl) != 1)
        return DECLINED;
    connection->ssl = ssl;
    apr_pool_cleanup_register(c->pool, ssl, drop_ssl, apr_pool_cleanup_null);
    ap_set_module_config(c->conn_config, &autocert_module, connection);
    SSL_set_msg_callback(ssl, on_message);
    SSL_set_msg_callback_arg(ssl, connection);
    return OK;
}

/* --- acme-tls/1 (RFC 8737) -------------------------------------------------------------- */

int httpd_tls_protocol_propose(conn_rec *c, request_rec *r, server_rec *s,
                               const apr_array_header_t *offers, apr_array_header_t *proposals)
{
    if (r != NULL || c->master != NULL || !httpd_config_of(s)->managed || offers == NULL
        || offers->nelts != 1
        || strcmp(APR_ARRAY_IDX(offers, 0, const char *), CHALLENGE_TLSALPN01_PROTOCOL) != 0)
        return DECLINED;
    APR_ARRAY_PUSH(proposals, const char *) = CHALLENGE_TLSALPN01_PROTOCOL;
    return OK;
}

int httpd_tls_protocol_switch(conn_rec *c, request_rec *r, server_rec *s, const char *protocol)
{
    (void)c;
    if (r != NULL || strcmp(protocol, CHALLENGE_TLSALPN01_PROTOCOL) != 0
        || !httpd_config_of(s)->managed)
        return DECLINED;
    return OK;
}

/* --- After the handshake ------------------------------------------------------------------ */

/* On a resumed session no certificate callback ran, and mod_ssl would show the placeholder in
 * its variables. Only what is shown is changed; no key is needed for it. */
static void show_managed(connection_t *connection, conn_rec *c)
{
    SSL *ssl = connection->ssl;
    const serve_certs_entry_t *entry = NULL;
    const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    manager_policy_name_t cover;
    target_t target;

    find_target(&target, ssl, c->base_server);
    if (target.verdict != MANAGER_POLICY_NO)
        entry = httpd_certificates_acquire(&target.name, apr_time_now());
    if (entry == NULL && target.verdict != MANAGER_POLICY_NO && find_cover(&cover, &target))
        entry = httpd_certificates_acquire(&cover, apr_time_now());
    if (entry != NULL) {
        SSL_use_certificate(ssl, entry->bundle->leaf);
        ERR_clear_error();
    }
    else if (httpd_config_of(c->base_server)->has_placeholder) {
        connection->placeholder = 1;
        connection->name = sni ? apr_pstrdup(c->pool, sni) : NULL;
    }
    httpd_certificates_release(entry);
}

int httpd_tls_process_connection(conn_rec *c)
{
    connection_t *connection = c->master ? NULL : get_connection(c);

    if (connection == NULL)
        return DECLINED;
    if (connection->challenge_served
        || strcmp(ap_get_protocol(c), CHALLENGE_TLSALPN01_PROTOCOL) == 0) {
        c->keepalive = AP_CONN_CLOSE;
        if (c->cs != NULL)
            c->cs->state = CONN_STATE_LINGER;
        return OK;
    }
    if (!connection->looked_at && SSL_is_init_finished(connection->ssl)) {
        connection->looked_at = 1;
        if (SSL_session_reused(connection->ssl))
            show_managed(connection, c);
    }
    return DECLINED;
}

int httpd_tls_is_placeholder(const conn_rec *c, const char **name)
{
    const connection_t *connection = get_connection(c->master ? c->master : c);

    if (connection == NULL || !connection->placeholder)
        return 0;
    *name = connection->name;
    return 1;
}
