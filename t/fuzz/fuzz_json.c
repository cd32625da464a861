/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/* A problem document (RFC 7807) or another object of a CA, read as ACME code does. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <apr_general.h>

#include "base/error.h"
#include "base/json.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void read_object(const json_t *object, apr_pool_t *pool)
{
    const char *detail = base_json_string(object, "detail");
    json_t *problems = base_json_array(object, "subproblems");
    base_error_t err;
    size_t i;

    base_error_set(&err, BASE_ERROR_OPERATOR, APR_EGENERAL, "%s", detail ? detail : "");
    base_error_copy_text(err.type, sizeof(err.type), base_json_string(object, "type"));
    /* JSON strings are UTF-8, so cutting must not have made them anything else. */
    if (!base_json_dump(json_pack("{s:s,s:s}", "d", err.detail, "t", err.type), pool))
        abort();
    base_json_integer(object, "status", 0);
    base_json_true(object, "termsOfServiceAgreed");
    for (i = 0; i < json_array_size(problems); i++)
        base_json_string(base_json_object(json_array_get(problems, i), "identifier"), "value");
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    apr_pool_t *pool = NULL;
    const char *text;
    json_t *object;

    apr_initialize();
    apr_pool_create(&pool, NULL);
    object = base_json_parse_object((const char *)data, size, pool);
    if (object) {
        read_object(object, pool);
        text = base_json_dump(json_incref(object), pool);
        if (!text || !base_json_parse_object(text, strlen(text), pool))
            abort();
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
