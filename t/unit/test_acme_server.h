/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file test_acme_server.h
 * An HTTPS or HTTP server on the loopback or a unix socket, for the tests of src/acme and what
 * stands on it: one thread for each connection, HTTP/1.1 with keep-alive, answers made by a
 * handler of the test.
 * Everything is static: each test program has its own copy.
 */
#ifndef TEST_ACME_SERVER_H
#define TEST_ACME_SERVER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "acme/http.h"
#include "crypto/key.h"
#include "run.h"
#include "scratch.h"

#define SERVER_CONNECTIONS_MAX 256
#define SERVER_REQUEST_MAX 65536
#define SERVER_UNUSED __attribute__((unused))

/** As RUN_TESTS(), with libcurl and the pool "root". */
#define SERVER_RUN_TESTS(tests) (acme_http_init(), RUN_TESTS_WITH_POOL(tests, root))

static apr_pool_t *root;

typedef struct server_t server_t;

typedef enum {
    SERVER_TLS,
    SERVER_PLAIN,
    SERVER_UNIX                 /* plain as well */
} server_kind_t;

typedef struct server_request_t {
    server_t *server;
    SSL *ssl;                   /* NULL when plain */
    int fd;
    char method[16];
    char path[256];
    char *headers;              /* all of them, as text */
    char *body;
    int close;                  /* set by the handler: close after the answer */
} server_request_t;

typedef void server_handler_fn(server_request_t *request, void *baton);

struct server_t {
    int fd;
    int port;
    SSL_CTX *ctx;               /* NULL when plain */
    server_handler_fn *handler;
    void *baton;
    char url[64];               /* "https://127.0.0.1:PORT", or as the kind is */
    char dir[SCRATCH_SIZE];
    char cafile[SCRATCH_SIZE + 8];
    char socket[SCRATCH_SIZE + 8];  /* of SERVER_UNIX */
    pthread_t thread;
    pthread_mutex_t mutex;      /* guards what follows */
    int accepts;
    int requests;
    atomic_int stopping;
    pthread_t threads[SERVER_CONNECTIONS_MAX];
    int fds[SERVER_CONNECTIONS_MAX];
};

typedef struct server_connection_t {
    server_t *server;
    int index;
    int fd;
} server_connection_t;

/** Send raw text. */
SERVER_UNUSED static void server_write(server_request_t *request, const char *fmt, ...)
{
    char text[16384];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (request->ssl != NULL) {
        SSL_write(request->ssl, text, n);
    }
    else if (send(request->fd, text, (size_t)n, 0) != n) {
        request->close = 1;
    }
}

/** Send a whole answer; headers are complete lines with CR LF. */
SERVER_UNUSED static void server_reply(server_request_t *request, int status,
                                       const char *headers, const char *body)
{
    server_write(request, "HTTP/1.1 %d Word\r\nContent-Length: %lu\r\n%s\r\n%s", status,
                 (unsigned long)strlen(body), headers,
                 strcmp(request->method, "HEAD") == 0 ? "" : body);
}

/** Say nothing until the client goes away. */
SERVER_UNUSED static void server_hang(server_request_t *request)
{
    struct pollfd p = { request->fd, POLLIN, 0 };

    poll(&p, 1, 20000);
    request->close = 1;
}

static int server_read(server_request_t *request, char *data, size_t size)
{
    return request->ssl != NULL ? SSL_read(request->ssl, data, (int)size)
                                : (int)recv(request->fd, data, size, 0);
}

static int server_read_request(server_request_t *request, char *buffer)
{
    size_t len = 0, need = 0;
    char *end = NULL, *line;

    memset(buffer, 0, SERVER_REQUEST_MAX);
    while (end == NULL || len < need) {
        int n = server_read(request, buffer + len, SERVER_REQUEST_MAX - 1 - len);

        if (n <= 0) {
            return 0;
        }
        len += (size_t)n;
        if (end == NULL && (end = strstr(buffer, "\r\n\r\n")) != NULL) {
            line = strcasestr(buffer, "\r\ncontent-length:");
            need = (size_t)(end + 4 - buffer);
            if (line != NULL && line < end) {
                need += (size_t)strtoul(line + 17, NULL, 10);
            }
        }
    }
    *end = '\0';
    request->body = end + 4;
    request->headers = strstr(buffer, "\r\n");
    request->headers = request->headers != NULL ? request->headers : end;
    request->close = 0;
    return sscanf(buffer, "%15s %255s", request->method, request->path) == 2;
}

static void *server_connection(void *data)
{
    server_connection_t *connection = data;
    server_t *server = connection->server;
    server_request_t request = { 0 };
    char *buffer = malloc(SERVER_REQUEST_MAX);
    SSL *ssl = server->ctx != NULL ? SSL_new(server->ctx) : NULL;

    if (ssl != NULL) {
        SSL_set_fd(ssl, connection->fd);
    }
    request.server = server;
    request.ssl = ssl;
    request.fd = connection->fd;
    if (ssl == NULL || SSL_accept(ssl) == 1) {
        while (!request.close && server_read_request(&request, buffer)) {
            pthread_mutex_lock(&server->mutex);
            server->requests++;
            pthread_mutex_unlock(&server->mutex);
            server->handler(&request, server->baton);
        }
        if (ssl != NULL) {
            SSL_shutdown(ssl);
        }
    }
    SSL_free(ssl);
    free(buffer);
    pthread_mutex_lock(&server->mutex);
    close(connection->fd);
    server->fds[connection->index] = -1;
    pthread_mutex_unlock(&server->mutex);
    free(connection);
    return NULL;
}

