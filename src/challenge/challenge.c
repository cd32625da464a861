/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "challenge/challenge.h"

#include <string.h>

#include <apr_strings.h>

#include "challenge/dns01.h"
#include "challenge/dnspersist01.h"
#include "challenge/http01.h"
#include "challenge/tlsalpn01.h"

static const challenge_kind_t *const kinds[] = {
    &challenge_tlsalpn01, &challenge_http01, &challenge_dns01, &challenge_dnspersist01
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

const challenge_kind_t *challenge_find(const char *type)
{
    for (size_t i = 0; type && i < KINDS; i++) {
        if (strcmp(kinds[i]->type, type) == 0) {
            return kinds[i];
        }
    }
    return NULL;
}

const char *challenge_types(apr_pool_t *pool)
{
    const char *list = kinds[0]->type;

    for (size_t i = 1; i < KINDS; i++) {
        list = apr_pstrcat(pool, list, ", ", kinds[i]->type, NULL);
    }
    return list;
}
