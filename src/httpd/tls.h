/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file httpd/tls.h
 * The handshake (RFC 8446, RFC 5246) through mod_ssl's hooks. Everything called for a connection
 * runs on the thread that does its handshake; nothing waits, nothing touches the network.
 */
#ifndef HTTPD_TLS_H
#define HTTPD_TLS_H

#include <httpd.h>
#include <mod_ssl_openssl.h>

/** ssl_add_cert_files: a placeholder for a managed vhost without files of its own. Both passes. */
int httpd_tls_add_cert_files(server_rec *s, apr_pool_t *p, apr_array_header_t *cert_files,
                             apr_array_header_t *key_files);

/** ssl_init_server: our callbacks in the vhost's SSL_CTX. Both passes. */
int httpd_tls_init_server(server_rec *s, apr_pool_t *p, int is_proxy, SSL_CTX *ctx);

/** ssl_pre_handshake: notice what the ClientHello offers. */
int httpd_tls_pre_handshake(conn_rec *c, SSL *ssl, int is_proxy);

/** ssl_init_stapling_status: nothing is stapled for a placeholder, and that is no error. */
int httpd_tls_init_stapling(server_rec *s, apr_pool_t *p, X509 *cert, X509 *issuer);

/** post_config: let each managed vhost agree to acme-tls/1. */
void httpd_tls_offer_protocol(apr_pool_t *pconf, server_rec *main_server);

/** protocol_propose, protocol_switch: acme-tls/1, only for who offers nothing else. */
int httpd_tls_protocol_propose(conn_rec *c, request_rec *r, server_rec *s,
                               const apr_array_header_t *offers, apr_array_header_t *proposals);
int httpd_tls_protocol_switch(conn_rec *c, request_rec *r, server_rec *s, const char *protocol);

/** process_connection, after mod_ssl's: no HTTP on a connection that got a challenge
 * certificate; the right SSL_SERVER_* variables on a resumed session. */
int httpd_tls_process_connection(conn_rec *c);

/** Non-zero when the client of this connection (or of the connection an HTTP/2 stream belongs
 * to) was shown a placeholder. @param name set to the name it asked for, may be NULL */
int httpd_tls_is_placeholder(const conn_rec *c, const char **name);

#endif
