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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "client.h"

#define COUNT_MAX 10000000
#define NAME_SIZE 64

static int shake_all(const client_t *client, const char *name, long count)
{
    char numbered[NAME_SIZE];
    client_seen_t seen;

    for (long i = 0; i < count; i++) {
        snprintf(numbered, sizeof(numbered), "host%05ld.example.test", i);
        if (!client_shake(client, name ? name : numbered, &seen)) {
            ERR_print_errors_fp(stderr);
            fprintf(stderr, "handshake %ld of %ld failed\n", i + 1, count);
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv)
{
    client_t client;
    double start;
    long count;
    int version, done;

    if (argc != 6) {
        fprintf(stderr, "usage: %s PORT NAME 1.2|1.3 COUNT CAFILE\n", argv[0]);
        return 2;
    }
    count = strtol(argv[4], NULL, 10);
    if (count < 1 || count > COUNT_MAX) {
        fprintf(stderr, "%s: no such count\n", argv[0]);
        return 2;
    }
    version = strcmp(argv[3], "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
    if (!client_open(&client, argv[1], version, argv[5]))
        return 1;
    start = client_now();
    done = shake_all(&client, strcmp(argv[2], "-") == 0 ? NULL : argv[2], count);
    if (done)
        printf("%.6f\n", client_now() - start);
    client_close(&client);
    return !done;
}
