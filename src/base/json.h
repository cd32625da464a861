/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file base/json.h
 * JSON as ACME and our own records need it, on jansson: typed look-ups that
 * take a missing or wrongly typed member as missing (faults 11 and 42 of the
 * CAs: empty or null meta, unknown members). Any thread; nothing blocks.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <apr_pools.h>
#include <jansson.h>

/** Parse len bytes that must be one JSON object; trailing blanks allowed,
 * duplicate members taken as the last one, a NUL byte within a string refused.
 * @return the object, given back when the pool ends, or NULL */
json_t *base_json_parse_object(const char *data, apr_size_t len, apr_pool_t *pool);

/** Member lookups; obj may be NULL. The string lives as long as obj. */
const char *base_json_string(const json_t *obj, const char *key);
json_t *base_json_object(const json_t *obj, const char *key);
json_t *base_json_array(const json_t *obj, const char *key);
/** @return fallback when missing or not an integer or out of the range of int64 */
json_int_t base_json_integer(const json_t *obj, const char *key, json_int_t fallback);
/** @return non-zero only for the literal true */
int base_json_true(const json_t *obj, const char *key);

/** Compact text of a value, in the pool; takes over the caller's reference
 * ("steals" it), also when it fails and returns NULL. */
const char *base_json_dump(json_t *value, apr_pool_t *pool);

#endif
