/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A TLS client of the benchmarks: full handshakes on loopback that verify chain and name, each on a
 * connection of its own that ends without a request.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <netinet/in.h>

#include <openssl/ssl.h>

#define CLIENT_SERIAL_SIZE 48   /* hexadecimal, at most 20 bytes, and the end */

typedef struct client_t {
    SSL_CTX *ctx;
    struct sockaddr_in address;
} client_t;

typedef struct client_seen_t {
    double seconds;                     /* from before connect() to the end of the handshake */
    int alert;                          /* number of the alert that ended it; -1: none */
    char serial[CLIENT_SERIAL_SIZE];    /* of the certificate */
} client_seen_t;

/** Prepare handshakes with a port of 127.0.0.1. @param version TLS1_2_VERSION or TLS1_3_VERSION, 0: either
 * @return 0 with a line on stderr, 1 */
int client_open(client_t *client, const char *port, int version, const char *cafile);

/** One handshake; any number of threads may call it. Returns when the server has closed the connection.
 * @param seen all that is known, also after a failure
 * @return 0: failed, and OpenSSL's error queue says why (it is empty when there was no connection), or 1 */
int client_shake(const client_t *client, const char *name, client_seen_t *seen);

/** Free what client_open() made. */
void client_close(client_t *client);

/** Seconds of the clock that never goes back. */
double client_now(void);

#endif