static void *server_accept(void *data)
{
    server_t *server = data;
    int fd;

    while ((fd = accept(server->fd, NULL, NULL)) >= 0) {
        server_connection_t *connection = malloc(sizeof(*connection));

        pthread_mutex_lock(&server->mutex);
        if (server->stopping || server->accepts >= SERVER_CONNECTIONS_MAX) {
            pthread_mutex_unlock(&server->mutex);
            free(connection);
            close(fd);
            break;
        }
        connection->server = server;
        connection->index = server->accepts++;
        connection->fd = fd;
        server->fds[connection->index] = fd;
        pthread_create(&server->threads[connection->index], NULL, server_connection, connection);
        pthread_mutex_unlock(&server->mutex);
    }
    return NULL;
}

SERVER_UNUSED static int server_accepts(server_t *server)
{
    int n;

    pthread_mutex_lock(&server->mutex);
    n = server->accepts;
    pthread_mutex_unlock(&server->mutex);
    return n;
}

static void server_certificate(server_t *server)
{
    EVP_PKEY *key = NULL;
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509V3_CTX ctx;
    X509_EXTENSION *san;
    FILE *f = fopen(server->cafile, "w");

    crypto_key_generate(&key, CRYPTO_KEY_P256, NULL);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    san = X509V3_EXT_conf_nid(NULL, &ctx, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost");
    X509_add_ext(cert, san, -1);
    X509_EXTENSION_free(san);
    X509_sign(cert, key, EVP_sha256());
    PEM_write_X509(f, cert);
    fclose(f);
    SSL_CTX_use_certificate(server->ctx, cert);
    SSL_CTX_use_PrivateKey(server->ctx, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void server_listen(server_t *server)
{
    struct sockaddr_in address = { 0 };
    socklen_t len = sizeof(address);

    server->fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(server->fd, (struct sockaddr *)&address, sizeof(address)) != 0
        || listen(server->fd, 64) != 0
        || getsockname(server->fd, (struct sockaddr *)&address, &len) != 0) {
        abort();
    }
    server->port = ntohs(address.sin_port);
    snprintf(server->url, sizeof(server->url), "http%s://127.0.0.1:%d",
             server->ctx != NULL ? "s" : "", server->port);
}

static void server_listen_unix(server_t *server)
{
    struct sockaddr_un address = { 0 };

    snprintf(server->socket, sizeof(server->socket), "%s/socket", server->dir);
    snprintf(server->url, sizeof(server->url), "http://nowhere.invalid");
    server->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    address.sun_family = AF_UNIX;
    if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->socket)
            >= sizeof(address.sun_path)
        || bind(server->fd, (struct sockaddr *)&address, sizeof(address)) != 0
        || listen(server->fd, 64) != 0) {
        abort();
    }
}

SERVER_UNUSED static server_t *server_start_kind(server_kind_t kind, server_handler_fn *handler,
                                                 void *baton)
{
    server_t *server = calloc(1, sizeof(*server));

    signal(SIGPIPE, SIG_IGN);
    if (scratch_make(server->dir) != 0) {
        abort();
    }
    if (kind == SERVER_TLS) {
        snprintf(server->cafile, sizeof(server->cafile), "%s/ca.pem", server->dir);
        server->ctx = SSL_CTX_new(TLS_server_method());
        server_certificate(server);
    }
    pthread_mutex_init(&server->mutex, NULL);
    server->handler = handler;
    server->baton = baton;
    if (kind == SERVER_UNIX) {
        server_listen_unix(server);
    }
    else {
        server_listen(server);
    }
    pthread_create(&server->thread, NULL, server_accept, server);
    return server;
}

SERVER_UNUSED static server_t *server_start(server_handler_fn *handler, void *baton)
{
    return server_start_kind(SERVER_TLS, handler, baton);
}

SERVER_UNUSED static void server_stop(server_t *server)
{
    int i;

    pthread_mutex_lock(&server->mutex);
    server->stopping = 1;
    shutdown(server->fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->mutex);
    pthread_join(server->thread, NULL);
    pthread_mutex_lock(&server->mutex);
    for (i = 0; i < server->accepts; i++) {
        if (server->fds[i] >= 0) {
            shutdown(server->fds[i], SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&server->mutex);
    for (i = 0; i < server->accepts; i++) {
        pthread_join(server->threads[i], NULL);
    }
    close(server->fd);
    SSL_CTX_free(server->ctx);
    pthread_mutex_destroy(&server->mutex);
    scratch_remove(server->dir);
    free(server);
}

#endif
