/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "client.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#define STEP_SECONDS 60     /* longest wait for one answer; a name on demand takes its time */

double client_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int client_open(client_t *client, const char *port, int version, const char *cafile)
{
    long number = strtol(port, NULL, 10);

    memset(client, 0, sizeof(*client));
    if (number < 1 || number > 65535) {
        fprintf(stderr, "no such port: %s\n", port);
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    client->address.sin_family = AF_INET;
    client->address.sin_port = htons((unsigned short)number);
    client->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->ctx = SSL_CTX_new(TLS_client_method());
    if (client->ctx == NULL || !SSL_CTX_set_min_proto_version(client->ctx, version ? version : TLS1_2_VERSION)
        || !SSL_CTX_set_max_proto_version(client->ctx, version)
        || !SSL_CTX_load_verify_locations(client->ctx, cafile, NULL)) {
        ERR_print_errors_fp(stderr);
        client_close(client);
        return 0;
    }
    SSL_CTX_set_verify(client->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(client->ctx, SSL_SESS_CACHE_OFF);
    return 1;
}

void client_close(client_t *client)
{
    SSL_CTX_free(client->ctx);
    client->ctx = NULL;
}

static int open_socket(const client_t *client)
{
    struct timeval limit = {.tv_sec = STEP_SECONDS};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(fd, (const struct sockaddr *)&client->address, sizeof(client->address)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void note_serial(SSL *ssl, client_seen_t *seen)
{
    X509 *cert = SSL_get_peer_certificate(ssl);
    BIGNUM *number = cert ? ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL) : NULL;
    char *text = number ? BN_bn2hex(number) : NULL;

    if (text)
        snprintf(seen->serial, sizeof(seen->serial), "%s", text);
    OPENSSL_free(text);
    BN_free(number);
    X509_free(cert);
}

/* OpenSSL makes an error out of each alert it receives. */
static int received_alert(void)
{
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_REASON(error);

    if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET
        && reason < SSL_AD_REASON_OFFSET + 256)
        return reason - SSL_AD_REASON_OFFSET;
    return -1;
}

/* The server is done with a connection when it has closed it: only then is all of its work for it
 * counted, and a client that reads to the end never resets it. */
int client_shake(const client_t *client, const char *name, client_seen_t *seen)
{
    double start = client_now();
    char bytes[256];
    int fd = open_socket(client);
    SSL *ssl = NULL;
    int done = 0;

    memset(seen, 0, sizeof(*seen));
    seen->alert = -1;
    if (fd < 0)
        goto end;
    ssl = SSL_new(client->ctx);
    if (ssl == NULL || !SSL_set_fd(ssl, fd) || !SSL_set_tlsext_host_name(ssl, name)
        || !SSL_set1_host(ssl, name) || SSL_connect(ssl) != 1 || SSL_session_reused(ssl)) {
        seen->seconds = client_now() - start;
        seen->alert = received_alert();
        goto end;
    }
    seen->seconds = client_now() - start;
    note_serial(ssl, seen);
    SSL_shutdown(ssl);
    while (SSL_read(ssl, bytes, sizeof(bytes)) > 0)
        continue;
    ERR_clear_error();
    done = 1;
end:
    SSL_free(ssl);
    if (fd >= 0)
        close(fd);
    return done;
}
