/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Full TLS handshakes, one after another, each on a connection of its own that
 * ends without a request; every one verifies chain and name.
 *
 *     bench_handshakes PORT NAME 1.2|1.3 COUNT CAFILE
 *
 * With "-" as NAME the names are those of bench_fill, one after another. Prints the
 * seconds it took. Any failure ends it with status 1.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define STEP_SECONDS 30     /* longest wait for one answer */
#define COUNT_MAX 10000000
#define NAME_SIZE 64

typedef struct client_t {
    SSL_CTX *ctx;
    const char *name;           /* NULL: each handshake has its own */
    struct sockaddr_in address;
} client_t;

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static SSL_CTX *make_ctx(const char *tls, const char *cafile)
{
    int version = strcmp(tls, "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (ctx == NULL || !SSL_CTX_set_min_proto_version(ctx, version)
        || !SSL_CTX_set_max_proto_version(ctx, version)
        || !SSL_CTX_load_verify_locations(ctx, cafile, NULL)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    return ctx;
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

/* The server is done with a connection when it has closed it: only then is all of its work for it
 * counted, and a client that reads to the end never resets it. */
static int shake_hands(const client_t *client, const char *name)
{
    char byte[256];
    int fd = open_socket(client);
    SSL *ssl = NULL;
    int done = 0;

    if (fd < 0) {
        fprintf(stderr, "connect: %s\n", strerror(errno));
        return 0;
    }
    ssl = SSL_new(client->ctx);
    if (ssl == NULL || !SSL_set_fd(ssl, fd) || !SSL_set_tlsext_host_name(ssl, name)
        || !SSL_set1_host(ssl, name) || SSL_connect(ssl) != 1 || SSL_session_reused(ssl)) {
        ERR_print_errors_fp(stderr);
        goto end;
    }
    SSL_shutdown(ssl);
    while (SSL_read(ssl, byte, sizeof(byte)) > 0)
        continue;
    done = 1;
end:
    ERR_clear_error();
    SSL_free(ssl);
    close(fd);
    return done;
}

static int shake_all(const client_t *client, long count)
{
    char name[NAME_SIZE];

    for (long i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "host%05ld.example.test", i);
        if (!shake_hands(client, client->name ? client->name : name)) {
            fprintf(stderr, "handshake %ld of %ld failed\n", i + 1, count);
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    client_t client = {0};
    double start;
    long count;
    long port;

    if (argc != 6) {
        fprintf(stderr, "usage: %s PORT NAME 1.2|1.3 COUNT CAFILE\n", argv[0]);
        return 2;
    }
    port = strtol(argv[1], NULL, 10);
    count = strtol(argv[4], NULL, 10);
    if (port < 1 || port > 65535 || count < 1 || count > COUNT_MAX) {
        fprintf(stderr, "%s: no such port or count\n", argv[0]);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    client.name = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    client.address.sin_family = AF_INET;
    client.address.sin_port = htons((unsigned short)port);
    client.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client.ctx = make_ctx(argv[3], argv[5]);
    if (client.ctx == NULL) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    start = now_seconds();
    if (!shake_all(&client, count)) {
        SSL_CTX_free(client.ctx);
        return 1;
    }
    printf("%.6f\n", now_seconds() - start);
    SSL_CTX_free(client.ctx);
    return 0;
}
