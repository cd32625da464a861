/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include "base/json.h"

#include <stdlib.h>

#include <apr_strings.h>

#define EXACT_REAL_MAX 9007199254740992.0   /* 2^53: integers are exact in a double below it */

static apr_status_t release_object(void *baton)
{
    json_decref(baton);
    return APR_SUCCESS;
}

json_t *base_json_parse_object(const char *data, apr_size_t len, apr_pool_t *pool)
{
    json_error_t error;
    json_t *value;

    if (!data)
        return NULL;
    value = json_loadb(data, len, 0, &error);
    /* One number beyond 64 bits, in a member nobody asks for, is no reason to
     * lose the rest. */
    if (!value && json_error_code(&error) == json_error_numeric_overflow)
        value = json_loadb(data, len, JSON_DECODE_INT_AS_REAL, &error);
    if (!json_is_object(value)) {
        json_decref(value);
        return NULL;
    }
    apr_pool_cleanup_register(pool, value, release_object, apr_pool_cleanup_null);
    return value;
}

const char *base_json_string(const json_t *obj, const char *key)
{
    return json_string_value(json_object_get(obj, key));
}

json_t *base_json_object(const json_t *obj, const char *key)
{
    json_t *value = json_object_get(obj, key);

    return json_is_object(value) ? value : NULL;
}

json_t *base_json_array(const json_t *obj, const char *key)
{
    json_t *value = json_object_get(obj, key);

    return json_is_array(value) ? value : NULL;
}

json_int_t base_json_integer(const json_t *obj, const char *key, json_int_t fallback)
{
    const json_t *value = json_object_get(obj, key);
    double real;

    if (json_is_integer(value))
        return json_integer_value(value);
    if (!json_is_real(value))
        return fallback;
    /* An integer read by the second way above. */
    real = json_real_value(value);
    if (!(real > -EXACT_REAL_MAX && real < EXACT_REAL_MAX) || (double)(json_int_t)real != real)
        return fallback;
    return (json_int_t)real;
}

int base_json_true(const json_t *obj, const char *key)
{
    return json_is_true(json_object_get(obj, key));
}

const char *base_json_dump(json_t *value, apr_pool_t *pool)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    const char *copy = text ? apr_pstrdup(pool, text) : NULL;

    free(text);
    json_decref(value);
    return copy;
}
