/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache.h"
#include "challenge/http01.h"

#define SUFFIX "+http-01"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* A request path: whatever is taken for a token makes a key that the cache accepts. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *path = malloc(size + 1);
    const char *token;

    if (!path) {
        return 0;
    }
    if (size) {
        memcpy(path, data, size);
    }
    path[size] = '\0';
    token = challenge_http01_token(path);
    if (token) {
        char key[CHALLENGE_HTTP01_TOKEN_MAX + sizeof(SUFFIX)];

        if (token <= path || strlen(token) > CHALLENGE_HTTP01_TOKEN_MAX) {
            abort();
        }
        memcpy(key, token, strlen(token));
        memcpy(key + strlen(token), SUFFIX, sizeof(SUFFIX));
        if (!cache_key_is_valid(key)) {
            abort();
        }
    }
    (void)cache_key_is_valid(path);
    free(path);
    return 0;
}
